"""What `prepare` says of events that may not be meant as events: rows labelled 0, and event types of several kinds."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

import polars as pl
import pytest

from recsys_lab.cli import main
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading.frames import FrameSource

ROWS = 40
LABELS = "column 'label' holds only 0 and 1: its 30 rows of 0 are kept as events too"
TYPES = "event_type holds purchase (26), cancel (14): all are kept; "


def log_with(**columns: object) -> pl.DataFrame:
    users, items = [row % 4 for row in range(ROWS)], [row % 7 for row in range(ROWS)]
    return pl.DataFrame({"user_id": users, "item_id": items, "timestamp": range(10**9, 10**9 + ROWS), **columns})


def labels() -> list[int]:
    return [int(row % 4 == row // 4 % 4) for row in range(ROWS)]


def types() -> list[str]:
    return ["cancel" if row % 3 == 1 or row == 0 else "purchase" for row in range(ROWS)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "true and false"])
def test_rows_labelled_0_are_named_and_the_named_options_drop_them(form: str, here: Path, capsys) -> None:
    log = log_with(label=labels())
    if form == "true and false":
        log = log.with_columns(pl.col("label").cast(pl.Boolean))
    file = f"log.{form}" if form in ("csv", "tsv", "jsonl") else "log.parquet"
    {"csv": log.write_csv, "tsv": lambda f: log.write_csv(f, separator="\t"), "jsonl": log.write_ndjson}.get(
        form, log.write_parquet
    )(file)
    assert main(["prepare", "--input", file]) == 0
    said = capsys.readouterr().err
    options = "--keep 'label=1'"
    assert said.count(f"{LABELS}; to keep the 1s only: {options}") == 1
    assert main(["prepare", "--input", file]) == 0
    assert LABELS in capsys.readouterr().err, "a set that is reused has them too"
    data = ProcessedDataset.open("data/log")
    assert data.num_events == ROWS
    assert data.manifest["binary_column"] == {"name": "label", "is_rating": False, "zeros": 30, "ones": 10}
    assert main(["prepare", "--input", file, "--name", "ones", *shlex.split(options)]) == 0
    assert "holds only" not in capsys.readouterr().err
    assert ProcessedDataset.open("data/ones").num_events == 10


@pytest.mark.parametrize("name", ["clicked", "is_click", "Label", "purchased", "isClicked"])
def test_other_names_of_labels(name: str, here: Path, capsys) -> None:
    log_with(**{name: labels()}).write_csv("log.csv")
    assert main(["prepare", "--input", "log.csv"]) == 0
    assert f"--keep '{name}=1' --replace" in capsys.readouterr().err


def test_a_rating_of_0_and_1_needs_one_option(here: Path, capsys) -> None:
    log_with(rating=labels()).write_csv("log.csv")
    assert main(["prepare", "--input", "log.csv"]) == 0
    assert "column 'rating' holds only 0 and 1" in (said := capsys.readouterr().err)
    assert "to keep the 1s only: --keep 'rating=1' --replace\n" in said


@pytest.mark.parametrize(
    "column",
    [
        {"label": [1] * ROWS},  # nothing but events
        {"label": [row % 3 for row in range(ROWS)]},
        {"label": ["yes", "no"] * (ROWS // 2)},
        {"label": [[0], [1]] * (ROWS // 2)},
        {"label": [None] * ROWS},
        {"is_mobile": [0, 1] * (ROWS // 2)},  # a feature, by its name
        {"event_type": ["click"] * ROWS},
        {"rating": [row % 5 for row in range(ROWS)]},
    ],
)
def test_nothing_is_said_where_every_row_may_be_an_event(column: dict[str, list[object]], here: Path, capsys) -> None:
    log_with(**column).write_parquet("log.parquet")
    assert main(["prepare", "--input", "log.parquet"]) == 0
    said = capsys.readouterr().err
    assert "holds" not in said and "are kept" not in said


def test_event_types_are_counted_and_the_option_keeps_one(here: Path, capsys) -> None:
    log_with(kind=types()).write_csv("log.csv")
    given = ["prepare", "--input", "log.csv", "--event_type_column", "kind"]
    assert main(given) == 0
    assert capsys.readouterr().err.count(TYPES + "--keep 'event_type=purchase' --replace keeps one") == 1
    data = ProcessedDataset.open("data/log")
    assert data.manifest["event_type_counts"] == {"purchase": 26, "cancel": 14}
    assert data.event_type_names == ["cancel", "purchase"]
    assert main([*given, "--name", "bought", "--keep", "event_type=purchase"]) == 0
    assert "are kept" not in capsys.readouterr().err
    bought = ProcessedDataset.open("data/bought")
    assert (bought.num_events, bought.manifest["event_type_counts"]) == (26, {"purchase": 26})


def test_many_event_types_are_cut(here: Path, capsys) -> None:
    log_with(event_type=[f"t{row % 10}" for row in range(ROWS)]).write_csv("log.csv")
    assert main(["prepare", "--input", "log.csv"]) == 0
    assert "t5 (4) and 4 more: all are kept" in capsys.readouterr().err


def test_frames_say_it_in_python(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = FrameSource(log_with(label=labels(), event_type=types()))
    with caplog.at_level(logging.WARNING, "recsys_lab"):
        prepare(source, PrepareSettings(), tmp_path / "set", tmp_path / "raw")
    assert f"{LABELS}; to keep the 1s only: keep=['label=1']" in caplog.text
    assert f"{TYPES}keep=['event_type=purchase'] keeps one" in caplog.text
