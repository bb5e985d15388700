"""Further columns of the events on their way: which fields they become, their codes, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import polars as pl

from recsys_lab.data.fields.coding import Coding, distinct
from recsys_lab.data.fields.kinds import Column, ColumnStats
from recsys_lab.data.fields.stored import Scope, StoredField
from recsys_lab.data.fields.wishes import Wishes
from recsys_lab.data.fields.writing import FieldWriter, Rows
from recsys_lab.data.prepare.event_checks import ORDER
from recsys_lab.data.prepare.sorted_events import SortedEvents
from recsys_lab.data.prepare.store import FolderWriter
from recsys_lab.data.reading import asks
from recsys_lab.words import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID

AT_ONCE = 16
"""Columns whose values are sought in one pass over the source."""
QUERIED_AT_ONCE = 50


def further_columns(schema: pl.Schema) -> list[str]:
    """The columns of events (or shown items) that are no ids, times or places in the order."""
    return [name for name in schema.names() if name not in (USER_ID, ITEM_ID, TIMESTAMP, ORDER)]


class EventFields:
    """The further columns of the events, but for the event type.

    In the frames of `prepare` they are called `f0`, `f1`, ..: a name of the user could be one of ours, or of no file.

    Args:
        schema: of the interactions.
        wishes: what the user says of them.
        source: its name, for messages.
    """

    def __init__(self, schema: pl.Schema, wishes: Wishes, source: str) -> None:
        self.source = source
        self.stats: dict[str, tuple[str, ColumnStats]] = {}  # our name -> the user's, and what must be known
        self.columns: dict[str, Column] = {}
        self.codings: dict[str, Coding] = {}
        for name in further_columns(schema):
            wish = wishes.of("event", name)
            if name != EVENT_TYPE and not wish.drop:
                ours = f"f{len(self.stats)}"
                self.stats[ours] = name, ColumnStats(ours, schema[name], wish)

    def raw(self, some: Iterable[str] | None = None) -> list[pl.Expr]:
        """The columns under our names (all or some), of the interactions."""
        return [pl.col(self.stats[ours][0]).alias(ours) for ours in (self.stats if some is None else some)]

    def queries(self, kept: Callable[[list[str]], pl.LazyFrame]) -> list[tuple[pl.LazyFrame, asks.Rule]]:
        """One row each: what must be known of the columns to know their kinds, 50 in one query."""
        names = [ours for ours, (_, stats) in self.stats.items() if not stats.refused]
        some = [names[first : first + QUERIED_AT_ONCE] for first in range(0, len(names), QUERIED_AT_ONCE)]
        found: list[tuple[pl.LazyFrame, asks.Rule]] = []
        apart = []  # numbers of different values, which don't add up over pieces: the values are asked for
        for part in some:
            exprs = [(f"{n}.{what}", expr) for n in part for what, expr in self.stats[n][1].exprs().items()]
            if asks.asker().is_divided:
                apart += [name for name, _ in exprs if name.endswith(".values")]
                exprs = [(name, expr) for name, expr in exprs if name not in apart]
            found.append((kept(part).select(expr.alias(name) for name, expr in exprs), "row"))
        for name in apart:
            ours = name.removesuffix(".values")
            found.append((kept([ours]).select(pl.col(ours).alias(name)).drop_nulls().unique(), "count"))
        return found

    def decide(self, found: Mapping[str, Any]) -> None:
        """Sets `columns`, given the rows of `queries`.

        Raises:
            RecsysLabError: where a column can't be what the user says.
        """
        for ours, (name, stats) in self.stats.items():
            facts = {what: found[f"{ours}.{what}"] for what in stats.exprs()} if not stats.refused else {"known": 0}
            column = stats.column_of(name, "event", facts, self.source)
            if column is not None:
                self.columns[ours] = column

    def find_values(self, kept: Callable[[list[str]], pl.LazyFrame]) -> None:
        """Sets `codings`: one pass over the events for every 16 categorical or multi fields.

        Args:
            kept: some of our columns -> the kept events with them and nothing else: plans of many columns are slow.
        """
        coded = [ours for ours, column in self.columns.items() if column.kind in ("categorical", "multi")]
        for first in range(0, len(coded), AT_ONCE):
            names = coded[first : first + AT_ONCE]
            queries = [distinct(kept([n]), self.columns[n], n) for n in names]
            found = asks.asker().ask(queries, ["union"] * len(names))
            self.codings |= {n: Coding(values["value"]) for n, values in zip(names, found, strict=True)}

    def physical(self) -> list[pl.Expr]:
        """The columns as they are sorted: codes, numbers, lists of codes, text."""
        return [
            (self.codings[n].codes(column, n) if n in self.codings else column.physical(n)).alias(n)
            for n, column in self.columns.items()
        ]

    @property
    def bytes_per_event(self) -> int:
        """About; lists and text by guess."""
        sizes = {"categorical": 4, "numeric": 4, "multi": 24, "text": 64}
        return sum(sizes.get(column.kind, 4 * column.width) for column in self.columns.values())

    def of_scope(self, scope: Scope) -> dict[str, Column]:
        """Our name -> column of the fields of this scope."""
        return {ours: column for ours, column in self.columns.items() if column.scope == scope}

    def write(self, events: SortedEvents, files: Mapping[str, str], writer: FolderWriter) -> list[StoredField]:
        """Writes the fields of the events; `files` has the file name of each."""
        return [
            FieldWriter(writer, column, self.codings.get(ours), files[column.name]).write(
                partial(self.rows, events, ours), events.num_kept
            )
            for ours, column in self.of_scope("event").items()
        ]

    def rows(self, events: SortedEvents, ours: str) -> Iterator[Rows]:
        """The rows of the events that are left, block by block."""
        is_series = self.columns[ours].kind in ("multi", "text")
        for block in events.blocks():
            yield block.kept_series(ours) if is_series else block.kept(ours)
