"""Which columns of a table are shown: those that are named, or those that a terminal has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recsys_lab.report.table import Column, Table, text
from recsys_lab.words import resolve_names


@dataclass(frozen=True)
class Shown:
    """names: of `name_of`, in the order in which they are shown; () = all. width: characters; None = any number.
    rest: says how what was left out is seen."""

    names: Sequence[str] = ()
    width: int | None = None
    rest: str = "--wide shows all, --columns those named"

    def of(self, table: Table) -> tuple[Table, list[str]]:
        """A table with the columns that are shown, and a line that says what was left out, where something was.

        Columns are left out whole, those with the largest `Column.spare` first, and of equal ones the last.

        Raises:
            RecsysLabError: for a name that no column has; lists those that there are.
        """
        if self.names:
            by_name = {name_of(column): column.title for column in table.columns}
            typed = [name.strip().lower().replace(" ", "_") for name in self.names]
            at = {name.partition("@")[0]: name for name in reversed(by_name)}  # `ndcg` is `ndcg@10`
            wanted = [name if name in by_name else at.get(name, name) for name in typed]
            return table.only([by_name[name] for name in resolve_names(wanted, by_name, "--columns")]), []
        if self.width is None:
            return table, []
        table, cut = _with_short_names(table, self.width)
        lines = ["names are cut in the middle; --wide shows them whole"] * cut
        out: list[Column] = []
        spare = sorted((c for c in reversed(table.columns) if c.spare), key=lambda column: -column.spare)
        while spare and width_of(table.without([column.title for column in out])) > self.width:
            out.append(spare.pop(0))
        if not out:
            return table, lines
        most_wanted = min(column.spare for column in out)
        for column in [one for one in table.columns if one in out and one.spare == most_wanted]:
            rest = [
                one.title for one in out if one is not column
            ]  # a narrow one may have room where a wide one has none
            if width_of(table.without(rest)) <= self.width:
                out.remove(column)
        names = ", ".join(name_of(column) for column in table.columns if column in out)
        why = f"left out, since the terminal is {self.width} wide: {names}"
        return table.without([column.title for column in out]), [f"{why}; {self.rest}", *lines]


ALL = Shown()


def _with_short_names(table: Table, width: int) -> tuple[Table, bool]:
    """With names that leave room for as many of the columns that matter as can be had, and whether any was cut."""
    names = next((column for column in table.columns if column.shortest), None)
    if names is None or not table.rows:
        return table, False
    whole = [names.cell(row).text for row in table.rows]
    others = [column.title for column in table.columns if column.spare > 1]
    matter = [column.title for column in table.columns if column.spare == 1]
    for kept in range(len(matter), 0, -1):
        excess = width_of(table.without([*others, *matter[kept:]])) - width
        room = max(map(len, whole)) - excess
        if excess > 0 and room >= names.shortest and (short := _cut(whole, room)):
            return _renamed(table, names, dict(zip(whole, short, strict=True))), True
        if excess <= 0:
            break
    return table, False


def _renamed(table: Table, names: Column, said: dict[str, str]) -> Table:
    cut = replace(names, value=lambda row: replace(names.cell(row), text=said[names.cell(row).text]))
    return replace(table, columns=[cut if column is names else column for column in table.columns])


def _cut(names: Sequence[str], room: int) -> list[str]:
    """Names of at most `room` characters, as different as they were; none where that can't be had."""
    for head in (room // 2 - 1, 4, 0):  # what begins alike may differ at the end
        tail = room - 3 - head
        short = [name if len(name) <= room else f"{name[:head]}...{name[len(name) - tail :]}" for name in names]
        if len(set(short)) == len(set(names)):
            return short
    return []


def name_of(column: Column) -> str:
    """A title as it is typed: `MDE (80 % power)` is `mde`, `stopped by` is `stopped_by`."""
    return column.title.partition(" (")[0].lower().replace(" ", "_")


def fitted(table: Table, shown: Shown) -> str:
    """The text of the columns that are shown, and below it the line of what was left out."""
    rest, left_out = shown.of(table)
    return "\n".join([text(rest, width=shown.width), *(f"\n{line}" for line in left_out)])


def width_of(table: Table) -> int:
    return max(map(len, text(table).splitlines()))
