#!/usr/bin/env python3
"""What shards cost: the speed of reading them from a folder and from S3, and how well they are shuffled.

    scripts/benchmarks/shards.py --markdown page.md                     # made logs; S3 is moto's server on this machine
    scripts/benchmarks/shards.py --events 10_000_000 --epochs 0         # cutting and reading alone

- **Reading**: one epoch of training batches, in a process of its own, in seconds of a processor and by the clock.
  From S3 the first epoch fetches the shards into an empty cache, the second one finds them there.
- **Shuffling**: the whole set against shards, `at once` of them shuffled together. Training loss of each epoch and
  NDCG@10 of the last validation of a small GRU4Rec. Serial correlation: of the mean user of a batch, and of its mean
  time, with those of the next batch. A full shuffle has none.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import Row, busy_cores, child, groups, head, line, measured, median, not_idle, parser_of, publish, run

WAYS = ("whole", "shards", "S3, first epoch", "S3, second epoch")
MADE = {"items": 2_000}


def main() -> int:
    parser = parser_of(__doc__, "shards.jsonl", rounds=3)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the made log (default 1,000,000)")
    parser.add_argument("--length", type=int, default=50, help="mean events of a user (default 50)")
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3, help="of the training that compares shuffles; 0 = none")
    args = parser.parse_args()
    rows, lines = measured(measurements(args), args, events=args.events, shards=args.shards)
    publish([*lines, *reading(rows), *shuffling(rows), *not_idle(rows)], args.markdown)
    return 0


def measurements(args: Any) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="shards-") as folder:
        shared = {"folder": folder, "shards": args.shards}
        made = child(__file__, args.threads, kind="make", events=args.events, length=args.length, **shared, **MADE)
        yield {"what": "cut", "round": 0, "busy_cores_before": busy_cores(1.0), **made}
        for turn in range(args.rounds):
            busy = busy_cores(1.0)
            for way in ("whole", "shards"):
                yield {
                    "what": "read",
                    "way": way,
                    "round": turn,
                    "busy_cores_before": busy,
                    **child(__file__, args.threads, kind="read", way=way, **shared),
                }
            for row in child(__file__, args.threads, kind="read_s3", **shared)["rows"]:
                yield {"what": "read", "round": turn, "busy_cores_before": busy, **row}
        if args.epochs:
            for way, at_once in (("whole", 0), ("shards", 1), ("shards", 4), ("shards", 16)):
                found = child(
                    __file__, args.threads, kind="train", way=way, at_once=at_once, epochs=args.epochs, **shared
                )
                yield {"what": "shuffle", "way": way, "at_once": at_once, "round": 0, "busy_cores_before": 0.0, **found}


def reading(rows: list[Row]) -> list[str]:
    cut = next(row for row in rows if row["what"] == "cut")
    lines = ["", f"Prepared in {cut['prepare_s']:.1f} s of a processor, cut in {cut['cut_s']:.1f}: {cut['mb']:.0f} MB."]
    lines += head("an epoch of batches", "seconds of a processor", "by the clock", "speed / that of shards")
    found = {way: here for (way,), here in groups([row for row in rows if row["what"] == "read"], "way")}
    base = median(found["shards"], "processor_s") or 1.0
    for way in WAYS:
        own, clock = median(found[way], "processor_s") or 0.0, median(found[way], "clock_s") or 0.0
        lines.append(line(way, f"{own:.2f}", f"{clock:.2f}", f"{base / own:.2f}"))
    return lines


def shuffling(rows: list[Row]) -> list[str]:
    lines = head("shuffled", "training loss of each epoch", "val NDCG@10", "correlation of users", "of times")
    for row in (row for row in rows if row["what"] == "shuffle"):
        name = "the whole set" if row["way"] == "whole" else f"{row['at_once']} shards at once"
        curve = ", ".join(f"{loss:.4f}" for loss in row["losses"])
        lines.append(line(name, curve, f"{row['ndcg']:.4f}", f"{row['users']:+.3f}", f"{row['times']:+.3f}"))
    return lines


# -- in a process of its own -------------------------------------------------------------------------------------------


def make(job: Row) -> Row:
    """A made log whose next item is mostly near the last one, prepared and cut."""
    import numpy as np
    import polars as pl

    from recsys_lab.data.batches.epoch_size import drawn_lengths
    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.data.prepare.processed import ProcessedDataset
    from recsys_lab.data.shards.cut_shards import cut

    rng, lengths = np.random.default_rng(0), drawn_lengths(job["events"] // job["length"], job["events"])
    total = int(lengths.sum())
    jumps = np.where(rng.random(total) < 0.7, rng.integers(1, 4, total), rng.integers(0, job["items"], total))
    frame = {"user_id": np.repeat(np.arange(len(lengths)), lengths), "item_id": np.cumsum(jumps) % job["items"]}
    started = time.process_time()
    log = pl.DataFrame(frame | {"timestamp": np.sort(rng.integers(1_700_000_000, 1_731_536_000, total))})
    SequenceDataModule.from_frames(log, name="whole", data_dir=job["folder"])
    prepared, home = time.process_time(), Path(job["folder"])
    cut(home / "whole", home / "shards", job["shards"])
    from recsys_lab.runs.environment import describe_environment

    files = [path.stat().st_size for path in (home / "shards").rglob("*") if path.is_file()]
    own = {"prepare_s": prepared - started, "cut_s": time.process_time() - prepared, "mb": sum(files) / 1e6}
    return own | {"num_events": ProcessedDataset.open(home / "whole").num_events, "environment": describe_environment()}


def module(dataset: str, **settings: Any) -> Any:
    from recsys_lab.data.datamodule import SequenceDataModule

    return SequenceDataModule(dataset, max_length=50, batch_size=128, **settings)


def epoch(data: Any) -> dict[str, float]:
    loader = data.train_dataloader()
    own, clock, windows = time.process_time(), time.perf_counter(), 0
    for batch in loader:
        windows += len(batch)
    return {"processor_s": time.process_time() - own, "clock_s": time.perf_counter() - clock, "windows": windows}


def read(job: Row) -> Row:
    data = module(str(Path(job["folder"]) / job["way"]))
    epoch(data)  # the system has the pages now, as the second epoch of a training finds them
    return epoch(data)


def read_s3(job: Row) -> Row:
    """Both epochs, from a server in this process: its time is not counted by the second one."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(keys, AWS_ENDPOINT_URL=f"http://{host}:{port}")
    store, home = boto3.client("s3"), Path(job["folder"]) / "shards"
    store.create_bucket(Bucket="logs")
    for path in home.rglob("*"):
        if path.is_file():
            store.upload_file(str(path), "logs", path.relative_to(home).as_posix())
    cache = Path(job["folder"]) / "cache"
    data = module("s3://logs", cache_dir=str(cache))
    rows = [{"way": way, **epoch(data)} for way in WAYS[2:]]
    server.stop()
    shutil.rmtree(cache)
    return {"rows": rows}


def train(job: Row) -> Row:
    import lightning as L
    import numpy as np
    from harness import QUIET

    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.models import GRU4Rec

    L.seed_everything(0, verbose=False)
    data = module(str(Path(job["folder"]) / job["way"]), shuffle_shards=max(job["at_once"], 1))
    losses: list[float] = []

    class Curve(L.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            losses.append(float(trainer.callback_metrics["train/loss"]))

    evaluation = RankingEvaluation()
    trainer = L.Trainer(**QUIET, max_epochs=job["epochs"], callbacks=[evaluation, Curve()], num_sanity_val_steps=0)
    trainer.fit(GRU4Rec(embedding_dim=32), data)
    windows, batches = data.train_windows, list(data.train_dataloader().sampler)
    times = np.asarray(data.processed.timestamps)
    users = np.array([windows.user_index[batch].mean() for batch in batches])
    moments = np.array([times[windows.start[batch]].mean() for batch in batches])
    return {
        "losses": losses,
        "ndcg": evaluation.last_metrics["val/ndcg@10"],
        "users": float(np.corrcoef(users[1:], users[:-1])[0, 1]),
        "times": float(np.corrcoef(moments[1:], moments[:-1])[0, 1]),
    }


if __name__ == "__main__":
    sys.exit(run(main, {one.__name__: one for one in (make, read, read_s3, train)}))
