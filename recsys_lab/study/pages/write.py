"""All files of a study's report."""

from __future__ import annotations

from pathlib import Path

from recsys_lab.report.page import Page
from recsys_lab.runs.run_files import write_texts
from recsys_lab.study.pages.latex import as_latex
from recsys_lab.study.pages.markdown import as_markdown
from recsys_lab.study.results import StudyResults, write_table


def write_report(results: StudyResults, page: Page, output: Path, with_figures: bool = True) -> list[Path]:
    """Writes report.html, report.md, report.tex, results.parquet, and figures/*.svg and *.png.

    Args:
        page: of `study_page`.
        output: folder; made where it is missing, files of the same names in it are replaced.
        with_figures: also as files, for papers; the page has them anyway.

    Returns:
        what was written; figures last.
    """
    texts = {"report.html": page.html, "report.md": as_markdown(results), "report.tex": as_latex(results)}
    write_texts(output, texts)
    write_table(results, output / "results.parquet")
    written = [output / name for name in (*texts, "results.parquet")]
    if with_figures:
        folder = output / "figures"
        folder.mkdir(exist_ok=True)
        for figure in page.figures:
            written += figure.save(folder)
    return written
