"""`--fields name=[scope.]kind[@query]`: what the user says of columns, found again in the tables that have them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from recsys_lab.data.fields.stored import KINDS, SCOPES, Kind, KnownAt, Scope, field_key
from recsys_lab.data.reading.spelling import option
from recsys_lab.words import EVENT_TYPE, RecsysLabError, did_you_mean

log = logging.getLogger("recsys_lab")

DROP = "drop"
REST = "*"
MOST_COLUMNS = 1_000
"""Further columns of a table that become fields of themselves."""
FORM = "name=[scope.]kind, name=kind@query or name=drop"


@dataclass(frozen=True)
class Wish:
    """What the user says of one column; None = as it is found.

    Attributes:
        text: as it was typed.
        scope: whose value it is. A column of the events may belong to the item or the user.
        kind: how it is stored.
        known_at: `query` where the value of the event to predict is known when the question is asked.
        drop: leave it out.
    """

    text: str = ""
    scope: Scope | None = None
    kind: Kind | None = None
    known_at: KnownAt = "before"
    drop: bool = False


def parse_wish(text: str) -> tuple[str, Wish]:
    """`price=item.numeric` -> the column and what is said of it. The name may hold any sign; the last `=` counts.

    Raises:
        RecsysLabError: for another form, a scope or a kind that is none.
    """
    name, equals, form = text.rpartition("=")
    name, form = name.strip(), form.strip()
    if not equals or not name or not form:
        raise RecsysLabError(f"{option('fields')} {text!r} is not of the form {FORM}.")
    if form == DROP:
        return name, Wish(text, drop=True)
    if name == REST:
        raise RecsysLabError(
            f"{option('fields')} {text!r}: of the columns that are not named only {REST}=drop is known."
        )
    form, at, known = form.partition("@")
    scope, dot, kind = form.rpartition(".")
    for value, known_values, what in ((kind, KINDS, "kind"), (scope, SCOPES, "scope"), (known, ("query",), "time")):
        if value not in known_values and (value or what == "kind" or (dot if what == "scope" else at)):
            hint = did_you_mean(value, known_values)
            raise RecsysLabError(
                f"{option('fields')} {text!r}: unknown {what} {value!r}.{hint} Known: {', '.join(known_values)} "
                f"(the form is {FORM})."
            )
    return name, Wish(text, scope or None, kind, known or "before")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Wishes:
    """What the user says of the columns of each table.

    Attributes:
        by_column: (table, column) -> wish; a table is named as its scope.
        drop_rest: the tables of which columns that nothing is said of are left out.
    """

    by_column: Mapping[tuple[str, str], Wish]
    drop_rest: frozenset[str] = frozenset()

    def of(self, table: str, column: str) -> Wish:
        return self.by_column.get((table, column), Wish(drop=table in self.drop_rest))


def find_wishes(texts: Iterable[str] | None, tables: Mapping[str, Sequence[str]]) -> Wishes:
    """Matches what was said with the columns that there are.

    A name is a column of any table, or `item.name` where several tables have one of that name.

    Args:
        texts: `name=[scope.]kind[@query]`.
        tables: scope -> names of the further columns of its table.

    Raises:
        RecsysLabError: for what `parse_wish` refuses, for a column that no table or several tables have, for one named
            twice, and for a scope that the column's table can't have.
    """
    found: dict[tuple[str, str], Wish] = {}
    drop_rest = {table for table, columns in tables.items() if len(columns) > MOST_COLUMNS}
    for table in sorted(drop_rest):
        log.warning(
            "the table of %ss has %d further columns: only those that %s names become fields",
            table, len(tables[table]), option("fields"),
        )  # fmt: skip
    for text in texts or ():
        name, wish = parse_wish(text)
        if name == REST:
            drop_rest = set(tables)
            continue
        place = _place(name, wish, tables)
        if place in found:
            raise RecsysLabError(f"{option('fields')} names {name!r} twice: {found[place].text!r} and {text!r}.")
        _check(place, wish)
        found[place] = wish
    return Wishes(found, frozenset(drop_rest))


def _place(name: str, wish: Wish, tables: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    having = [scope for scope, columns in tables.items() if name in columns]
    if len(having) == 1:
        return having[0], name
    if having:
        if wish.scope in having:
            return str(wish.scope), name
        keys = " or ".join(f"{scope}.{name}" for scope in having)
        raise RecsysLabError(
            f"{option('fields')} {wish.text!r}: the tables of {' and '.join(having)} have this column; say {keys}."
        )
    scope, dot, column = name.partition(".")
    if dot and column in tables.get(scope, ()):
        return scope, column
    known = [field_key(scope, column) for scope, columns in tables.items() for column in columns]
    listed = f"Further columns: {', '.join(known[:30]) or 'none'}" + (
        f" and {len(known) - 30} more" if len(known) > 30 else ""
    )
    hint = did_you_mean(name, known)
    raise RecsysLabError(f"{option('fields')} {wish.text!r}: there is no column {name!r}.{hint} {listed}.")


def _check(place: tuple[str, str], wish: Wish) -> None:
    table, column = place
    if wish.scope not in (None, table) and not (table == "event" and wish.scope in ("item", "user")):
        raise RecsysLabError(
            f"{option('fields')} {wish.text!r}: {column!r} is a column of the table of {table}s, and can't be a field "
            f"of scope {wish.scope}."
        )
    if wish.known_at == "query" and (table not in ("event", "shown") or wish.scope in ("item", "user")):
        raise RecsysLabError(
            f"{option('fields')} {wish.text!r}: @query is for fields of events; those of items and users are "
            "always known."
        )
    if (
        column == EVENT_TYPE
        and table == "event"
        and (wish.scope not in (None, "event") or wish.kind not in (None, "categorical"))
    ):
        raise RecsysLabError(f"{option('fields')} {wish.text!r}: {EVENT_TYPE} is a categorical field of the events.")
