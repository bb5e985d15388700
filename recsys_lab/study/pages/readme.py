"""The result of a study written where the study lies: README.md, one figure, results.parquet - to be committed."""

from __future__ import annotations

from pathlib import Path

from recsys_lab.report.page import Page
from recsys_lab.runs.run_files import write_text
from recsys_lab.study.pages.earlier import earlier_rows, earlier_text
from recsys_lab.study.pages.markdown import as_markdown
from recsys_lab.study.plan import Plan
from recsys_lab.study.results import StudyResults, write_table
from recsys_lab.words import titled

MARK = "<!-- below: written by `recsys-lab study report --readme`; write above this line -->"


def write_readme(results: StudyResults, page: Page, plan: Plan) -> list[Path]:
    """Writes the brief report below a mark in README.md, beside the study file; what stands above it is kept. Numbers
    of earlier runs that are not here stay, in a section that claims nothing of them.

    results.parquet and the figures are replaced: the heat map of a study of worlds, else ranking*.svg and order*.svg.

    Returns:
        what was written.
    """
    folder = plan.study.file.parent
    earlier = earlier_rows(folder, plan, {block.key for block in results.blocks})
    wanted = ("shares",) if any(block.shares for block in results.blocks) else ("ranking", "order")
    figures = [figure for figure in page.figures if figure.name.startswith(wanted)]
    written = []
    for old in (folder / "figures").glob("*.svg"):
        old.unlink()
    if figures:
        (folder / "figures").mkdir(exist_ok=True)
    shown = []
    for figure in figures:
        svg, png = figure.save(folder / "figures")
        png.unlink()  # one picture of each is enough to keep
        written.append(svg)
        shown += ["", f"![{figure.alt}](figures/{svg.name})", *(["", figure.note] if figure.note else [])]
    _, _, body = as_markdown(results, brief=True).partition("\n")
    metrics = [titled(name, results.cutoff) for name in sorted(results.metrics, key=lambda m: m != results.deciding)]
    text = "\n".join([body.strip(), *shown, "", earlier_text(earlier, metrics)])
    readme = _below_the_mark(folder, plan.study.name, text)
    write_table(results, folder / "results.parquet", earlier)
    return [readme, folder / "results.parquet", *written]


def write_earlier_readme(plan: Plan) -> Path | None:
    """README.md of a study without a finished run: the numbers of the committed results.parquet, which stays as it is.
    None where there is none."""
    folder = plan.study.file.parent
    rows = earlier_rows(folder, plan, ())
    if not len(rows):
        return None
    for old in (folder / "figures").glob("*.svg"):  # their letters and intervals are those of another rule
        old.unlink()
    text = f"{plan.study.question}\n\n" + earlier_text(rows, ("ndcg@10", "hit_rate@10", "mrr@10"))
    return _below_the_mark(folder, plan.study.name, text)


def _below_the_mark(folder: Path, name: str, text: str) -> Path:
    readme = folder / "README.md"
    above = readme.read_text(encoding="utf-8").partition(MARK)[0] if readme.is_file() else f"# {name}\n\n"
    write_text(readme, "\n".join([above.rstrip(), "", MARK, "", text.strip(), ""]))
    return readme
