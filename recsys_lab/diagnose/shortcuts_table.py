"""A diagnosis of shortcuts as text and as Markdown."""

from __future__ import annotations

from typing import Any

from recsys_lab.models.checkpoint import other_training_note
from recsys_lab.report.escapes import prose
from recsys_lab.report.table import Column, Table, markdown, text

READING = (
    "rings: how many transitions of the training part lie between the last item and the target. Where most targets are "
    "in a small ring 1, counting finds them.",
    "cosine: of the vectors of the last item and the target, beside an item drawn by its training events. 50 % more "
    "similar than chance: the vectors say nothing of the next item.",
    "history: the metric of this model where it sees only the newest events. Where 1 or 2 events leave nearly all, "
    "these targets do not ask for long histories, or this model does not use them.",
)


def as_text(found: dict[str, Any]) -> str:
    """For the terminal. `found` is what shortcuts.json holds."""
    parts = [_title(found), "", *_branching(found), "", text(_rings(found)), "", *_smoothness(found), ""]
    return "\n".join([*parts, text(_history(found)), "", *_notes(found)])


def as_markdown(found: dict[str, Any]) -> str:
    lines = [f"# {prose(_title(found))}", "", *(f"* {prose(line)}" for line in _branching(found)), ""]
    lines += [markdown(_rings(found)), "", *(f"* {prose(line)}" for line in _smoothness(found)), ""]
    lines += [markdown(_history(found)), "", "How to read it:", ""]
    return "\n".join([*lines, *(f"* {prose(line)}" for line in (*READING, *_notes(found)))]) + "\n"


def _title(found: dict[str, Any]) -> str:
    run, evaluation = found["run"], found["evaluation"]
    return f"{run['model']} on {evaluation['dataset']}: shortcuts to {found['targets']:,} {found['stage']} targets"


def _branching(found: dict[str, Any]) -> list[str]:
    of = found["branching"]
    return [
        f"branching, over {of['transitions']:,} transitions: what follows an item is as uncertain as "
        f"{of['successors']:.1f} equally likely items; {of['successors_shuffled']:.1f} where the events are shuffled"
    ]


def _rings(found: dict[str, Any]) -> Table:
    of = found["branching"]
    shares, sizes = [*of["rings"], 1 - sum(of["rings"])], [*of["ring_sizes"], 1 - sum(of["ring_sizes"])]
    rows = [(str(ring), *both) for ring, both in enumerate(zip(shares, sizes, strict=True), start=1)]
    rows[-1] = ("beyond", *rows[-1][1:])
    columns = [
        Column("ring", value=lambda row: row[0]),
        Column("targets", ".1%", value=lambda row: row[1]),
        Column("items", ".1%", "mean over the targets", lambda row: row[2]),
    ]
    return Table(columns, rows)


def _smoothness(found: dict[str, Any]) -> list[str]:
    of = found["smoothness"]
    if of is None:
        return [f"smoothness of steps: vectors: {found['vectors']}"]
    if not of["targets"]:
        return ["smoothness of steps: no target has a vector, and its last item too"]
    (step, *of_step), (chance, *_) = of["cosine"], of["cosine_of_chance"]
    above, low, high = of["more_similar_than_chance"]
    return [
        f"smoothness of steps, by {found['vectors']}, over {of['targets']:,} targets: cosine {step:.3f} "
        f"[{of_step[0]:.3f}, {of_step[1]:.3f}], of chance {chance:.3f}; the target is more similar than chance in "
        f"{above:.1%} [{low:.1%}, {high:.1%}]"
    ]


def _history(found: dict[str, Any]) -> Table:
    columns = [
        Column("newest events", "d", value=lambda row: row["newest"]),
        Column(f"{found['metric']}@{found['cutoff']}", ".4f", value=lambda row: row["value"]),
        Column("of the whole window", ".1%", value=lambda row: tuple(row["share"])),
    ]
    return Table(columns, found["history"])


def _notes(found: dict[str, Any]) -> list[str]:
    notes = ["[low, high]: 95 % interval over users; of the whole window: delta method, paired by user"]
    if found["evaluation"]["exclude_seen"] == "window":
        notes.append("--data.exclude_seen window: with fewer events in the window, fewer items are hidden")
    return [other_training_note(found["trained_on"]), *notes] if found["trained_on"] else notes
