"""What an offline W&B run stored, read back from its file."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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


def offline_runs(folder: Path) -> list[Path]:
    """Directories of the offline runs right below `folder`/wandb, in the order of their start."""
    return sorted((folder / "wandb").glob("offline-run-*"))


def stored(run: Path, wait_seconds: float = 30.0) -> dict[str, Any]:
    """config, summary, history, artifacts, exit code and run record of one offline run directory.

    The writing process is another one (wandb-core), and may end its file shortly after `finish` returned.
    """
    from wandb.proto import wandb_internal_pb2

    end = time.monotonic() + wait_seconds
    while True:
        found: dict[str, Any] = {"config": {}, "summary": {}, "history": [], "artifacts": []}
        (file,) = run.glob("*.wandb")
        for data in log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            _add(found, record)
        if "exit_code" in found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def _add(found: dict[str, Any], record: Any) -> None:
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
    if record.HasField("request") and record.request.HasField("log_artifact"):
        found["artifacts"].append(record.request.log_artifact.artifact)
    if record.HasField("artifact"):
        found["artifacts"].append(record.artifact)
    if record.HasField("exit"):
        found["exit_code"] = record.exit.exit_code
