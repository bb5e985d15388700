"""docs/tutorial.ipynb runs, and docs/tutorial.md is what it shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import tutorial  # noqa: E402


def test_the_page_is_that_of_the_notebook() -> None:
    """Else: scripts/tutorial.py --page, after a change of words; scripts/tutorial.py after one of a command."""
    notebook = tutorial.read()
    text, pictures = tutorial.page(notebook)
    assert (ROOT / "docs" / "tutorial.md").read_text() == text
    assert {path.name: path.read_text() for path in tutorial.PICTURES.iterdir()} == pictures and len(pictures) == 2
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1)), "it was run from its first cell to its last"


def test_cells_are_run_and_drawn(tmp_path: Path) -> None:
    sources = ["%%bash\necho $((6 * 7)) > n.txt; cat n.txt", "n = open('n.txt').read()\nprint(n)", "int(n) + 1"]
    chart = "import altair as alt\nalt.Chart(alt.Data(values=[{'a': 1}])).mark_point().encode(x='a:Q')"
    cells = [
        {"cell_type": "code", "source": [source], "metadata": {"picture": "p", "alt": "of a"}}
        for source in (*sources, chart)
    ]
    notebook = {"cells": [{"cell_type": "markdown", "source": ["# Title"]}, *cells]}
    assert tutorial.execute(notebook, tmp_path) == ["42\n", "42\n\n", "", ""]
    assert cells[2]["outputs"][0]["data"]["text/plain"] == ["43"]
    text, pictures = tutorial.page(notebook)
    assert "```bash\necho" in text and "```text\n42\n```" in text and "![of a](tutorial/p.svg)" in text
    assert pictures["p.svg"].startswith("<svg")
    with pytest.raises(RuntimeError, match="no-such-command"):
        tutorial.execute({"cells": [{"cell_type": "code", "source": ["%%bash\nno-such-command"]}]}, tmp_path)


@pytest.mark.slow
def test_the_notebook_runs_from_a_log_to_a_list(tmp_path: Path) -> None:
    """With one seed: the loop is the same."""
    one_seed = {"in 0 1 2;": "in 0;", "in (0, 1, 2)": "in (0,)"}

    def change(source: str) -> str:
        for asked, given in one_seed.items():
            source = source.replace(asked, given)
        return source

    notebook = tutorial.read()
    printed = "\n".join(tutorial.execute(notebook, tmp_path, change))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert sum(source.count("recsys-lab ") for source in sources) <= 12
    assert len(list(tmp_path.glob("runs/shop/*/seed0/metrics.json"))) == 2
    assert re.search(r"^ +1  a\d+ ", printed, re.M), "a list of articles"
    assert "markov-backoff" in printed and "popularity" in printed and "is what it says" in printed
    assert len(tutorial.page(notebook)[1]) == 2, "both pictures"
