"""The results of a study as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from recsys_lab.audit.audit_text import checks_table, headline
from recsys_lab.diagnose.slices_table import render_slices
from recsys_lab.report.escapes import prose
from recsys_lab.report.table import Table, markdown, show
from recsys_lab.runs.comparison_table import evaluation_line
from recsys_lab.study.pages import tables
from recsys_lab.study.results import Block, StudyResults

COSTS = {"train_seconds": "training seconds", "parameters": "parameters"}


def as_markdown(results: StudyResults, brief: bool = False) -> str:
    """The whole report but for its figures; `brief` is for a README: the answer, warnings, rankings and effects."""
    lines = [f"# {prose(results.name)}", ""]
    lines += [prose(results.question), ""] if results.question else []
    lines += [f"**{prose(results.answer.sentence)}**", ""]
    lines += [*(f"- {prose(line)}" for line in results.answer.findings), ""] if results.answer.findings else []
    lines += [*_cautions(results), prose(_facts(results)), ""]
    for block in results.blocks:
        lines += _block(block, results, brief)
    if results.published:
        lines += ["## Published numbers beside ours", "", *_table(tables.published(results)), tables.PUBLISHED, ""]
    if results.orders:
        lines += ["## Order of the variants across blocks", "", *_table(tables.orders(results))]
        lines += [*_flips(results), ORDER, ""]
    for diagram in results.critical_differences:
        lines += [
            f"## Mean ranks over data sets: {prose(diagram.protocol)}",
            "",
            *_table(tables.mean_ranks(diagram)),
        ]
        lines += [
            f"{diagram.metric}@{results.cutoff}, {diagram.count} data sets; critical difference "
            f"{diagram.critical_difference:.2f} (Nemenyi), Friedman p {show(diagram.p_value or 0.0, 'p')}. "
            f"{diagram.note}".strip(),
            "",
        ]
    lines += ["## How to read this", "", *(f"- {line}" for line in [*tables.legend(results), results.multiplicity]), ""]
    if not brief:
        lines += [*_provenance(results)]
    return "\n".join(lines).rstrip() + "\n"


ORDER = (
    "tau: Kendall's tau-b between the two orders (1: the same). tau of seeds: between two seeds of the same block, "
    "what training alone does to the order. Only pairs that differ significantly in both blocks can show that the "
    "order changed."
)


def _cautions(results: StudyResults) -> Iterator[str]:
    if results.cautions:
        yield "## Before believing it"
        yield ""
        for caution in results.cautions:
            yield f"- {'**warning**: ' if caution.severity == 'warning' else ''}{prose(caution.text)}"
        yield ""


def _facts(results: StudyResults) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(results.states.items()))
    commits = ", ".join(commit[:10] for commit in results.commits[:3]) or "unknown"
    more = f" and {len(results.commits) - 3} more" if len(results.commits) > 3 else ""
    return (
        f"{results.planned} runs planned ({states}); epochs picked by {results.select}; commit {commits}{more}; "
        f"written {results.generated}."
    )


def _block(block: Block, results: StudyResults, brief: bool) -> Iterator[str]:
    yield from [f"## {prose(block.title)}", "", prose(evaluation_line(block.evaluation)), ""]
    yield from _table(tables.ranking(block))
    for axis in tables.axes_of(block):
        yield from [f"### Effect of {prose(axis)}", ""]
        yield from _table(tables.effects(block, [axis]))
    if brief:
        return
    for one in block.fronts:
        if one.points:
            yield from [f"### Best for the {COSTS.get(one.cost, one.cost)} spent", ""]
            yield from _table(tables.front(one, results))
    if block.slices is not None:
        yield from ["### Where it comes from", "", render_slices(block.slices, "markdown"), ""]
    if block.calibration:
        yield from ["### Calibration", ""]
        yield from _table(tables.calibration(block))
    yield from _audit(block)
    yield from [f"- {prose(note)}" for note in block.notes] + [""] * bool(block.notes)


def _table(table: Table) -> Iterator[str]:
    shown = table.without(tables.NOT_IN_TEXT).first(tables.MOST_ROWS)
    if shown.rows:
        yield from [markdown(shown), ""]
    if shown.note:
        yield from [f"({shown.note})", ""]


def _audit(block: Block) -> Iterator[str]:
    audit = block.audit
    if audit.content is not None:
        yield from ["### Audit of the data", "", prose(headline(audit.content)), ""]
        yield from _table(checks_table(audit.content))
    if audit.note:
        yield from [f"Audit: {prose(audit.note)}.", ""]


def _flips(results: StudyResults) -> Iterator[str]:
    titles = {block.key: block.title for block in results.blocks}
    for one in results.orders:
        for flip in one.flips:
            if flip.is_significant:
                yield prose(
                    f"- {flip.first} is significantly better than {flip.second} on {titles[one.a]} "
                    f"({flip.difference_a:+.4f}) and significantly worse on {titles[one.b]} ({flip.difference_b:+.4f})"
                )
    yield ""


def _provenance(results: StudyResults) -> Iterator[str]:
    finished = [record for record in results.records if record.state == "finished"]
    yield from ["## Where each number comes from", "", f"{len(finished)} runs; all of them are in results.parquet.", ""]
    versions = {str(record.manifest.get("versions")): record.manifest.get("versions") for record in finished}
    for known in versions.values():
        if isinstance(known, dict):
            yield "- " + ", ".join(f"{name} {version}" for name, version in known.items())
    yield from ["", "<details><summary>commands, commits and hashes</summary>", ""]
    for block in results.blocks:
        yield from [prose(block.title), "", markdown(tables.provenance(block.records).without(tables.NOT_IN_TEXT)), ""]
    yield "</details>"
