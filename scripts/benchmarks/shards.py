#!/usr/bin/env python3
"""What shards cost: the speed of reading them from a folder and from S3, and how well they are shuffled.

    scripts/benchmarks/shards.py --markdown page.md                     # made logs; S3 is moto's server on this machine
    scripts/benchmarks/shards.py --events 10_000_000 --epochs 0         # cutting and reading alone: S3 against a folder
    scripts/benchmarks/shards.py --input ratings.parquet --rounds 0     # shuffling alone, of a log of your own

- **Reading**: one epoch of training batches, in a process of its own, in seconds of a processor and by the clock.
  From S3 the first epoch fetches the shards into an empty cache, the second one finds them there.
- **Shuffling**: the whole set against shards, `at once` of them shuffled together. Training loss and NDCG@10 of
  validation after each epoch of a small GRU4Rec with sampled negatives. Serial correlation: of the mean user of a
  batch, of its mean time and of how often its items occur, with those of the next batch, over many epochs. A full
  shuffle has none.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import Row, busy_cores, child, groups, head, line, measured, median, not_idle, parser_of, publish, run

WAYS = ("whole", "shards", "S3, first epoch", "S3, second epoch")
MADE = {"items": 2_000}
SHUFFLED = (("whole", 0), ("shards", 1), ("shards", 4), ("shards", 16))
SPEEDS = ("speed, of shards in a folder = 1", "the same by the clock")
LOOKED_AT = ("users", "times", "popularity")
ORDERS = 10
"""Epochs whose order is looked at for its serial correlation, of each seed."""


def main() -> int:
    parser = parser_of(__doc__, "shards.jsonl", rounds=3)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the made log (default 1,000,000)")
    parser.add_argument("--length", type=int, default=50, help="mean events of a user (default 50)")
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--input", help="a log of your own in place of a made one")
    parser.add_argument("--epochs", type=int, default=3, help="of the training that compares shuffles; 0 = none")
    parser.add_argument("--seeds", type=int, default=3, help="of that training (default 3)")
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side (default 1)")
    parser.add_argument("--batch-size", type=int, default=128, help="of that training (default 128)")
    args = parser.parse_args()
    rows, lines = measured(measurements(args), args, events=args.events, shards=args.shards)
    read = reading(rows) if args.rounds else []
    publish([*lines, *read, *(shuffling(rows) if args.epochs else []), *not_idle(rows)], args.markdown)
    return 0


def measurements(args: Any) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="shards-") as folder:
        shared = {"folder": folder, "shards": args.shards}
        of_log = {"input": args.input, "events": args.events, "length": args.length}
        made = child(__file__, args.threads, kind="make", **of_log, **shared, **MADE)
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
        trained = {"kind": "train", "epochs": args.epochs, "batch_size": args.batch_size, **shared}
        seeds = range(args.seeds if args.epochs else 0)
        jobs = [{"way": way, "at_once": at_once, "seed": seed} for seed in seeds for way, at_once in SHUFFLED]
        with ThreadPoolExecutor(args.at_once) as pool:  # of processes that are not timed
            found = pool.map(lambda job: child(__file__, args.threads, **job, **trained), jobs)
            for job, row in zip(jobs, found, strict=True):
                yield {"what": "shuffle", "round": 0, "busy_cores_before": 0.0, **job, **row}


def reading(rows: list[Row]) -> list[str]:
    cut = next(row for row in rows if row["what"] == "cut")
    lines = ["", f"Prepared in {cut['prepare_s']:.1f} s of a processor, cut in {cut['cut_s']:.1f}: {cut['mb']:.0f} MB."]
    lines += head("an epoch of batches", "seconds of a processor", "by the clock", *SPEEDS)
    found = {way: here for (way,), here in groups([row for row in rows if row["what"] == "read"], "way")}
    seconds = {way: [median(found[way], name) or 1.0 for name in ("processor_s", "clock_s")] for way in WAYS}
    for way, own in seconds.items():
        speeds = [base / one for base, one in zip(seconds["shards"], own, strict=True)]
        lines.append(line(way, *(f"{value:.2f}" for value in (*own, *speeds))))
    return lines


def shuffling(rows: list[Row]) -> list[str]:
    """Means over the seeds, with the deviation of one seed; of correlations with the standard error of the mean."""
    rows = [row for row in rows if row["what"] == "shuffle"]
    epochs = range(1, len(rows[0]["losses"]) + 1)
    lines = head("shuffled", *(f"training loss, epoch {epoch}" for epoch in epochs))
    found = [(name_of(*key), here) for key, here in groups(rows, "way", "at_once")]
    lines += [line(name, *spread([row["losses"] for row in here], 4)) for name, here in found]
    lines += head("shuffled", *(f"val NDCG@10, epoch {epoch}" for epoch in epochs))
    lines += [line(name, *spread([row["ndcg"] for row in here], 4)) for name, here in found]
    lines += head("shuffled", "batches of an epoch", *(f"correlation of {what}" for what in LOOKED_AT))
    for name, here in found:
        own = [[value for row in here for value in row[what]] for what in LOOKED_AT]
        lines.append(line(name, here[0]["batches"], *spread(list(zip(*own, strict=True)), 3, of_mean=True)))
    return lines


def name_of(way: str, at_once: int) -> str:
    return "the whole set" if way == "whole" else f"{at_once} shard{'s' * (at_once > 1)} at once"


def spread(rows: list[Any], digits: int, of_mean: bool = False) -> list[str]:
    """Of each column the mean and the deviation."""
    found = []
    for values in zip(*rows, strict=True):
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        deviation /= len(values) ** 0.5 if of_mean else 1
        found.append(f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}")
    return found


# -- in a process of its own -------------------------------------------------------------------------------------------


def make(job: Row) -> Row:
    """A log of the user's, or a made one whose next item is mostly near the last one, prepared and cut."""
    import numpy as np
    import polars as pl

    from recsys_lab.data.batches.epoch_size import drawn_lengths
    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.data.prepare.processed import ProcessedDataset
    from recsys_lab.data.prepare_files import OwnFiles, prepare_files
    from recsys_lab.data.shards.cut_shards import cut

    started = time.process_time()
    if job["input"]:
        prepare_files(OwnFiles(input=job["input"], name="whole"), data_dir=job["folder"])
    else:
        rng, lengths = np.random.default_rng(0), drawn_lengths(job["events"] // job["length"], job["events"])
        total = int(lengths.sum())
        jumps = np.where(rng.random(total) < 0.7, rng.integers(1, 4, total), rng.integers(0, job["items"], total))
        frame = {"user_id": np.repeat(np.arange(len(lengths)), lengths), "item_id": np.cumsum(jumps) % job["items"]}
        log = pl.DataFrame(frame | {"timestamp": np.sort(rng.integers(1_700_000_000, 1_731_536_000, total))})
        started = time.process_time()
        SequenceDataModule.from_frames(log, name="whole", data_dir=job["folder"])
    prepared, home = time.process_time(), Path(job["folder"])
    cut(home / "whole", home / "shards", job["shards"])
    from recsys_lab.runs.environment import describe_environment

    files = [path.stat().st_size for path in (home / "shards").rglob("*") if path.is_file()]
    own = {"prepare_s": prepared - started, "cut_s": time.process_time() - prepared, "mb": sum(files) / 1e6}
    return own | {"num_events": ProcessedDataset.open(home / "whole").num_events, "environment": describe_environment()}


def module(dataset: str, **settings: Any) -> Any:
    from recsys_lab.data.datamodule import SequenceDataModule

    return SequenceDataModule(dataset, **{"max_length": 50, "batch_size": 128, **settings})


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
    from recsys_lab.losses import SampledSoftmax
    from recsys_lab.losses.negatives import UniformNegatives
    from recsys_lab.models import GRU4Rec

    L.seed_everything(job["seed"], verbose=False)
    settings = {"batch_size": job["batch_size"], "shuffle_shards": max(job["at_once"], 1)}
    data = module(str(Path(job["folder"]) / job["way"]), **settings)
    losses: list[float] = []
    ndcg: list[float] = []

    class Curve(L.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            losses.append(float(trainer.callback_metrics["train/loss"]))
            ndcg.append(evaluation.last_metrics["val/ndcg@10"])

    evaluation = RankingEvaluation()
    trainer = L.Trainer(**QUIET, max_epochs=job["epochs"], callbacks=[evaluation, Curve()], num_sanity_val_steps=0)
    loss = {"loss": SampledSoftmax(), "negatives": UniformNegatives(64)}
    trainer.fit(GRU4Rec(embedding_dim=32, **loss), data)
    windows, sampler, processed = data.train_windows, data.train_dataloader().sampler, data.processed
    items, often = np.asarray(processed.item_ids), data.item_counts.numpy()
    first = {"users": windows.user_index, "times": np.asarray(processed.timestamps)[windows.start]}
    first["popularity"] = often[items[windows.start]]
    found: Row = {"losses": losses, "ndcg": ndcg, "batches": len(sampler), **{what: [] for what in LOOKED_AT}}
    for sampler.epoch in range(ORDERS):
        batches = list(sampler)
        for what in LOOKED_AT:
            means = np.array([first[what][batch].mean() for batch in batches])
            found[what].append(float(np.corrcoef(means[1:], means[:-1])[0, 1]))
    return found


if __name__ == "__main__":
    sys.exit(run(main, {one.__name__: one for one in (make, read, read_s3, train)}))
