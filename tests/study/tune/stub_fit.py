"""A fit without training, for tests of searches: writes the files of a run folder epoch by epoch, and is told by the
configuration what to do. Started as `fit` is: with `--config`, or with a run folder to go on with.

The value of trial k at its last epoch is `stub.values[k]`, or else 0.1 + model.dropout; it grows evenly until then.
`stub.fails`, `stub.dies` (once), `stub.always_dies`: trials that end with an error, or are killed. `stub.waits`: trials
that stop after their first epoch until the file `stub.gate` is there. Imports nothing heavy: it starts often.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml


def main(folder: Path) -> int:
    config = yaml.safe_load((folder / "run.yaml").read_text())
    assert config["run"]["test_after_fit"] is False and config["run"]["retrain"] is False
    model = {key.removeprefix("model."): value for key, value in config.items() if key.startswith("model.")}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"class_path": "A", "init_args": model}}))
    number = int(folder.name.removeprefix("trial"))
    checkpoint = folder / "checkpoints" / "last.ckpt"
    first = int(checkpoint.read_text()) + 1 if len(sys.argv) == 2 else 0
    epochs = config.get("stub.epochs", 3)
    best = config.get("stub.values", {}).get(number, 0.1 + config.get("model.dropout", 0.0))
    manifest(folder, "running")
    try:
        for epoch in range(first, epochs):
            row(folder, epoch, best * (epoch + 1) / epochs, config.get("stub.metric", "val/ndcg@10"))
            checkpoint.parent.mkdir(exist_ok=True)
            checkpoint.write_text(str(epoch))
            if number in config.get("stub.fails", []):
                print("RuntimeError: the stub fails")
                manifest(folder, "error")
                return 1
            dies = number in config.get("stub.dies", []) and first == 0
            if dies or number in config.get("stub.always_dies", []):
                os.kill(os.getpid(), signal.SIGKILL)
            while epoch == 0 and number in config.get("stub.waits", []) and not Path(config["stub.gate"]).exists():
                time.sleep(0.02)
    except KeyboardInterrupt:
        manifest(folder, "interrupted")
        return 130
    manifest(folder, "max_epochs")
    return 0


def manifest(folder: Path, stopped_by: str) -> None:
    write(folder / "manifest.json", json.dumps({"stopped_by": stopped_by, "wall_seconds": 1000.0}))


def row(folder: Path, epoch: int, value: float, metric: str) -> None:
    path = folder / "metrics.csv"
    before: list[dict[str, Any]] = list(csv.DictReader(path.open())) if path.is_file() and epoch else []
    lines = [f"epoch,{metric}", *(f"{one['epoch']},{one[metric]}" for one in before), f"{epoch},{value}"]
    write(path, "\n".join(lines) + "\n")


def write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[-1])))
