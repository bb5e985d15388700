"""scripts/benchmarks/fields.py: one run of our side, and the windows that RePlay reads."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from recsys_lab.data.datamodule import SequenceDataModule

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "fields.py"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    rows = [(user, (user + step) % 7, 100 * user + step, "ab"[step % 2]) for user in range(12) for step in range(6)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "device"], orient="row")
    items = pl.DataFrame({"item_id": range(7), "brand": list("xyxyxyx"), "tags": [["u"], ["v", "u"]] * 3 + [None]})
    users = pl.DataFrame({"user_id": range(12), "sex": list("fm") * 6})
    return SequenceDataModule.from_frames(events, items, users, data_dir=tmp_path).processed.path


def test_both_read_the_same_windows(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("benchmark_fields", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    file = tmp_path / "windows.parquet"
    job = {"folder": str(shop), "max_length": 3, "batch_size": 4, "max_windows_per_user": 1, "file": str(file)}
    fields = ["device", "item.brand", "item.tags", "user.sex"]
    told = module.export_windows({**job, "fields": fields})
    assert told["num_items"] == 7 and told["sizes"]["item_tags"] == {"size": 4, "width": 2}
    frame, data = pl.read_parquet(file), SequenceDataModule(str(shop), max_length=3, fields=fields)
    assert frame.height == 12 and frame["item_id"].list.len().unique().to_list() == [4], "three inputs and a target"
    for row in frame.iter_rows(named=True):
        ids = [item + 1 for item in row["item_id"]]
        assert row["item_brand"] == data.item_fields["brand"][ids].tolist()
        tags = [[code for code in codes if code] for codes in data.item_fields["tags"][ids].tolist()]
        assert row["item_tags"] == tags and len(set(row["user_sex"])) == 1 and row["event_device"][0] in (2, 3)
    ours = sum(len(targets) - 1 for targets in frame["item_id"])
    data = SequenceDataModule(str(shop), max_length=3, max_windows_per_user=1)
    assert ours == data.train_windows.num_targets


@pytest.mark.process
def test_a_run_of_few_steps(shop: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--even-if-busy", "--threads", "1", "--rounds", "1", "--epochs", "1"]
    command += ["--folder", shop, "--fields", "device,item.tags", "--length", "3", "--batch-size", "4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "benchmark_fields.jsonl").open()]
    assert [row["fields"] for row in rows] == ["ids alone", "device, item.tags"]
    assert rows[0]["targets_per_epoch"] == rows[1]["targets_per_epoch"] == 36
    assert "| recsys-lab | ids alone |" in done.stdout and " | 1.00 | " in done.stdout
