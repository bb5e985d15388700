"""Columns of a table: those that are named, or those that there is room for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recsys_lab.report.shown_columns import ALL, Shown, width_of
from recsys_lab.report.table import Column, Table, document, text
from recsys_lab.report.terminal import terminal_width, wrapped
from recsys_lab.words import RecsysLabError

ROWS = [{"variant": "a" * 20, "stopped by": "max_epochs", "MDE (80 % power)": 0.25, "p": 0.5}]
COLUMNS = [
    Column("variant"),
    Column("stopped by", spare=2),
    Column("MDE (80 % power)", ".4f", spare=2),
    Column("p", ".3f", spare=1),
]
TABLE = Table(COLUMNS, ROWS)


def titles(table: Table) -> list[str]:
    return [column.title for column in table.columns]


@pytest.mark.parametrize(
    ("width", "left"),
    [
        (57, ["variant", "stopped by", "MDE (80 % power)", "p"]),
        (56, ["variant", "stopped by", "p"]),
        (39, ["variant", "stopped by", "p"]),
        (38, ["variant", "p"]),
        (26, ["variant"]),
        (3, ["variant"]),
    ],
)
def test_what_is_spare_is_left_out_first(width: int, left: list[str]) -> None:
    table, line = Shown(width=width).of(TABLE)
    assert titles(table) == left
    assert width_of(table) <= max(width, 20)
    assert bool(line) == (len(left) < 4)


def test_long_names_are_cut_before_a_column_that_matters_is_left_out() -> None:
    names = [f"clickouts_alone_{encoder}_named_with_time" for encoder in ("sasrec", "gru4rec")] + ["popularity"]
    columns = [Column("variant", shortest=16), Column("ndcg@10", ".4f"), Column("loss", spare=5)]
    columns += [Column("behind best", ".4f", spare=1), Column("p", ".3f", spare=1)]
    rows = [{"variant": name, "ndcg@10": 0.1, "loss": "x" * 30, "behind best": 0.1, "p": 0.5} for name in names]
    for width, shown in ((60, ["ndcg@10", "behind best", "p"]), (45, ["ndcg@10", "behind best"]), (30, ["ndcg@10"])):
        table, lines = Shown(width=width).of(Table(columns, rows))
        if width > 30:
            assert titles(table) == ["variant", *shown] and width_of(table) <= width
            assert "cut in the middle" in lines[-1]
        cut = [row[0].text for row in table.cells]
        assert len(set(cut)) == 3 and cut[2] == "popularity", "each can be told from the others"
        assert all(name == short or width > 30 for name, short in zip(names, cut, strict=True)), "16 is the least"
    table, lines = Shown(width=200).of(Table(columns, rows))
    assert [row[0].text for row in table.cells] == names and not lines


def test_what_was_left_out_is_named_as_it_is_typed() -> None:
    _, (line,) = Shown(width=30).of(TABLE)
    assert "30 wide: stopped_by, mde;" in line and "--wide" in line


def test_columns_by_name() -> None:
    table, line = Shown(["p", "MDE", " stopped by"]).of(TABLE)
    assert titles(table) == ["p", "MDE (80 % power)", "stopped by"] and not line
    assert ALL.of(TABLE) == (TABLE, [])
    with pytest.raises(RecsysLabError, match="--columns 'q'; known: mde, p, stopped_by, variant"):
        Shown(["p", "q"]).of(TABLE)


def test_a_metric_needs_no_cutoff() -> None:
    table = Table([Column("ndcg@10", ".1f"), Column("ndcg@20", ".1f"), Column("p", "p")], [])
    assert titles(Shown(["ndcg", "ndcg@20"]).of(table)[0]) == ["ndcg@10", "ndcg@20"]


def test_a_narrow_column_has_room_where_a_wide_one_has_none() -> None:
    difference = Column("difference", spare=1)
    table = Table([COLUMNS[0], difference, COLUMNS[3]], [{**ROWS[0], "difference": "d" * 30}])
    shown, (line,) = Shown(width=40).of(table)
    assert titles(shown) == ["variant", "p"] and "40 wide: difference;" in line


def test_words_are_wrapped_and_numbers_stay_whole() -> None:
    table = Table([Column("share", ".1%"), Column("what"), Column("of")], [])
    rows = [{"share": 0.5, "what": "one two three four five six seven", "of": "a_name_that_can_not_be_broken"}]
    shown = text(replace(table, rows=rows), width=60)
    assert shown == (
        " share  what                   of\n"
        "50.0 %  one two three four     a_name_that_can_not_be_broken\n"
        "        five six seven"
    )
    assert text(replace(table, rows=rows)).count("\n") == 1
    assert (
        document([replace(table, rows=rows)], ["note " * 20], "text", 60) == f"{shown}\n\n{wrapped('note ' * 20, 60)}"
    )


def test_lines_of_words_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    assert terminal_width() == 24
    row, path = "a row of a table    0.5  0.25", "/a/path/that/no/terminal/breaks"
    assert wrapped(f"{row}\n  a line of more words than fit\n{path}\n\nend") == (
        f"{row}\n  a line of more words\n    than fit\n{path}\n\nend"
    )
