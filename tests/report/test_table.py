"""One table in four forms: numbers look the same in each, and what is unknown says so."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from recsys_lab.report.table import Cell, Column, Table, document, latex, markdown, show, text

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "format", "shown"),
    [
        (0.12345, ".4f", "0.1235"),
        (0.5, "+.2f", "+0.50"),
        (1234567.0, ",.0f", "1,234,567"),
        (7, "d", "7"),
        (0.1234, ".1%", "12.3 %"),
        (-0.5, "+.1%", "-50.0 %"),
        (-4.0, "+.1f %", "-4.0 %"),
        (0.0004, "p", "<0.001"),
        (0.25, "p", "0.250"),
        ("one seed", "p", "one seed"),
        (None, ".4f", "-"),
        (NAN, "p", "-"),
        (math.inf, "+.2f", "+inf"),
        ((0.5, 0.4, 0.6), ".2f", "0.50 [0.40, 0.60]"),
        ((0.5, 0.4, 0.6, 0.01), ".2f", "0.50 [0.40, 0.60] (sd 0.01)"),
        ((0.5, NAN, NAN, None), ".2f", "0.50"),
        ((0.5, None, None, 0.01), ".2f", "0.50 (sd 0.01)"),
        ((NAN, NAN, NAN), "+.1%", "-"),
        ((-0.1, -0.2, 0.1), "+.1f", "-0.1 [-0.2, +0.1]"),
        (Cell("3*"), ",", "3*"),
    ],
)
def test_values_as_they_are_shown(value: Any, format: str, shown: str) -> None:
    assert show(value, format).line == shown


def test_numbers_keep_their_value_for_sorting_and_the_unknown_has_none() -> None:
    assert show((0.123456, 0.1, 0.2), ".2f").value == 0.123456
    assert [show(-0.00001, form).text for form in (".4f", "+.1%")] == ["0.0000", "+0.0 %"], "no minus before a zero"
    assert [show(value, ".2f").value for value in (None, NAN, math.inf)] == [None, None, None]


TABLE = Table(
    [Column("name"), Column("ndcg", ".2f"), Column("state", ">")],
    [
        {"name": Cell("a|b", style="bold"), "ndcg": (0.5, 0.4, 0.6), "state": "done", "not shown": 1},
        {"name": Cell("c_d", style="code"), "ndcg": None, "state": "x"},
    ],
)


def test_a_column_finds_its_value_by_key_by_attribute_or_by_a_function() -> None:
    columns = [Column("real", ".1f"), Column("twice", ".1f", value=lambda row: 2 * row.real)]
    assert [[cell.text for cell in row] for row in Table(columns, [1.5]).cells] == [["1.5", "3.0"]]
    with pytest.raises(KeyError, match="gone"):
        text(Table([Column("gone")], [{"name": "x"}]))


def test_text_has_columns_of_one_width() -> None:
    lines = ["name               ndcg  state", "a|b   0.50 [0.40, 0.60]   done", "c_d                   -      x"]
    assert text(TABLE).splitlines() == lines
    assert text(TABLE, head=False).splitlines()[0] == "a|b  0.50 [0.40, 0.60]  done"


def test_markdown_marks_styles_and_keeps_cells_whole() -> None:
    head, sides, first, second = markdown(TABLE).splitlines()
    assert head == "| name | ndcg | state |" and sides == "| --- | ---: | ---: |", "numbers are flush right"
    assert first == r"| **a\|b** | 0.50 [0.40, 0.60] | done |" and second == "| `c_d` | - | x |"


def test_latex_aligns_and_escapes() -> None:
    shown = latex(TABLE)
    assert r"\begin{tabular}{lrr}" in shown and r"\textbf{a|b} & 0.50 [0.40, 0.60] & done \\" in shown
    assert r"c\_d & - & x \\" in shown
    odd = latex(Table([Column("x")], [{"x": "[1] **2**"}]))
    assert "\n{}[1] **2** \\\\\n" in odd, "[ would be an argument of the line before, ** ** is no style"


def test_columns_are_chosen_and_rows_cut() -> None:
    assert [column.title for column in TABLE.only(["state", "gone", "name"]).columns] == ["state", "name"]
    assert [column.title for column in TABLE.without(["ndcg"]).columns] == ["name", "state"]
    assert TABLE.first(2) is TABLE
    cut = TABLE.first(1)
    assert len(cut.rows) == 1 and cut.note == "the first 1 of 2 rows"


def test_a_legend_stands_below_and_in_latex_above_as_comments() -> None:
    legend = ["how <b>to</b> read"]
    assert document([TABLE], legend, "text").endswith("\n\nhow <b>to</b> read")
    assert document([TABLE], legend, "markdown").endswith("\n\nhow &lt;b>to&lt;/b> read")
    assert document([TABLE, TABLE], legend, "latex").startswith("% how <b>to</b> read\n\\begin{tabular}")
    assert len(re.findall(r"\\begin\{tabular\}", document([TABLE, TABLE], legend, "latex"))) == 2
