"""One job of prepare.py in a process of its own: `prepare_jobs.py '<job as JSON>'` prints a JSON line.

Jobs (`kind`):

    make_log            writes the log, 2 million rows at a time
    prepare_and_split   ours: seconds and peak memory of `prepare`, then of both splits
    sort_once           polars: one sort of the log by user and time into one Parquet file
    first_batch         opens the prepared set; data module and first training batch, with and without imports
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from harness import peak_mb

ROWS_PER_FILE = 2_000_000
START, YEAR = 1_700_000_000, 365 * 86_400
CORE = 5
ACTIVITY_SIGMA = 1.5


def make_log(job: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import polars as pl

    started = time.perf_counter()
    log = Path(job["log"])
    log.mkdir(parents=True)
    rng = np.random.default_rng(job["seed"])
    activity = np.cumsum(np.exp(ACTIVITY_SIGMA * rng.standard_normal(job["users"])))
    names = {kind: rng.permutation(job[kind]) + 10_000_000 for kind in ("users", "items")}  # popular is not first
    for number, first in enumerate(range(0, job["events"], ROWS_PER_FILE)):
        rng, rows = np.random.default_rng([job["seed"], number]), min(ROWS_PER_FILE, job["events"] - first)
        user = np.searchsorted(activity, rng.random(rows) * activity[-1]).clip(max=job["users"] - 1)
        rank = np.exp(rng.random(rows) * np.log(job["items"] + 1)).astype(np.int64).clip(1, job["items"])
        moment = START + YEAR * (first + rows * np.sort(rng.random(rows))) / job["events"]
        frame = pl.DataFrame(
            {
                "user_id": names["users"][user],
                "item_id": names["items"][rank - 1],
                "timestamp": moment.astype(np.int64),
            }
        )
        if job["ids"] == "text":
            frame = frame.with_columns(
                pl.concat_str(pl.lit(letter), pl.col(name)).alias(name)
                for name, letter in (("user_id", "u"), ("item_id", "i"))
            )
        frame.write_parquet(log / f"part-{number:05d}.parquet")
    size = sum(path.stat().st_size for path in log.iterdir())
    return {"seconds": time.perf_counter() - started, "bytes": size}


def prepare_and_split(job: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
    from recsys_lab.data.reading.file_source import FileSource
    from recsys_lab.data.split.leave_one_out import GlobalTemporal, LeaveOneOut

    imports_mb = peak_mb()
    settings = PrepareSettings(min_user_events=CORE, min_item_events=CORE)
    folder = Path(job["prepared"])
    started = time.perf_counter()
    data = prepare(FileSource(job["log"]), settings, folder, folder.parent / "raw")
    seconds, peak = time.perf_counter() - started, peak_mb()
    started = time.perf_counter()
    for split in (LeaveOneOut(), GlobalTemporal()):
        split.apply(np.asarray(data.offsets), data.timestamps)
    splits_s, splits_peak = time.perf_counter() - started, peak_mb()

    from recsys_lab.runs.environment import describe_environment  # here: it imports what `prepare` does not need

    return {
        "seconds": seconds,
        "peak_rss_mb": peak,
        "splits_s": splits_s,
        "splits_peak_rss_mb": splits_peak,
        "imports_rss_mb": imports_mb,
        "num_users": data.num_users,
        "num_items": data.num_items,
        "num_events": data.num_events,
        "data_hash": data.data_hash,
        "environment": describe_environment(),
    }


def sort_once(job: dict[str, Any]) -> dict[str, Any]:
    import polars as pl

    started = time.perf_counter()
    pl.scan_parquet(f"{job['log']}/*.parquet").sort("user_id", "timestamp").sink_parquet(
        job["sorted"], engine="streaming"
    )
    return {"seconds": time.perf_counter() - started, "peak_rss_mb": peak_mb()}


def first_batch(job: dict[str, Any]) -> dict[str, Any]:
    begin = time.perf_counter()
    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.data.prepare.processed import ProcessedDataset

    imported = time.perf_counter()
    data = SequenceDataModule(job["prepared"], max_length=50, batch_size=128)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    end = time.perf_counter()
    assert len(batch) > 0
    result = {
        "first_batch_s": end - imported,
        "first_batch_with_imports_s": end - begin,
        "first_batch_peak_rss_mb": peak_mb(),
    }
    opened = []
    for _ in range(5):
        started = time.perf_counter()
        ProcessedDataset.open(job["prepared"])
        opened.append(1000 * (time.perf_counter() - started))
    return {**result, "open_ms": statistics.median(opened)}


JOBS = {job.__name__: job for job in (make_log, prepare_and_split, sort_once, first_batch)}


def main() -> None:
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    job = json.loads(sys.argv[1])
    print(json.dumps(JOBS[job["kind"]](job)))


if __name__ == "__main__":
    main()
