"""What is asked of a whole log before it can be read: answered in one pass, or piece by piece with the answers merged.

Types, units and vocabularies depend on all rows. So the code that decides them asks here for its aggregations. In one
process they are collected at once. Where a log is read in tasks (`data/shards/raw_tasks.py`) each task runs the same
code over its piece: what is known is read from files, and at the first question that is not, the code stops with the
answer of the piece (`Paused`). When all pieces have answered, their answers are merged, and the code runs anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import polars as pl

Rule = str
"""How answers are merged: `row` (numbers add up, see `LEAST` and `MOST`, of bools all must hold), `head N` (the first N
rows), `union` (each row once), `sum KEY` (the rows of each key add up), `count` (how many different values, about),
`own` (not at all: each piece keeps its own)."""
LEAST, MOST = ("min", "low", "shortest"), ("max", "high", "longest")
"""Last words of the names of numbers that are extremes."""
ROWS = "rows"


class Asker:
    """Answers at once, of the whole log.

    Attributes:
        is_divided: whether there are pieces.
        is_whole: whether the tables that are asked are too large to be held for one question.
        rows_before: of the table that was asked last how many `rows` it had, in the pieces before this one.
    """

    is_divided = is_whole = False
    rows_before = 0

    def ask(self, queries: Sequence[pl.LazyFrame], rules: Sequence[Rule]) -> list[pl.DataFrame]:
        return pl.collect_all(queries, engine="streaming")


class Paused(Exception):
    """A question has no answer yet. answers: of this piece, or None where nothing was asked."""

    def __init__(self, number: int, answers: list[pl.DataFrame] | None, rules: Sequence[Rule]) -> None:
        super().__init__(f"question {number}")
        self.number, self.answers, self.rules = number, answers, list(rules)

    def write(self, folder: Path) -> None:
        for number, frame in enumerate(self.answers or []):
            frame.write_ipc(folder / f"{number}.arrow")
        (folder / "rules.json").write_text(json.dumps(self.rules))


class Replay(Asker):
    """Answers what is known already.

    Args:
        folder: the answers to question k are in `<folder>-<k>`, a folder for each piece, and in `<folder>-<k>-merged`.
        piece: which one this is; None for the whole log.
        unknown: what a question without an answer does: `pause`, after it was asked of the `piece`, or `ask` at once.
    """

    is_divided = True

    def __init__(self, folder: Path, piece: int | None = None, unknown: Literal["pause", "ask"] = "pause") -> None:
        self.folder, self.piece, self.unknown, self.asked = folder, piece, unknown, 0
        self.is_whole = piece is None

    def ask(self, queries: Sequence[pl.LazyFrame], rules: Sequence[Rule]) -> list[pl.DataFrame]:
        number, self.asked = self.asked, self.asked + 1
        home = question(self.folder, number)
        if not (merged_of(home) / f"{0:05d}").is_dir():
            if self.unknown == "ask":
                return super().ask(queries, rules)
            raise Paused(number, None if self.piece is None else super().ask(queries, rules), rules)
        rows = merged_of(home) / f"{0:05d}" / "rows.json"
        if rows.is_file():
            self.rows_before = sum(json.loads(rows.read_text())[: self.piece or 0])
        return [self._answer(home, n, *of) for n, of in enumerate(zip(queries, rules, strict=True))]

    def _answer(self, home: Path, number: int, query: pl.LazyFrame, rule: Rule) -> pl.DataFrame:
        if rule == "own" and self.piece is None:
            return pl.DataFrame(schema=query.collect_schema())
        folder = home / f"{self.piece:05d}" if rule == "own" else merged_of(home) / f"{0:05d}"
        return pl.read_ipc(folder / f"{number}.arrow")


def question(folder: Path, number: int) -> Path:
    return folder.with_name(f"{folder.name}-{number}")


def merged_of(question: Path) -> Path:
    """Where the merged answers are, a task of its own."""
    return question.with_name(f"{question.name}-merged")


def merge(home: Path, pieces: int, to: Path) -> None:
    """The answers of all pieces to one question, in `home`, into the folder `to`."""
    rules: list[Rule] = json.loads((home / f"{0:05d}" / "rules.json").read_text())
    for number, rule in enumerate(rules):
        files = [home / f"{piece:05d}" / f"{number}.arrow" for piece in range(pieces)]
        if rule == "own":
            continue
        merged(rule, files).write_ipc(to / f"{number}.arrow")
        if rule == "row" and number == 0 and ROWS in pl.read_ipc_schema(files[0]):
            counts = [pl.read_ipc(file, columns=[ROWS]).item() for file in files]
            (to / "rows.json").write_text(json.dumps(counts))


def merged(rule: Rule, files: list[Path]) -> pl.DataFrame:
    kind, _, what = rule.partition(" ")
    if kind in ("row", "head"):
        rows = pl.concat([pl.read_ipc(file) for file in files], how="vertical_relaxed")
        return rows.head(int(what)) if kind == "head" else rows.select(map(_added, rows.columns, rows.dtypes))
    table = pl.scan_ipc(files)
    if kind == "sum":
        table = table.group_by(what).agg(pl.all().exclude(what).sum())
    elif kind == "count":
        table = table.select(pl.all().approx_n_unique())
    else:
        table = table.unique()
    return table.collect(engine="streaming")


def _added(name: str, dtype: pl.DataType) -> pl.Expr:
    column, last = pl.col(name), name.rpartition(".")[2]
    if dtype == pl.Boolean:
        return column.all()
    if last in LEAST or last in MOST:
        return column.min() if last in LEAST else column.max()
    return column.cast(pl.Int64).sum()


_asker: ContextVar[Asker] = ContextVar("asker", default=Asker())  # noqa: B039  has no state


def asker() -> Asker:
    return _asker.get()


@contextmanager
def answered_by(other: Asker) -> Iterator[Asker]:
    token = _asker.set(other)
    try:
        yield other
    finally:
        _asker.reset(token)


def row(query: pl.LazyFrame) -> dict[str, Any]:
    """The one row of a query."""
    return asker().ask([query], ["row"])[0].row(0, named=True)


def head(table: pl.LazyFrame, rows: int) -> pl.DataFrame:
    """The first rows of a table."""
    return asker().ask([table.head(rows)], [f"head {rows}"])[0]
