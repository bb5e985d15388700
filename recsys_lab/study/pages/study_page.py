"""The page of a study: sections of tables and figures, in one HTML file that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_lab.report.page import Page
from recsys_lab.study.pages.sections import make_sections
from recsys_lab.study.results import StudyResults
from recsys_lab.study.results.block import SLICES
from recsys_lab.words import number_of

if TYPE_CHECKING:
    from recsys_lab.study.tune.results import TuningResults


def study_page(results: StudyResults, tuning: TuningResults | None = None) -> Page:
    """The report of a study as one HTML page.

    Args:
        tuning: what `study tune` found, where it was run.
    """
    answer = results.answer
    code = f", code {', '.join(commit[:10] for commit in results.commits)}" if results.commits else ""
    return Page(
        "Study",
        results.name,
        results.question or results.name,
        answer.sentence,
        make_sections(results, tuning),
        f"Made {results.generated} from run folders of {results.file}{code}. Every number can be computed again from "
        "results.parquet and the runs' ranks.parquet.",
        findings=[line for line in answer.findings if line != answer.sentence],
        protocol=_protocol(results),
        method=results.multiplicity,
        cautions=_cautions(results),
        is_live=True,
    )


def _protocol(results: StudyResults) -> str:
    finished = results.states.get("finished", 0)
    splits = sorted({block.split for block in results.blocks})
    seeds = sorted(
        {seed for block in results.blocks for line in block.lines for seed in line.seeds if seed is not None}
    )
    parts = [
        f"{results.decided_by}, full ranking",
        f"split {', '.join(splits)}",
        f"{number_of(len(results.blocks), 'block')} of comparable runs",
        f"{finished} of {results.planned} planned runs finished",
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}",
        f"epochs chosen by {results.select}",
    ]
    return " · ".join(parts)


def _cautions(results: StudyResults) -> list[tuple[str, str, str]]:
    """With the block, in a study of several whose texts do not name it themselves."""
    titles = {block.key: block.title for block in results.blocks} if len(results.blocks) > 1 else {}
    found: list[tuple[str, str, str]] = []
    for one in results.cautions:
        title = titles.get(one.block, "")
        found.append((one.severity, "" if one.text.startswith(title) else title, one.text))
    for block in results.blocks:
        if block.slices is None:  # there is no section that says so
            found += [("note", titles.get(block.key, ""), note) for note in block.notes if note.startswith(SLICES)]
    return found
