"""The results of a study as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from recsys_lab.audit.audit_text import checks_table, headline
from recsys_lab.diagnose.slices_table import render_slices
from recsys_lab.report.escapes import prose
from recsys_lab.report.table import Table, markdown
from recsys_lab.runs.comparison_table import evaluation_line
from recsys_lab.study.pages import tables
from recsys_lab.study.results import Block, OrderAgreement, StudyResults
from recsys_lab.study.tune.results import TuningResults
from recsys_lab.study.tune.tune_text import searches_table, tuning_answer
from recsys_lab.words import number_of


def as_markdown(results: StudyResults, brief: bool = False, tuning: TuningResults | None = None) -> str:
    """The whole report but for its figures; `brief` is for a README: the answer, warnings, rankings and effects.
    tuning: what `study tune` found, where it was run."""
    parts = [f"# {prose(results.name)}", prose(results.question), f"**{prose(results.answer.sentence)}**"]
    parts.append(prose(results.answer.protocol))
    parts.append(_listed(results.answer.findings))
    if results.cautions:
        marks = {"warning": "**warning**: "}
        texts = [f"- {marks.get(one.severity, '')}{prose(one.text)}" for one in results.cautions]
        parts += ["## Before believing it", "\n".join(texts)]
    parts.append(prose(_facts(results)))
    if any(block.shares for block in results.blocks):
        parts += ["## Share of the best possible score", *_table(tables.shares(results)), tables.SHARES]
    for block in results.blocks:
        parts += _block(block, results, brief)
    if results.trials:
        parts += ["## Trials", *_table(tables.trials(results)), tables.TRIALS]
    if results.published:
        parts += ["## Published numbers beside ours", *_table(tables.published(results)), tables.PUBLISHED]
    if results.orders:
        flips = [text for one in results.orders for text in _flips(one, results)]
        parts += ["## Order of the variants across blocks", *_table(tables.orders(results)), _listed(flips), ORDER]
    if tuning is not None:
        parts += ["## Tuning", prose(tuning_answer(tuning)), *_table(searches_table(tuning))]
    legend = [*tables.legend(results), results.multiplicity]
    parts += ["## How to read this", "\n".join(f"- {line}" for line in legend)]
    if not brief:
        parts += _provenance(results)
    return "\n\n".join(part for part in parts if part).rstrip() + "\n"


ORDER = (
    "tau is Kendall's tau-b between the two orders; 1 means the same order. tau of seeds is the tau between two seeds "
    "of the same data and split, so it shows how much the order changes by training alone. Only pairs that differ "
    "significantly on both can show that the order changed."
)


def _listed(texts: Iterable[str]) -> str:
    return "\n".join(f"- {prose(text)}" for text in texts)


def _facts(results: StudyResults) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(results.states.items()))
    commits = ", ".join(commit[:10] for commit in results.commits[:3]) or "unknown"
    more = f" and {len(results.commits) - 3} more" if len(results.commits) > 3 else ""
    return (
        f"{results.planned} runs are planned ({states}). The epoch of each run was chosen by {results.select}. "
        f"Commit {commits}{more}, written {results.generated}."
    )


def _block(block: Block, results: StudyResults, brief: bool) -> Iterator[str]:
    yield from [
        f"## {prose(block.title)}",
        prose(evaluation_line(block.evaluation, is_titled=True)),
        *_table(tables.ranking(block)),
    ]
    for axis in tables.axes_of(block):
        yield from [f"### Effect of {prose(axis)}", *_table(tables.effects(block, [axis]))]
    if brief:
        return
    if block.slices is not None:
        yield from ["### Where it comes from", render_slices(block.slices, "markdown")]
    if (calibration := tables.calibration(block)).rows:
        yield from ["### Calibration", *_table(calibration)]
    audit = block.audit
    if audit.content is not None:
        yield from ["### Audit of the data", prose(headline(audit.content)), *_table(checks_table(audit.content))]
    yield f"Audit: {prose(audit.note)}." if audit.note else ""
    yield _listed(block.notes)


def _table(table: Table) -> Iterator[str]:
    shown = table.without(tables.NOT_IN_TEXT).first(tables.MOST_ROWS)
    yield markdown(shown) if shown.rows else ""
    yield f"({shown.note})" if shown.note else ""


def _flips(order: OrderAgreement, results: StudyResults) -> Iterator[str]:
    titles = {block.key: block.title for block in results.blocks}
    for flip in order.flips:
        if flip.is_significant:
            yield (
                f"{flip.first} is significantly better than {flip.second} on {titles[order.a]} "
                f"({flip.difference_a:+.4f}) and significantly worse on {titles[order.b]} ({flip.difference_b:+.4f})"
            )


def _provenance(results: StudyResults) -> Iterator[str]:
    finished = [record for record in results.records if record.state == "finished"]
    yield from ["## Where each number comes from", f"{number_of(len(finished), 'run')}; all are in results.parquet."]
    versions = {str(known): known for record in finished if isinstance(known := record.manifest.get("versions"), dict)}
    yield _listed(", ".join(f"{name} {version}" for name, version in known.items()) for known in versions.values())
    yield "<details><summary>commands, commits and hashes</summary>"
    for block in results.blocks:
        yield from [prose(block.title), markdown(tables.provenance(block.records).without(tables.NOT_IN_TEXT))]
    yield "</details>"
