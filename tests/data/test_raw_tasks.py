"""A log that is read in tasks becomes the folder that one process makes of it, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_lab.cli import main
from recsys_lab.data.prepare.pipeline import prepare
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading import parts
from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import FileSource
from recsys_lab.data.shards import task_queue
from recsys_lab.data.shards.raw_tasks import prepare_in_tasks, tasks_folder
from recsys_lab.data.shards.task_queue import TaskQueue
from recsys_lab.words import RecsysLabError


def made_log(rows: int = 3_000, seed: int = 0) -> pl.DataFrame:
    """Text users, ties in time, types, and a further column of every kind that text and Parquet can hold."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in rng.zipf(1.3, rows) % 200],
            "item_id": rng.zipf(1.4, rows) % 90,
            "timestamp": 1_600_000_000 + rng.integers(0, 400, rows) * 500,
            "event_type": rng.choice(["view", "buy", "cart"], rows),
            "price": rng.integers(0, 3_000, rows) / 100,
            "shop": [f"s{shop}" for shop in rng.integers(0, 40, rows)],
            "note": [f"note {note}" if note % 5 else None for note in rng.integers(0, 10**6, rows)],
            "tags": ["|".join(map(str, tags)) for tags in rng.integers(0, 9, (rows, 2))],
            "level": rng.integers(0, 5, rows),
        }
    )


def same_folders(one: Path, other: Path) -> None:
    files = [{path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (one, other)]
    assert files[0] == files[1] and len(files[0]) > 5
    for name in files[0] - {Path("stamp.json"), Path("manifest.json")}:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    manifests = [json.loads((root / "manifest.json").read_text()) for root in (one, other)]
    for manifest in manifests:
        del manifest["created"], manifest["seconds"]
    assert manifests[0] == manifests[1]


def compare(source: FileSource, settings: PrepareSettings, folder: Path, shards: int = 5) -> ProcessedDataset:
    whole = prepare(source, settings, folder / "whole", folder / "raw")
    found = prepare_in_tasks(source, settings, folder / "tasks", folder / "raw", shards)
    same_folders(whole.path, found.path)
    assert found.data_hash == whole.data_hash and not tasks_folder(found.path).exists()
    return found


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PIECE_ROWS", 700)


FIELDS = ["tags=multi", "shop=item.categorical", "level=user.numeric"]
SETTINGS = {
    "plain": PrepareSettings(),
    "core": PrepareSettings(min_user_events=5, min_item_events=4, min_length=6),
    "one-pass": PrepareSettings(min_user_events=8, min_item_events=9, k_core_iterate=False),
    "filters": PrepareSettings(
        keep=["price>=3"],
        event_types=["view", "buy"],
        duplicates="first",
        consecutive_repeats="drop",
        min_item_events=3,
        min_user_events=3,
    ),
    "hash": PrepareSettings(tie_order="hash", seed=3, duplicates="drop"),
    "random": PrepareSettings(tie_order="random", seed=4, fields=FIELDS),
    "item": PrepareSettings(tie_order="item_id", fields=["*=drop"]),
    "fields": PrepareSettings(fields=FIELDS, min_item_events=5, min_user_events=2),
}

QUICK = ("filters", "fields")


@pytest.mark.parametrize(
    "settings",
    [pytest.param(one, id=name, marks=[pytest.mark.slow] * (name not in QUICK)) for name, one in SETTINGS.items()],
)
def test_it_is_the_same_folder(tmp_path: Path, settings: PrepareSettings, small_pieces: None) -> None:
    made_log().write_parquet(tmp_path / "log.parquet", row_group_size=1_100)
    compare(FileSource(tmp_path / "log.parquet"), settings, tmp_path)


@pytest.mark.parametrize(
    "layout",
    [*("csvs", "parquets"), *(pytest.param(one, marks=pytest.mark.slow) for one in ("csv", "folders", "jsonl", "gz"))],
)
def test_whatever_the_files_are(tmp_path: Path, layout: str, small_pieces: None) -> None:
    log, folder = made_log(), tmp_path / "log"
    folder.mkdir()
    cuts = [log[:900], log[900:901], log[901:]]
    if layout in ("csv", "gz"):
        log.write_csv(folder / "log.csv")
    for number, part in enumerate(cuts):
        if layout == "csvs":
            part.write_csv(folder / f"{number}.csv")
        elif layout == "parquets":  # types that differ, and columns in another order
            types = {"item_id": pl.Int16 if number else pl.Int64, "level": pl.Int8 if number else pl.Int32}
            part.select(log.columns[::-1] if number else log.columns).cast(types).write_parquet(
                folder / f"{number}.parquet", row_group_size=311
            )
        elif layout == "folders":
            (folder / f"day={number}").mkdir()
            part.write_parquet(folder / f"day={number}" / "part.parquet")
        elif layout == "jsonl":
            part.write_ndjson(folder / f"{number}.jsonl")
    if layout == "gz":
        import gzip

        (folder / "log.csv.gz").write_bytes(gzip.compress((folder / "log.csv").read_bytes()))
        (folder / "log.csv").unlink()
    compare(FileSource(folder), SETTINGS["core"], tmp_path)


def test_more_shards_than_users_and_pieces_without_rows(tmp_path: Path, small_pieces: None) -> None:
    made_log(30).write_csv(tmp_path / "log.csv")
    compare(FileSource(tmp_path / "log.csv"), PrepareSettings(min_item_events=2), tmp_path, shards=12)


def test_rows_that_are_left_out(tmp_path: Path) -> None:
    """Empty lines, rows without ids and without times: the order of rows counts those that were dropped before."""
    log = made_log(400).with_columns(pl.col("timestamp").cast(pl.String), pl.lit("2020-01-01").alias("never"))
    folder = tmp_path / "log"
    folder.mkdir()
    for number, part in enumerate((log[:150], log[150:])):
        lines = part.select("user_id", "item_id", "timestamp", "shop").write_csv().splitlines()
        lines[9:9] = ["", "", "NULL,3,1600000000,a", ",4,1600000000,b", "u1,7,not a time,c"]
        (folder / f"{number}.csv").write_text("\n".join(lines) + "\n\n")
    source = FileSource(folder, missing_ids="drop", bad_times="drop")
    found = compare(source, PrepareSettings(tie_order="random", seed=1), tmp_path)
    assert found.manifest["left_out"] == {
        "empty lines": 6,
        "rows without an id": 4,
        "rows without a usable time": 2,
    }


def test_times_ids_and_order_of_other_kinds(tmp_path: Path, small_pieces: None) -> None:
    log = made_log(1_500)
    moment = pl.from_epoch(pl.col("timestamp")).dt.strftime("%Y-%m-%dT%H:%M:%S")
    log = log.with_columns(moment, pl.col("item_id").cast(pl.Float64), pl.arange(log.height, 0, -1).alias("place"))
    folder = tmp_path / "log"
    folder.mkdir()
    for number in range(3):
        log[number * 500 : number * 500 + 500].write_csv(folder / f"{number}.csv")
    columns = Columns(order="place", user="shop")
    compare(FileSource(folder, columns=columns), PrepareSettings(min_item_events=4), tmp_path)


def test_tables_of_items_and_users(tmp_path: Path, small_pieces: None) -> None:
    log = made_log()
    log.write_parquet(tmp_path / "log.parquet")
    items = pl.DataFrame({"item_id": range(0, 90, 2), "title": [f"no {i}" for i in range(45)], "size": range(45)})
    items.write_csv(tmp_path / "items.csv")
    log.select("user_id").unique(maintain_order=True).with_row_index("age").write_parquet(tmp_path / "users.parquet")
    source = FileSource(tmp_path / "log.parquet", items=tmp_path / "items.csv", users=tmp_path / "users.parquet")
    compare(source, PrepareSettings(fields=["item.size=categorical"]), tmp_path)


def test_errors_are_those_of_one_process(tmp_path: Path, small_pieces: None) -> None:
    """They name the first row of the file, and not of a piece; what was begun does no harm."""
    log = made_log(2_000)
    for column, value, settings in (
        ("user_id", None, PrepareSettings()),
        ("timestamp", -5, PrepareSettings()),
        ("price", 1.0, PrepareSettings(min_length=10_000)),
        ("price", 1.0, PrepareSettings(event_types=["veiw"])),
    ):
        row = pl.int_range(pl.len()) == 1_777
        log.with_columns(pl.when(row).then(value).otherwise(column).alias(column)).write_parquet(tmp_path / "a.parquet")
        source, said = FileSource(tmp_path / "a.parquet"), []
        for call in (prepare, lambda *given: prepare_in_tasks(*given, 3)):  # type: ignore[misc]
            with pytest.raises(RecsysLabError) as error:
                call(source, settings, tmp_path / "set", tmp_path / "raw")
            said.append(str(error.value))
        assert said[0] == said[1] and not (tmp_path / "set").exists()
    log.write_parquet(tmp_path / "a.parquet")
    compare(FileSource(tmp_path / "a.parquet"), PrepareSettings(), tmp_path)


def words(folder: Path, data: str, *more: str) -> list[str]:
    shop = ["prepare", "--input", str(folder / "log.parquet"), "--name", "shop", "--min_item_events", "3"]
    return [*shop, "--data_dir", str(folder / data), "--shards", "4", *more]


def test_processes_and_tasks_of_a_job_array(tmp_path: Path) -> None:
    made_log().write_parquet(tmp_path / "log.parquet")
    assert main(words(tmp_path, "one")) == 0
    assert main(words(tmp_path, "processes", "--processes", "2")) == 0
    for number in (3, 0, 2, 1):
        assert main(words(tmp_path, "array", "--shard", str(number))) == 0
    assert main(words(tmp_path, "array")) == 0
    for data in ("processes", "array"):
        same_folders(tmp_path / "one" / "shop", tmp_path / data / "shop")
        for path in (tmp_path / "one" / "shop-4-shards").rglob("*.npy"):
            other = tmp_path / data / path.relative_to(tmp_path / "one")
            assert other.read_bytes() == path.read_bytes()
        assert not tasks_folder(tmp_path / data / "shop").exists()


def test_what_is_in_the_way_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_log(100).write_parquet(tmp_path / "log.parquet")
    assert main(words(tmp_path, "data", "--shard", "1", "--force")) == 2
    assert "without --shard" in capsys.readouterr().err
    shown = ["--impressions", str(tmp_path / "log.parquet"), "--shard", "1"]
    assert main(words(tmp_path, "data", *shown)) == 2
    assert "--impressions can't be in shards yet" in capsys.readouterr().err


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_task_that_two_processes_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_locks: bool) -> None:
    """With locks the other leaves it alone. Without, both do it, and one result stays."""
    if not has_locks:
        monkeypatch.setattr(task_queue, "fcntl", None)
    did = []

    def task(number: int, to: Path) -> None:
        did.append(number)
        if len(did) == 1:
            other = TaskQueue(tmp_path)
            if has_locks:
                assert not other._is_done(tmp_path / "round", number, task)
            else:
                assert other._is_done(tmp_path / "round", number, task)
        (to / "result").write_text("same")

    assert (TaskQueue(tmp_path).do("round", 1, task) / "00000" / "result").read_text() == "same"
    assert did == [0] * (1 if has_locks else 2)
    assert sorted(path.name for path in (tmp_path / "round").iterdir()) == [".00000.lock", "00000"]


def killed(folder: Path, seconds: float, number: int) -> bool:
    """One run of the command, killed with its processes after a while. Whether it was still at work."""
    command = [sys.executable, "-m", "recsys_lab.cli", *words(folder, "killed", "--processes", "2")]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as run:
        end = time.monotonic() + 60
        while run.poll() is None and time.monotonic() < end:
            if len(list((folder / "killed").glob(".shop.tasks/*/[0-9]*"))) >= number:
                break
            time.sleep(0.005)
        time.sleep(seconds)
        was_at_work = run.poll() is None
        os.killpg(run.pid, signal.SIGKILL) if was_at_work else None
        return was_at_work


@pytest.mark.process
def test_tasks_of_a_job_array_at_the_same_time(tmp_path: Path) -> None:
    """Three of them begin together, the fourth is missing: the last call does what it would have done."""
    made_log().write_parquet(tmp_path / "log.parquet")
    command = [sys.executable, "-m", "recsys_lab.cli"]
    tasks = [
        subprocess.Popen([*command, *words(tmp_path, "array", "--shard", str(number))], stdout=subprocess.DEVNULL)
        for number in (2, 1, 0)
    ]
    assert [task.wait(120) for task in tasks] == [0, 0, 0]
    assert main(words(tmp_path, "one")) == 0 and main(words(tmp_path, "array")) == 0
    same_folders(tmp_path / "one" / "shop", tmp_path / "array" / "shop")
    assert main(["verify", str(tmp_path / "array" / "shop-4-shards")]) == 0


@pytest.mark.process
@pytest.mark.parametrize("number", [1, 4, 9, 14])
def test_killed_and_run_again(tmp_path: Path, number: int) -> None:
    """Killed when so many tasks are done; the same command goes on."""
    made_log().write_parquet(tmp_path / "log.parquet")
    assert killed(tmp_path, 0.01, number)
    assert not (tmp_path / "killed" / "shop").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob(".shop.tasks/raw*/0*")}
    assert main(words(tmp_path, "one")) == 0
    shutil.copytree(tmp_path / "killed", tmp_path / "copy")
    assert main(words(tmp_path, "killed", "--processes", "2")) == 0
    same_folders(tmp_path / "one" / "shop", tmp_path / "killed" / "shop")
    assert kept or number == 1
