"""The result of a study written where the study lies: README.md, one figure, results.parquet - to be committed."""

from __future__ import annotations

from pathlib import Path

from recsys_lab.report.study.page import Page
from recsys_lab.report.text import as_markdown
from recsys_lab.study.files import write_text
from recsys_lab.study.results import StudyResults, write_table

MARK = "<!-- below: written by `recsys-lab study report --readme`; write above this line -->"


def write_readme(results: StudyResults, page: Page, folder: Path) -> list[Path]:
    """Writes the brief report below a mark in README.md; what stands above it is kept.

    Args:
        folder: that of study.yaml. Its results.parquet and figures/ranking*.svg, order*.svg are replaced.

    Returns:
        what was written.
    """
    readme = folder / "README.md"
    above = readme.read_text(encoding="utf-8").partition(MARK)[0] if readme.is_file() else f"# {results.name}\n\n"
    figures = [figure for figure in page.figures if figure.name.startswith(("ranking", "order"))]
    written = []
    if figures:
        (folder / "figures").mkdir(exist_ok=True)
    shown = []
    for figure in figures:
        svg, png = figure.save(folder / "figures")
        png.unlink()  # one picture of each is enough to keep
        written.append(svg)
        shown += ["", f"![{figure.alt}](figures/{svg.name})"]
    _, _, body = as_markdown(results, brief=True).partition("\n")
    text = "\n".join([above.rstrip(), "", MARK, "", body.strip(), *shown, ""])
    write_text(readme, text)
    write_table(results, folder / "results.parquet")
    return [readme, folder / "results.parquet", *written]
