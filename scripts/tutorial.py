#!/usr/bin/env python3
"""Runs docs/tutorial.ipynb and makes docs/tutorial.md of it, so that the page shows what its commands printed.

    scripts/tutorial.py          runs the notebook in an empty folder and writes notebook, page and pictures
    scripts/tutorial.py --page   makes the page and the pictures anew from the outputs that the notebook holds

It needs no Jupyter: cells that begin with %%bash are run by bash, others by Python; what the last expression of a cell
gives is its picture where it is a chart of altair. In Jupyter the same notebook runs as it stands.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK, PAGE, PICTURES = ROOT / "docs" / "tutorial.ipynb", ROOT / "docs" / "tutorial.md", ROOT / "docs" / "tutorial"
BASH = "%%bash\n"
NOTE = "<!-- made by scripts/tutorial.py from docs/tutorial.ipynb: change that -->\n"
SVG = "image/svg+xml"
COLUMNS = "110"


def read(path: Path = NOTEBOOK) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def execute(notebook: dict[str, Any], folder: Path, change: Callable[[str], str] = str) -> list[str]:
    """Runs all cells in `folder`, and keeps in each what it printed and drew.

    Args:
        change: made to the source of each cell before it runs; the notebook keeps the source as it is.

    Returns:
        what each cell of code printed.

    Raises:
        RuntimeError: for a command that fails, with its error output.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
    ):
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for number, cell in enumerate(cells, 1):
            source = change("".join(cell["source"]))
            if source.startswith(BASH):
                text, value = _bash(source.removeprefix(BASH)), None
            else:
                text, value = _python(source, names)
            text = text.replace(f"{folder.resolve()}/", "")
            cell["execution_count"], cell["outputs"] = number, _outputs(text, value, number)
            printed.append(text)
    return printed


def _bash(source: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": COLUMNS}
    done = subprocess.run(["bash", "-ec", source], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{source}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _python(source: str, names: dict[str, Any]) -> tuple[str, Any]:
    """What it printed, and the value of its last line where that is an expression."""
    tree, value, said = ast.parse(source), None, io.StringIO()
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(said):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return said.getvalue(), value


def _outputs(text: str, value: Any, number: int) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = []
    if text:
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    if value is None:
        return outputs
    data = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "to_dict"):
        import vl_convert

        svg = vl_convert.vegalite_to_svg(value.to_dict(), config={"background": "white"})
        data = {SVG: svg.splitlines(keepends=True), "text/plain": ["a chart"]}
    result = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}
    return [*outputs, result]


def page(notebook: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The page as Markdown, and its pictures: file name -> SVG."""
    parts, pictures = [], dict[str, str]()
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        language = "bash" if source.startswith(BASH) else "python"
        parts.append(f"```{language}\n{source.removeprefix(BASH).rstrip()}\n```")
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                lines = "".join(output["text"]).rstrip().splitlines()
                parts.append("\n".join(["```text", *(line.rstrip() for line in lines), "```"]))
            elif SVG in output["data"]:
                name, alt = cell["metadata"]["picture"], cell["metadata"]["alt"]
                pictures[f"{name}.svg"] = "".join(output["data"][SVG])
                parts.append(f"![{alt}](tutorial/{name}.svg)")
    head, *rest = parts
    title, _, below = head.partition("\n")
    return "\n\n".join([f"{title}\n\n{NOTE.strip()}\n{below}".rstrip(), *rest]) + "\n", pictures


def write(notebook: dict[str, Any]) -> None:
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text, pictures = page(notebook)
    PAGE.write_text(text, encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    for name, svg in pictures.items():
        (PICTURES / name).write_text(svg, encoding="utf-8")


def main(words: list[str]) -> None:
    if words not in ([], ["--page"]):
        print(__doc__)
        sys.exit(0 if words[0] in ("-h", "--help") else 2)
    notebook = read()
    if not words:
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
    write(notebook)


if __name__ == "__main__":
    main(sys.argv[1:])
