"""Raw columns -> canonical ones. Every check sits in one streaming aggregation; only an error costs a second pass."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from recsys_lab.data.reading import asks
from recsys_lab.data.reading.columns import LABEL, ORDER, column_option
from recsys_lab.data.reading.ids import Ids, may_be_nested, refuse_nested
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.reading.text_columns import TextColumn, text_stats
from recsys_lab.data.reading.times import NUMBER, ROW, Time
from recsys_lab.words import EVENT_TYPE, ITEM_ID, RATING, TIMESTAMP, USER_ID, RecsysLabError, number_of_these

log = logging.getLogger(__name__)

SMALL_ROWS = 1 << 21
"""Tables of so many rows are held in memory: at most some 200 MB, where ids and times are text."""
PLAIN_COLUMNS = 6
"""Tables with more columns than that are held where they have as many fewer rows."""
_BLANK = "__blank"
_EMPTY_LINES = "empty lines"


@dataclass(frozen=True)
class Rules:
    """What happens to rows that can't be used: `error` names the first, `drop` leaves them out and counts them.

    Attributes:
        missing_ids: rows without a user or an item; with `drop` also those with a word for "nothing" (NULL, NA, nan,
            None, ...), which else is an id like any other.
        bad_times: rows whose time is missing, unreadable, before 1970 or after the year 5138, or 0 beside times after
            1973.
    """

    missing_ids: Literal["error", "drop"] = "error"
    bad_times: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        for name in ("missing_ids", "bad_times"):
            if getattr(self, name) not in ("error", "drop"):
                raise RecsysLabError(f"{name} is {getattr(self, name)!r}; known: error, drop")


STRICT = Rules()


def needs_time(rules: Rules, schema: pl.Schema, where: str) -> None:
    """Raises RecsysLabError where bad times are to be dropped from a table without times."""
    if rules.bad_times == "drop" and TIMESTAMP not in schema:
        raise RecsysLabError(
            f"{where} has no time column, so {option('bad_times', 'drop')} changes nothing: name the column "
            f"({column_option(TIMESTAMP)}), or leave it out"
        )


@dataclass(frozen=True)
class BinaryColumn:
    """A column of the file that holds only 0 and 1 (or false and true), both of them, and how many rows of each."""

    name: str
    is_rating: bool
    zeros: int
    ones: int


@dataclass(frozen=True)
class Checked:
    """`events` as `RawTables.interactions`; `left_out`: kind of row -> how many were left out, without zeros;
    `binary`: the rating, or else the label, if it holds only 0 and 1.
    """

    events: pl.LazyFrame
    left_out: dict[str, int] = field(default_factory=dict)
    binary: BinaryColumn | None = None


def canonical(raw: pl.LazyFrame, columns: Mapping[str, str], where: str) -> pl.LazyFrame:
    """`checked` with no rows left out."""
    return checked(raw, columns, where).events


def checked(
    raw: pl.LazyFrame,
    columns: Mapping[str, str],
    where: str,
    rules: Rules = STRICT,
    whole: pl.LazyFrame | None = None,
    further: Sequence[str] = (),
) -> Checked:
    """Check `raw` and give its columns their canonical names and types (see `RawTables`).

    Args:
        raw: the file as it was scanned; text formats with every column as String.
        columns: canonical name -> name in the file; `LABEL` for a column that is only looked at.
        where: the file, for messages.
        rules: what happens to rows that can't be used.
        whole: the file with all its columns, where an empty line comes as a row of nulls. It is only read when ids
            are missing: empty lines are then left out.
        further: other columns of the file, which keep their names; text that holds numbers or lists becomes them.

    Raises:
        RecsysLabError: empty table, missing ids, unusable timestamps, ratings or order, naming column, row and value.
    """
    kept = kept_names(further, where)
    wanted = {c: pl.col(n) for c, n in columns.items()} | {further_name(n): pl.col(name) for n, name in enumerate(kept)}
    table, is_held = read_once(raw.select(**wanted))
    checks = _Checks(table.with_row_index(ROW), columns, where, any_form=False)
    found, left_out = checks.find(), {}
    first_row = checks.rows_before  # of the table that is numbered
    if whole is not None and any(found[f"{name}.missing"] for name in checks.ids):
        marked = whole.select(**wanted, **{_BLANK: pl.all_horizontal(pl.all().is_null())})
        marked = read_once(marked)[0].with_row_index(ROW)
        left_out[_EMPTY_LINES] = _count(marked, pl.col(_BLANK))
        first_row = asks.asker().rows_before
        checks = _Checks(marked.filter(~pl.col(_BLANK)), columns, where, any_form=False)
        found = checks.find()
    if rules.missing_ids == "drop":
        missing = pl.any_horizontal(ids.is_missing(or_word=True) for ids in checks.ids.values())
        left_out["rows without an id"] = _count(checks.table, missing)
        checks = _Checks(checks.raw.filter(~missing), columns, where, any_form=False)
        found = checks.find()
    if checks.time is not None and found["time.broken"]:
        checks = _Checks(checks.raw, columns, where, any_form=True)
        found = checks.find()
    if checks.time is not None and rules.bad_times == "drop":
        bad = checks.time.unusable(checks.table)
        left_out["rows without a usable time"] = _count(checks.table, bad)
        checks = _Checks(checks.table.filter(~bad).select(checks.raw.collect_schema().names()), columns, where, True)
        found = checks.find()
    left_out = {what: count for what, count in left_out.items() if count}
    for what, count in left_out.items():
        log.info("%s: %s left out", where, number_of_these(count, what))
    if found["rows"] == 0:
        why = "; all that it has were left out" if set(left_out) - {_EMPTY_LINES} else ""
        raise RecsysLabError(f"{where} is empty: it has no rows{why}")
    names = {further_name(number): name for number, name in enumerate(kept)}
    checks.names, checks.first_row = names, first_row
    events = checks.convert(found).rename(names)
    if is_held:  # parsed once, and the plan of what follows is short
        events = events.collect(engine="streaming").lazy()
    return Checked(events, left_out, checks.binary(found))


def further_name(number: int) -> str:
    """What a further column is called while it is read: its own name could be one of ours."""
    return f"__further{number}"


def kept_names(further: Sequence[str], where: str) -> list[str]:
    """The further columns but for those with a name of ours, which is said."""
    taken = [name for name in further if name in (USER_ID, ITEM_ID, TIMESTAMP, ORDER, RATING, EVENT_TYPE)]
    for name in taken:
        log.warning("%s: column %r is left out: that name has a meaning, which another column has here", where, name)
    return [name for name in further if name not in taken]


def _count(table: pl.LazyFrame, mask: pl.Expr) -> int:
    return int(asks.row(table.select(rows=pl.len(), count=mask.sum()))["count"])


class _Checks:
    """One aggregation over a table, and what follows from it."""

    def __init__(self, raw: pl.LazyFrame, columns: Mapping[str, str], where: str, any_form: bool) -> None:
        schema = raw.collect_schema()
        if schema.get(TIMESTAMP) in (pl.Categorical, pl.Enum):
            raw = raw.with_columns(pl.col(TIMESTAMP).cast(pl.String))
        for name, what in ((EVENT_TYPE, "text or a whole number"), (RATING, "a number"), (ORDER, "a number")):
            dtype = schema.get(name)
            if dtype is not None and (
                dtype.is_nested() or dtype == pl.Binary or (name != ORDER and dtype.is_temporal())
            ):
                raise RecsysLabError(f"{where}: column {columns[name]!r} is of type {dtype}; it is to hold {what}")
        self.raw, self.columns, self.where = raw, columns, where
        self.ids = {c: Ids(c, columns[c], schema[c], where) for c in (USER_ID, ITEM_ID)}
        self.time = Time.of(raw, columns[TIMESTAMP], where) if TIMESTAMP in columns else None
        if self.time is not None and any_form:
            self.time = self.time.in_any_form()
        self.numbers = [c for c in (RATING, ORDER) if c in columns]
        # parsed once as columns of their own: written inside each statistic, text would be parsed once for each
        parsed = {name: _as_number(name) for name in self.numbers}
        parsed |= {n: ids.value.cast(pl.Int64, strict=False) for n, ids in self.ids.items() if ids.is_text}
        if self.time is not None:
            parsed[TIMESTAMP] = self.time.number
        self.labels = [c for c in (RATING, LABEL) if c in columns and _may_be_number(schema[c])]
        parsed |= {LABEL: _as_number(LABEL)} if LABEL in self.labels else {}
        self.table = raw.with_columns(**{name + NUMBER: expr for name, expr in parsed.items()})
        self.further = [name for name in schema.names() if name.startswith(further_name(0)[:-1])]
        self.text = {name: TextColumn(name) for name in self.further if schema[name] == pl.String}
        self.names: Mapping[str, str] = {}  # of the further columns, for messages
        self.rows_before = self.first_row = 0  # where the log is read in pieces

    def find(self) -> dict[str, Any]:
        stats: dict[str, pl.Expr] = {"rows": pl.len()}
        for name, ids in self.ids.items():
            stats |= {f"{name}.{k}": e for k, e in ids.stats().items()}
        if self.time is not None:
            stats |= {f"time.{k}": e for k, e in self.time.stats().items()}
        self.has_text_types = EVENT_TYPE in self.columns and self.raw.collect_schema()[EVENT_TYPE] == pl.String
        if self.has_text_types:
            stats["types.nested"] = may_be_nested(pl.col(EVENT_TYPE)).sum()
        for name in self.numbers:
            stats[f"{name}.broken"] = _broken(name).sum()
            stats[f"{name}.whole"] = (pl.col(name + NUMBER) % 1 == 0).all()
        for name in self.labels:
            stats[f"{name}.known"] = pl.col(name).count()
            stats |= {f"{name}.{value}": (pl.col(name + NUMBER) == value).sum() for value in (0, 1)}
        found = asks.row(self.table.select(**stats))
        self.rows_before = asks.asker().rows_before
        return found | text_stats(self.table, self.text.values())

    def binary(self, found: dict[str, Any]) -> BinaryColumn | None:
        for name in self.labels:
            zeros, ones = found[f"{name}.0"], found[f"{name}.1"]
            if zeros and ones and zeros + ones == found[f"{name}.known"]:
                return BinaryColumn(self.columns[name], name == RATING, zeros, ones)
        return None

    def convert(self, found: dict[str, Any]) -> pl.LazyFrame:
        """The canonical table. Raises RecsysLabError for the first fault in what `find` found."""
        table = self.table
        out = {n: ids.convert({k: found[f"{n}.{k}"] for k in ids.stats()}, table) for n, ids in self.ids.items()}
        if self.time is not None:
            out[TIMESTAMP] = self.time.convert({k: found[f"time.{k}"] for k in self.time.stats()}, table)
        if EVENT_TYPE in self.columns:
            if self.has_text_types and found["types.nested"]:
                refuse_nested(table, EVENT_TYPE, self.columns[EVENT_TYPE], self.where)
            out[EVENT_TYPE] = pl.col(EVENT_TYPE).cast(pl.String)
        for name in self.numbers:
            if found[f"{name}.broken"]:
                row, value = table.filter(_broken(name)).select(ROW, name).head(1).collect().row(0)
                raise RecsysLabError(
                    f"{self.where}: column {self.columns[name]!r} has {found[f'{name}.broken']:,} values that are not "
                    f"numbers, first in row {row + 1}: {value!r}"
                )
            number = pl.col(name + NUMBER)
            out[name] = number.cast(pl.Int64) if name == ORDER and found[f"{name}.whole"] else number
        if ORDER not in out:
            out[ORDER] = pl.col(ROW).cast(pl.Int64) + self.first_row
        for name in self.further:
            column = self.text.get(name)
            facts = {} if column is None else {what: found[f"{name}.{what}"] for what in column.stats()}
            if facts.get("known") and facts["objects"] == facts["known"]:
                log.warning(
                    "%s: column %r holds JSON objects, which are kept as text; write what you want of them as columns "
                    "of their own", self.where, self.names[name],
                )  # fmt: skip
            out[name] = pl.col(name) if column is None else column.convert(facts, table)
        return table.select(**out)


def read_once(table: pl.LazyFrame) -> tuple[pl.LazyFrame, bool]:
    """The table from memory where it is small enough: three passes follow, and each would read the file again. And
    whether it is in memory."""
    rows = SMALL_ROWS * PLAIN_COLUMNS // max(PLAIN_COLUMNS, len(table.collect_schema()))
    if asks.asker().is_whole:
        return table, False
    start = table.head(rows + 1).collect(engine="streaming")
    return (start.lazy(), True) if start.height <= rows else (table, False)


def _as_number(name: str) -> pl.Expr:
    number = pl.col(name).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _may_be_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.String)


def _broken(name: str) -> pl.Expr:
    """An event may be without a rating, but not without a place in the order."""
    broken = pl.col(name + NUMBER).is_null()
    return broken if name == ORDER else broken & pl.col(name).is_not_null()
