"""Pages of the documentation site that are not files in docs/: what the code says of itself, and pages that lie beside
what they tell of. A hook of MkDocs, named in mkdocs.yml; scripts/docs.sh builds the site.

Links between pages are those of the repository, so that they also work there. Here they become links of the site; a
link to a file that is no page becomes the file's name.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from recsys_lab.cli import COMMANDS, GROUPS, HELP, main

ROOT = Path(__file__).parent.parent
BESIDE = ("experiments/README.md", "experiments/*/README.md", "scripts/cluster/README.md", "*.md")
"""Pages outside docs/. The README is the repository's own first page and not one of the site."""
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    pages = {
        "reference/commands.md": commands_page(),
        "reference/settings.md": settings_page(),
        "reference/python.md": python_page(),
    }
    pages |= {f"reference/python/{room}.md": room_page(room) for room in rooms()}
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    for path in pages_beside():
        uri = str(path.relative_to(ROOT))
        files.append(File.generated(config, uri, content=path.read_text()))
        for figure in (*path.parent.glob("figures/*.svg"), *path.parent.glob("figures/*.png")):
            files.append(File.generated(config, str(figure.relative_to(ROOT)), abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    here = page.file.src_uri
    inside = {uri: place_in_repository(uri) for uri in files.src_uris}
    uris = {place: uri for uri, place in inside.items()}

    def linked(found: re.Match[str]) -> str:
        image, text, target, anchor = found.group(1), found.group(2), found.group(3), found.group(4) or ""
        if not target or re.match(r"[a-z]+:", target):
            return found.group(0)
        place = posixpath.normpath(posixpath.join(posixpath.dirname(inside[here]), target))
        uri = uris.get(place) or uris.get(f"{place}/README.md")
        if uri is None:
            return text if (ROOT / place).exists() else found.group(0)
        return f"{image}[{text}]({posixpath.relpath(uri, posixpath.dirname(here) or '.')}{anchor})"

    return "".join(
        part if number % 2 else LINK.sub(linked, part)
        for number, part in enumerate(re.split(r"(^ *```.*?^ *```)", markdown, flags=re.DOTALL | re.MULTILINE))
    )


def pages_beside() -> list[Path]:
    return [path for pattern in BESIDE for path in sorted(ROOT.glob(pattern)) if path != ROOT / "README.md"]


def place_in_repository(uri: str) -> str:
    """Where the source of a page lies."""
    return uri if (ROOT / uri).exists() and not (ROOT / "docs" / uri).exists() else f"docs/{uri}"


# -- what the code says of itself --------------------------------------------------------------------------------------


def printed(*words: str) -> str:
    """What a command prints, 100 columns wide."""
    out = io.StringIO()
    os.environ["COLUMNS"] = "100"
    with contextlib.redirect_stdout(out):
        main(words)
    return out.getvalue().rstrip()


def block(text: str) -> str:
    return f"```text\n{text}\n```"


def commands() -> dict[str, str]:
    """Each command as it is typed, and its line of help."""
    found = {name: text for name, (_, text) in COMMANDS.items() if name not in GROUPS}
    return found | {f"{group} {name}": text for group, below in GROUPS.items() for name, (_, text) in below.items()}


def commands_page() -> str:
    parts = ["# Commands", "What each command prints with `--help`.", block(HELP)]
    for name, text in sorted(commands().items()):
        parts += [f"## `recsys-lab {name}`", f"{text[0].upper()}{text[1:]}.", block(printed(*name.split(), "--help"))]
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    return "\n\n".join(
        [
            "# Settings of a run",
            "One YAML file is one run. Each option below is a key of that file: `--model.embedding_dim 64` is "
            "`embedding_dim: 64` under `model:`. `recsys-lab fit --print_config` prints a whole file, resolved.",
            "## The options that matter most",
            block(printed("fit", "--help")),
            "## All options",
            block(printed("fit", "--help", "all")),
        ]
    )


def rooms() -> list[str]:
    """Modules on the ground and folders of the package, as they stand under `recsys_lab.`; a large folder by its own
    folders."""
    package, found = ROOT / "recsys_lab", []
    for path in sorted(package.iterdir()):
        if path.suffix == ".py" and path.name != "__init__.py":
            found.append(path.stem)
        elif (path / "__init__.py").is_file():
            found.append(path.name)
    return found


def python_page() -> str:
    lines = ["# Python", "Each room of the package with its modules, from their docstrings.", ""]
    lines += [f"- [`recsys_lab.{room}`](python/{room}.md)" for room in rooms()]
    return "\n".join(lines) + "\n"


def room_page(room: str) -> str:
    return f"# recsys_lab.{room}\n\n::: recsys_lab.{room}\n"
