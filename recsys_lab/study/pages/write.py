"""All files of a study's report."""

from __future__ import annotations

from pathlib import Path

from recsys_lab.report.page import Page
from recsys_lab.runs.run_files import write_texts
from recsys_lab.study.pages.latex import as_latex, as_macros
from recsys_lab.study.pages.markdown import as_markdown
from recsys_lab.study.results import StudyResults, write_table
from recsys_lab.study.tune.results import TuningResults


def write_report(
    results: StudyResults, page: Page, output: Path, with_figures: bool = True, tuning: TuningResults | None = None
) -> list[Path]:
    """Writes report.html, report.md, report.tex, results.parquet, numbers.tex, and figures/*.svg and *.png.

    Args:
        page: of `study_page`.
        output: folder; made where it is missing, files of the same names in it are replaced.
        tuning: as it was given to `study_page`.
        with_figures: also as files, for papers; the page has them anyway.

    Returns:
        what was written; figures last.
    """
    texts = {
        "report.html": page.html,
        "report.md": as_markdown(results, tuning=tuning),
        "report.tex": as_latex(results),
    }
    write_texts(output, texts)
    write_table(results, output / "results.parquet")
    write_texts(output, {"numbers.tex": as_macros(results)})
    written = [output / name for name in (*texts, "results.parquet", "numbers.tex")]
    if with_figures:
        folder = output / "figures"
        folder.mkdir(exist_ok=True)
        for figure in page.figures:
            written += figure.save(folder)
    return written
