"""A shuffle diagnosis as text and as Markdown."""

from __future__ import annotations

import math
from typing import Any

from recsys_lab.audit.audit_text import rule_text
from recsys_lab.models.checkpoint import other_training_note
from recsys_lab.report.escapes import prose
from recsys_lab.report.shown_columns import ALL, Shown, fitted
from recsys_lab.report.table import Column, Table, markdown
from recsys_lab.words import number_of

READING = (
    "change: shuffled / original - 1. Near 0 %, the model does as well without the order of events: it learnt none, or "
    "the data has none. Near -100 %, nothing of the score is left without it.",
    "Jaccard: items in both lists / items in either. The lists can change where the score does not: 1 = order plays no "
    "part at all, near 0 = other lists altogether.",
    "all_but_last: the most recent event keeps its place. A small change here beside a large one in `all`: the model "
    "reads the last event and little else of the order.",
)


def as_text(found: dict[str, Any], shown: Shown = ALL) -> str:
    """For the terminal. `found` is what shuffle.json holds."""
    return "\n".join([title(found), "", fitted(kinds_table(found), shown), "", *sentences(found), "", *notes(found)])


def as_markdown(found: dict[str, Any]) -> str:
    said, read = sentences(found), [*READING, *notes(found)]
    lines = [
        f"# {prose(title(found))}",
        "",
        markdown(kinds_table(found)),
        "",
        *(f"* {prose(line)}" for line in said),
    ]
    return "\n".join([*lines, "", "How to read it:", "", *(f"* {prose(line)}" for line in read)]) + "\n"


def title(found: dict[str, Any]) -> str:
    run, evaluation = found["run"], found["evaluation"]
    return (
        f"{run['model']} on {evaluation['dataset']}: {found['targets']:,} {found['stage']} targets, histories shuffled"
    )


def kinds_table(found: dict[str, Any]) -> Table:
    metric, kinds = f"{found['metric']}@{found['cutoff']}", found["kinds"]

    def overlap(kind: str) -> tuple[float, ...]:
        return kinds[kind]["jaccard"], *kinds[kind]["jaccard_interval"]

    columns = [
        Column("shuffled", value=lambda kind: kind),
        Column(f"{metric} original", ".4f", value=lambda kind: kinds[kind]["original"]),
        Column("after", ".4f", value=lambda kind: (kinds[kind]["shuffled"], None, None, kinds[kind]["seed_deviation"])),
        Column("change", "+.1%", value=lambda kind: (kinds[kind]["change"], *kinds[kind]["change_interval"])),
        Column(f"Jaccard@{found['cutoff']}", ".3f", value=overlap, spare=1),
        Column("seeds", "d", value=lambda kind: len(kinds[kind]["per_seed"]), spare=1),
    ]
    return Table(columns, list(kinds))


def sentences(found: dict[str, Any]) -> list[str]:
    """What the numbers say, and the order statistics of the data itself."""
    lines = [f"{rule['n']}-gram rules in the data: {rule_text(rule)}" for rule in found["order_rules"]]
    whole, last = found["kinds"].get("all"), found["kinds"].get("all_but_last")
    if whole and last and whole["change_interval"][1] < 0:
        back = 1 - last["change"] / whole["change"]
        lines.append(f"of what `all` costs, {100 * back:.0f} % comes back when the most recent event keeps its place")
    if whole and whole["change_interval"][0] <= 0 <= whole["change_interval"][1]:
        lines.append("the interval of `all` contains 0: no sign that this model gains from the order of events")
    if whole and math.isnan(whole["change"]):
        lines.append("the metric is 0 in the original order: there is no relative change")
    return lines


def notes(found: dict[str, Any]) -> list[str]:
    longer, window = found["longer_than_window"], found["max_length"]
    notes = [
        "[low, high]: 95 % interval over users, paired: delta method on each user's value before and mean over seeds "
        "after; sd: over seeds",
        f"rules: runs of items that occur more than {found['order_rules'][0]['support_above']} times and follow from "
        "all but their last item in more than a tenth of the cases, in the whole log",
    ]
    if found["scope"] == "history" and longer:
        notes.append(
            f"{100 * longer:.1f} % of the histories are longer than the window of {window} events: a shuffle also "
            "changes which events the model sees; --scope window shuffles only those in the window"
        )
    if found["scope"] == "window":
        notes.append(f"only the newest {window} events of each history were shuffled (--scope window)")
    for kind, of in found["kinds"].items():
        if of["nothing_to_shuffle"]:
            share = 100 * of["nothing_to_shuffle"]
            notes.append(
                f"{kind}: {share:.1f} % of the histories are too short to be shuffled; they count as unchanged"
            )
    if found["trained_on"]:
        notes.insert(0, other_training_note(found["trained_on"]))
    if found["interrupted"]:
        notes.append(f"interrupted: fewer than the {number_of(found['seeds'], 'seed')} asked for")
    return notes
