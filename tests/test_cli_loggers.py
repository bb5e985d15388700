"""W&B and TensorBoard: a real offline W&B run is read back from the file that it stored."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_runs import fit

from recsys_lab.cli import main


def log_records(data: bytes) -> Iterator[bytes]:
    """The records of a `.wandb` file: a LevelDB log (blocks of 32 KiB, parts with a 7-byte header) behind 7 bytes."""
    assert data[:4] == b":W&B"
    at, whole = 7, b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:  # a header never crosses blocks
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the record is complete: one part, or the last of several
            yield whole
            whole = b""


def stored(folder: Path) -> dict[str, Any]:
    """config, summary, history and run record of the one offline run below `folder`."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    found: dict[str, Any] = {"config": {}, "summary": {}, "history": []}
    for data in log_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            found["run"] = record.run
            found["config"] |= {u.key: json.loads(u.value_json) for u in record.run.config.update if u.key}
        if record.HasField("config"):
            found["config"] |= {u.key: json.loads(u.value_json) for u in record.config.update if u.key}
        if record.HasField("summary"):
            names = ((u.key or ".".join(u.nested_key), u.value_json) for u in record.summary.update)
            found["summary"] |= {name: json.loads(value) for name, value in names}
        if record.HasField("history"):
            items = ((i.key or ".".join(i.nested_key), i.value_json) for i in record.history.item)
            found["history"].append({name: json.loads(value) for name, value in items})
    return found


def test_wandb_offline(small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert fit(small_folder, tmp_path, "--run.logger", "wandb") == 0
    folder = tmp_path / "small" / "sasrec" / "seed0"
    run = stored(folder)
    assert run["run"].project == "small" and run["run"].display_name == "sasrec-seed0"
    assert set(run["run"].tags) == {"small", "sasrec", "SASRec"}
    assert run["config"]["model"]["init_args"]["embedding_dim"] == 8
    assert run["config"]["data"]["dataset"] == str(small_folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert run["summary"]["test/ndcg@10"] == pytest.approx(metrics["test/ndcg@10"])
    assert run["summary"]["val/ndcg@10"] == pytest.approx(metrics["val/ndcg@10"])
    assert run["summary"]["stopped_by"] == "max_epochs" and run["summary"]["parameters"] > 0
    assert sum("val/ndcg@10" in row for row in run["history"]) == 2, "one value per epoch"


def test_tensorboard(small_folder: Path, tmp_path: Path) -> None:
    assert fit(small_folder, tmp_path, "--run.logger", "tensorboard") == 0
    assert list((tmp_path / "small" / "sasrec" / "seed0" / "tensorboard").glob("events.*"))


def test_loggers_are_imported_only_when_chosen() -> None:
    code = "import sys, recsys_lab.cli.lightning; print({'wandb', 'tensorboard'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_unknown_logger(small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(small_folder, tmp_path, "--run.logger", "wandbb") == 2
    assert "run.logger" in capsys.readouterr().err
    assert main(["fit", "--model", "SASRec", "--run.logger", "wandb", "--print_config"]) == 0
