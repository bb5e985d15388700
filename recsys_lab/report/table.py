"""One form of table: columns, and rows in which they find values, as terminal text, Markdown, LaTeX and HTML.
Numbers look the same everywhere, in sentences too: `show` makes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from recsys_lab.report.escapes import latex_text, plain, prose
from recsys_lab.report.terminal import LEAST, folded, wrapped

UNKNOWN = "-"
"""Stands where there is no value."""


@dataclass(frozen=True)
class Cell:
    """A value as it is shown.

    small: shown smaller behind the text, where that is possible.
    value: what a page sorts a column of numbers by; None comes last.
    style: `bold`, `code`, `soft` (of a first cell: the whole row steps back) or empty.
    href: where a page leads from it; empty = nowhere.
    """

    text: str
    small: str = ""
    value: float | None = None
    style: str = ""
    href: str = ""

    @property
    def line(self) -> str:
        return f"{self.text} {self.small}" if self.small else self.text

    def __str__(self) -> str:
        return self.line


def show(value: Any, format: str = "") -> Cell:
    """The one way in which values become text.

    Args:
        value: a text, a number (None and NaN are `UNKNOWN`), or (number, low, high[, standard deviation]), of which the
            interval and the deviation are left out where they are not known. A `Cell` stays as it is.
        format: of a number, as Python writes formats (`.4f`, `+.2f`, `,.0f`, `.1%`), with a unit behind it (`.1f s`) or
            not; `p` for a p value.
    """
    if isinstance(value, Cell):
        return value
    if isinstance(value, tuple):
        number, low, high, *deviation = (show(part, format) for part in value)
        small = [] if low.value is None else [f"[{low.text}, {high.text}]"]
        small += [f"(sd {one.text})" for one in deviation if one.value is not None]
        return replace(number, small=" ".join(small))
    if isinstance(value, str):
        return Cell(value)
    if value is None or math.isnan(value):
        return Cell(UNKNOWN)
    if format == "p":
        return Cell("<0.001" if value < 0.001 else f"{value:.3f}", value=float(value))
    form, space, unit = format.partition(" ")
    text = f"{value:{form}}"
    if text.startswith("-") and not any(digit in "123456789" for digit in text):
        text = f"{0.0:{form}}"  # no minus before a zero
    text = text.replace("%", " %") + space + unit
    return Cell(text, value=float(value) if math.isfinite(value) else None)


@dataclass(frozen=True)
class Column:
    """help: what the values are, in a few words, for a page.

    format: of `show`; without one the column holds words and is flush left; `>` is for words that are flush right,
        `bar` for shares that a page shows with a bar.
    value: of a row; None = what the row holds under the title, as a key or as an attribute.
    spare: 0 = always shown; of others those with the largest number are left out first where there is no room. A page
        shows those above 1 with a click.
    shortest: of a column of names, characters to which they may be cut in their middle where a terminal has no room for
        the columns that matter (`spare` up to 1); 0 = they stay whole.
    """

    title: str
    format: str = ""
    help: str = ""
    value: Callable[[Any], Any] | None = None
    spare: int = 0
    shortest: int = 0

    @property
    def is_left(self) -> bool:
        return not self.format

    @property
    def is_extra(self) -> bool:
        return self.spare > 1

    def cell(self, row: Any) -> Cell:
        if self.value is not None:
            return show(self.value(row), self.format)
        return show(row[self.title] if isinstance(row, Mapping) else getattr(row, self.title), self.format)


@dataclass(frozen=True)
class Table:
    """rows: whatever the columns find their values in. sorted_by: title of the column by which the rows come in falling
    order. has_filter: a page with scripts has a field that leaves the rows with the words typed into it."""

    columns: Sequence[Column]
    rows: Sequence[Any]
    title: str = ""
    note: str = ""
    sorted_by: str = ""
    has_filter: bool = False

    @property
    def cells(self) -> list[list[Cell]]:
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    def without(self, titles: Collection[str]) -> Table:
        return replace(self, columns=[column for column in self.columns if column.title not in titles])

    def only(self, titles: Sequence[str]) -> Table:
        """These columns, in this order; those that are not there are left out."""
        by_title = {column.title: column for column in self.columns}
        return replace(self, columns=[by_title[title] for title in titles if title in by_title])

    def first(self, most: int) -> Table:
        """The first rows of a long table, with a note of it."""
        if len(self.rows) <= most:
            return self
        return replace(self, rows=self.rows[:most], note=f"the first {most} of {len(self.rows)} rows")


def text(table: Table, head: bool = True, width: int | None = None) -> str:
    """Columns of one width each; without `head` no titles.

    Args:
        width: characters. In a wider table the longest words are wrapped, as far as that helps; None = any width.
    """
    lines = [[column.title for column in table.columns]] if head else []
    lines += [[cell.line for cell in row] for row in table.cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    least = [
        max(LEAST, *(len(word) for value in values for word in value.split())) if column.is_left else size
        for column, values, size in zip(table.columns, zip(*lines, strict=True), widths, strict=True)
    ]
    _narrow(widths, least, width)
    rows: list[str] = []
    for line in lines:
        cells = [
            folded(value, size, "") if len(value) > size else [value] for value, size in zip(line, widths, strict=True)
        ]
        for parts in zip_longest(*cells, fillvalue=""):
            places = zip(table.columns, parts, widths, strict=True)
            row = [part.ljust(size) if column.is_left else part.rjust(size) for column, part, size in places]
            rows.append("  ".join(row).rstrip())
    return "\n".join(rows)


def _narrow(widths: list[int], least: Sequence[int], width: int | None) -> None:
    """Takes what is too much from the widest columns, in place; none becomes narrower than its `least`."""
    while width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        places = [place for place, size in enumerate(widths) if size > least[place]]
        if not places:
            return
        widths[max(places, key=lambda place: widths[place])] -= 1


def markdown(table: Table) -> str:
    rows = [[plain(column.title) for column in table.columns]]
    rows.append(["---" if column.is_left else "---:" for column in table.columns])
    rows += [[_marked(plain(cell.line), cell.style) for cell in row] for row in table.cells]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def latex(table: Table) -> str:
    r"""A tabular for \usepackage{booktabs}."""
    columns = "".join("l" if column.is_left else "r" for column in table.columns)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [_latex_row([latex_text(column.title) for column in table.columns]), r"\midrule"]
    lines += [_latex_row([_in_latex(cell) for cell in row]) for row in table.cells]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def document(tables: Sequence[Table], legend: Sequence[str], format: str, width: int | None = None) -> str:
    """Tables and the lines below them as `text`, `markdown` or `latex`, where the lines are comments above them. Of
    text no line is wider than `width`, as far as words can be wrapped."""
    if format == "latex":
        return "\n".join([*(f"% {line}" for line in legend), "\n\n".join(map(latex, tables))])
    if format == "markdown":
        return "\n".join(["\n\n".join(map(markdown, tables)), "", *map(prose, legend)])
    lines = legend if width is None else [wrapped(line, width) for line in legend]
    return "\n".join(["\n\n".join(text(table, width=width) for table in tables), "", *lines])


def _marked(text: str, style: str) -> str:
    return f"**{text}**" if style == "bold" else f"`{text}`" if style == "code" else text


def _in_latex(cell: Cell) -> str:
    shown = latex_text(cell.line)
    return rf"\textbf{{{shown}}}" if cell.style == "bold" else shown


def _latex_row(values: Sequence[str]) -> str:
    return " & ".join(values) + r" \\"
