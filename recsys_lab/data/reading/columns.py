"""Which column of a file means what."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from recsys_lab.data.reading.spelling import is_command_line, option
from recsys_lab.words import EVENT_TYPE, ITEM_ID, RATING, TIMESTAMP, USER_ID, RecsysLabError

ORDER = "order"
TAB = "\t"
SEPARATORS = {TAB: "tabs", ";": "semicolons", "|": "bars", ",": "commas", "::": "double colons"}
SHOWN = 30  # names of columns in a message
LABEL = "__label"
LABEL_WORDS = {
    *("label", "labels", "target", "feedback", "response", "positive", "like", "liked"),
    *("click", "clicks", "clicked", "clk", "watched", "played", "interacted"),
    *("purchase", "purchased", "bought", "converted", "conversion"),
}
"""Words in the name of a column that often says whether a row, something that was shown, became an event."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns in the user's file. None = the canonical name where the file has it, else no such column.

    Attributes:
        user: who; for session data the session. Default `user_id`.
        item: what. Default `item_id`.
        timestamp: when (default `timestamp`): unix seconds (also milli-, micro- or nanoseconds if the whole column
            is), dates or ISO 8601 text.
        event_type: what kind of event (default `event_type`): view, purchase, ...
        rating: a number (default `rating`).
        order: a number that orders the events (default `order`); it stands in for time, or breaks ties of it.
    """

    user: str | None = None
    item: str | None = None
    timestamp: str | None = None
    event_type: str | None = None
    rating: str | None = None
    order: str | None = None

    def among(self, found: Iterable[str]) -> Columns:
        """Those that another table has by the same name; the others have our names there."""
        found = set(found)
        return Columns(**{name: column if column in found else None for name, column in vars(self).items()})

    def resolve(self, found: Iterable[str], where: str) -> dict[str, str]:
        """Canonical name -> name in the file, for the columns that are there.

        Raises:
            RecsysLabError: for all columns that are missing, listing those found and suggesting the closest; for one
                column given two meanings.
        """
        found = list(found)
        named = {
            USER_ID: self.user,
            ITEM_ID: self.item,
            TIMESTAMP: self.timestamp,
            EVENT_TYPE: self.event_type,
            RATING: self.rating,
            ORDER: self.order,
        }
        resolved: dict[str, str] = {}
        for canonical, name in named.items():
            if name is None and canonical not in found and canonical not in (USER_ID, ITEM_ID):
                continue
            resolved[canonical] = name or canonical
        missing = {canonical: name for canonical, name in resolved.items() if name not in found}
        if missing:
            raise RecsysLabError(_missing(missing, found, where))
        for canonical, name in resolved.items():
            twin = next((c for c, n in resolved.items() if n == name and c != canonical), None)
            if twin is not None:
                raise RecsysLabError(f"{where}: column {name!r} is named for both {canonical} and {twin}")
        return resolved


def label_column(found: Iterable[str], resolved: Mapping[str, str]) -> str | None:
    """The first column of the file without a meaning whose name is one of a label: `label`, `is_click`, `isClicked`."""
    taken = set(resolved.values())
    return next((name for name in found if name not in taken and LABEL_WORDS & set(_words(name))), None)


def _words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").lower().split()


def _missing(missing: Mapping[str, str], found: list[str], where: str) -> str:
    mark = next((mark for mark in SEPARATORS if mark in found[0]), None) if len(found) == 1 else None
    if mark is not None:
        return (
            f"{where} has one column only, {found[0][:200]!r}: its fields seem to be separated by {SEPARATORS[mark]}. "
            f"Say so: {option('format', 'tsv') if mark == TAB else option('separator', mark)}"
        )
    if found and found[0].startswith("#"):
        return f"{where} begins with a comment, {found[0][:80]!r}: remove it, so that the names come first"
    if found and found[0].lstrip().startswith(("{", "[")):
        return f"{where} looks like JSON: {option('format', 'jsonl')}"
    if not found:
        return f"{where} has no columns"
    lower = {f.lower(): f for f in found}
    close = [difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5) for name in missing.values()]
    meant = " and ".join(dict.fromkeys(repr(lower[one[0]]) for one in close if one))
    hint = f"; did you mean {meant}?" if meant else "."
    listed = ", ".join(map(repr, found[:SHOWN])) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    names = " and ".join(f"{name!r} (for {canonical})" for canonical, name in missing.items())
    more = "s" if len(missing) > 1 else ""
    options = " and ".join(map(column_option, missing))
    return (
        f"{where} has no column{more} {names}{hint} It has: {listed}. "
        f"Name the right one{more} with {options}{_without_header(found)}"
    )


def _without_header(found: list[str]) -> str:
    """Advice where the first line looks like data: a number can't be meant as a name."""
    if not found or not any(name.lstrip("-").replace(".", "", 1).isdigit() for name in found):
        return ""
    return f", or, if the file has no header line, name its columns in their order with {option('names')}"


def column_option(canonical: str, name: str | None = None) -> str:
    """How a user names the column that stands for `canonical`: `--user_column NAME` or `Columns(user=...)`."""
    short = canonical.removesuffix("_id")
    if is_command_line():
        return option(f"{short}_column", name)
    return f"Columns({short}={'...' if name is None else repr(name)})"
