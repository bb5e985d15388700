"""An explanation as text: a heat map over the history, the newest event first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from recsys_lab.report.table import Column, Table, show, text
from recsys_lab.report.terminal import wrapped
from recsys_lab.words import number_of

TITLES = {
    "attention": "attention",
    "integrated_gradients": "gradients",
    "leave_one_out": "left out",
    "removal": "removed",
}
"""Of the columns."""
READING = {
    "attention": "attention: {note}; shares of 1. It need not be what the score rests on.",
    "integrated_gradients": "gradients: integrated gradients, in nats of log-probability. Their sum, {sum:+.3f}, "
    "misses the difference to a history of random items by {gap:.1g}.",
    "leave_one_out": "left out: nats of log-probability that are lost with random items in its place (a mean).",
    "removal": "removed: nats that are lost when the event is taken away, and those before it move up.",
}
TELLING = ("leave_one_out", "integrated_gradients", "removal")
"""Of these the first that was asked for decides the sentence: docs/explain.md says why in this order."""
ROWS = 40
"""Events that the terminal shows."""
BAR = 5
"""Characters of a bar."""
READABLE = 24
"""Characters for an event's name, below which the bars give way to it."""
FULL, AGAINST = "#", "-"


def as_text(found: dict[str, Any], width: int = 80) -> str:
    """For the terminal; `found` is what `explain` gives. Lines are at most `width` wide where names can be cut."""
    used = used_methods(found)
    least = max((len(_cut(one, 0)) for one in found["events"][:ROWS]), default=0)  # of the ids, which are never cut

    def room(bars: bool) -> int:
        bare = max((len(line) for line in text(_events(found, used, 0, bars)).splitlines()), default=0)
        return max(8, width - bare + least)

    longest = max((len(named(one)) for one in found["events"][:ROWS]), default=0)
    bars = room(True) >= min(READABLE, longest)
    lines = [answer(found), "", text(_events(found, used, room(bars), bars))]
    if (more := len(found["events"]) - ROWS) > 0:
        rest = ", ".join(f"{TITLES[name]} {sum(one[name] for one in found['events'][ROWS:]):+.3f}" for name in used)
        lines.append(f"and {number_of(more, 'older event')}, together: {rest}; --json and --page have all")
    if found["fields"]:
        lines += ["", text(fields_table(found))]
    return wrapped("\n".join([*lines, "", *reading(found)]), width)


def answer(found: dict[str, Any]) -> str:
    """In a sentence."""
    item, used = found["item"], used_methods(found)
    how = f"rank {item['rank']:,} of all candidates, seen ones too, probability {show(item['probability'], '.3g').text}"
    begin = f"{named(item)}: {how}"
    telling = next((name for name in TELLING if name in used), None)
    if telling is None:
        return f"{begin}."
    by, best = f'by "{TITLES[telling]}"', max(found["events"], key=lambda one: one[telling])
    if best[telling] <= 0:
        return f"{begin}. No event speaks for it, {by}."
    ago = "the newest event" if best["ago"] == 1 else f"{best['ago']} events ago"
    return f"{begin}. What speaks most for it, {by}: {named(best)}, {ago}."


def named(one: dict[str, Any]) -> str:
    return str(one["item_id"]) if one["title"] is None else f"{one['title']} ({one['item_id']})"


def used_methods(found: dict[str, Any]) -> list[str]:
    """Those by which the model has something to say."""
    return [name for name, about in found["methods"].items() if about["events"]]


def events_table(found: dict[str, Any]) -> Table:
    """All events, with numbers. The first column heads each row, so it is a name."""
    titled = any(one["title"] is not None for one in found["events"])
    columns = [Column("title", value=lambda one: one["title"] or "")] if titled else []
    columns += [Column("item", value=lambda one: str(one["item_id"])), Column("ago", "d", "1 is the newest event")]
    return Table([*columns, *(_number(name) for name in used_methods(found))], found["events"])


def fields_table(found: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(name for of_method in found["fields"].values() for name in of_method))
    columns = [Column("part", value=lambda name: name)]
    columns += [Column(TITLES[method], "+.3f", value=values.get) for method, values in found["fields"].items()]
    return Table(columns, names, "All events together, by part")


def reading(found: dict[str, Any]) -> list[str]:
    """How to read it, and what is missing."""
    lines = []
    for name, about in found["methods"].items():
        if not about["events"]:
            lines.append(f"{TITLES[name]}: none: {about['note']}.")
            continue
        lines.append(READING[name].format(**about))
        if name != "attention" and about["note"]:
            lines.append(f"{TITLES[name]}: {about['note']}.")
    return [*lines, *(f"{note}." for note in found["notes"])]


def _events(found: dict[str, Any], used: Sequence[str], room: int, bars: bool = True) -> Table:
    """With bars, and names cut to `room` characters."""
    columns = [Column("ago", "d"), Column("event", value=lambda one: _cut(one, room))]
    for name in used:
        most = max((abs(one[name]) for one in found["events"]), default=0.0)
        columns += [_number(name), *([Column("", value=partial(_bar_of, name, most))] if bars else [])]
    return Table(columns, found["events"][:ROWS])


def _number(name: str) -> Column:
    return Column(TITLES[name], ".3f" if name == "attention" else "+.3f", value=lambda one: one[name])


def _bar_of(name: str, most: float, one: dict[str, Any]) -> str:
    """`###` for, `---` against; as long as the value is beside the largest."""
    value = one[name]
    size = round(BAR * abs(value) / most) if most > 0 else 0
    return (FULL if value > 0 else AGAINST) * size


def _cut(one: dict[str, Any], room: int) -> str:
    """The name of an event; a title that is too long is cut, and the id behind it is not."""
    name, tail = " ".join(named(one).split()), f" ({one['item_id']})"
    if len(name) <= room:
        return name
    if one["title"] is None:
        return name[: max(0, room - 2)] + ".."
    return name[: max(0, room - len(tail) - 2)] + ".." + tail
