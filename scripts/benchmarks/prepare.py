#!/usr/bin/env python3
"""How fast a log becomes a prepared data set and its first batch, in how much memory, beside one sort of polars.

    scripts/benchmarks/prepare.py                                      1 million events, a minute
    scripts/benchmarks/prepare.py --events 1e6 1e7 1e8 --items 1e5 1e6 --rounds 3

For each number of events and items a log is made: Parquet files of 2 million rows in the order of time, 100 events per
user on average (log-normal: the median is a third of that), items by a power law (1 / rank). Then, in turn, each in a
process of its own:

    ours      `prepare` with a 5-core of users and items, i.e. checks, id codes, sort, filters, hashes, files; then the
              leave-one-out and the temporal split
    one sort  `pl.scan_parquet(log).sort("user_id", "timestamp").sink_parquet(...)`, streaming engine: the work that
              nobody can leave out

and, in one more process, the prepared set is opened and trained on as far as the first batch. Peak memory is the
maximum resident set of the whole process (ru_maxrss: imports and mapped pages of files included). The ratio is the
median over the rounds. The log was just written, so both sides read it from the page cache.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness import (
    OURS,
    Row,
    busy_cores,
    child,
    groups,
    head,
    line,
    measured,
    median,
    not_idle,
    parser_of,
    peak_mb,
    publish,
    ratio,
    run,
    shown,
)

SORT = "one sort"
ROWS_PER_FILE = 2_000_000
START, YEAR = 1_700_000_000, 365 * 86_400
CORE = 5
ACTIVITY_SIGMA = 1.5
COLUMNS = {
    "peak RSS MB": ("peak_rss_mb", ",.0f"),
    "splits s": ("splits_s", ".2f"),
    "peak RSS MB with splits": ("splits_peak_rss_mb", ",.0f"),
    "open ms": ("open_ms", ".1f"),
    "first batch s": ("first_batch_s", ".2f"),
    "with imports s": ("first_batch_with_imports_s", ".2f"),
}


def main() -> int:
    parser = parser_of(__doc__, "benchmark_prepare.jsonl")
    add = parser.add_argument
    add("--events", nargs="+", type=number, default=[1_000_000], metavar="N", help="e.g. 1e6 1e7 1e8 (default 1e6)")
    add("--items", nargs="+", type=number, default=[100_000], metavar="N", help="catalogue sizes (default 1e5)")
    add("--events-per-user", type=float, default=100.0, help="mean (default 100)")
    add("--ids", choices=["numbers", "text"], default="numbers", help="kind of the raw ids (default numbers)")
    add("--seed", type=int, default=1, help="of the made log")
    add("--no-sort", action="store_true", help="ours only")
    add("--work-dir", help="where log and prepared sets lie: 100 bytes per event are needed; default: the system's")
    args = parser.parse_args()
    rows, lines = measured(measurements(args), args, ids=args.ids)
    return publish([*lines, *table(rows), *not_idle(rows)], args.markdown)


def number(text: str) -> int:
    value = int(float(text))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return value


def measurements(args: argparse.Namespace) -> Iterator[Row]:
    for events in args.events:
        for items in args.items:
            with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
                yield from on_a_log(args, Path(folder), events, items)


def on_a_log(args: argparse.Namespace, folder: Path, events: int, items: int) -> Iterator[Row]:
    places = {
        "log": str(folder / "log"),
        "prepared": str(folder / "prepared"),
        "sorted": str(folder / "sorted.parquet"),
    }
    size = {"events": events, "users": max(1, round(events / args.events_per_user)), "items": items, "ids": args.ids}
    made = child(__file__, args.threads, kind="make_log", seed=args.seed, **places, **size)
    print(f"made {events:,} events in {made['seconds']:.0f} s: {made['bytes'] / 1e6:,.0f} MB", file=sys.stderr)
    sides = [OURS] if args.no_sort else [OURS, SORT]
    for turn in range(args.rounds):
        for who in sides if turn % 2 == 0 else sides[::-1]:
            row = {"who": who, "round": turn, **size, "log_mb": made["bytes"] / 1e6}
            row["busy_cores_before"] = busy_cores(1.0)
            if who == SORT:
                yield row | child(__file__, args.threads, kind="sort_once", **places)
            else:
                row |= child(__file__, args.threads, kind="prepare_and_split", **places)
                yield row | child(__file__, args.threads, kind="first_batch", **places)
                shutil.rmtree(folder / "prepared")


def table(rows: list[Row]) -> list[str]:
    lines = head("events", "users", "items", "log MB", "who", "seconds", "events/s", "ours/one sort", *COLUMNS)
    for (events, items), here in groups(rows, "events", "items"):
        theirs = [row for row in here if row["who"] == SORT]
        for (who,), group in groups(here, "who"):
            seconds = median(group, "seconds")
            assert seconds is not None
            versus = ratio(group, theirs, "seconds") if who == OURS and theirs else None
            cells = [f"{events:,}", f"{group[0]['users']:,}", f"{items:,}", f"{group[0]['log_mb']:,.0f}", who]
            cells += [f"{seconds:.2f}", f"{events / seconds:,.0f}", shown(versus, ".2f")]
            lines.append(line(*cells, *(shown(median(group, name), form) for name, form in COLUMNS.values())))
    return lines


# -- in a process of its own -------------------------------------------------------------------------------------------


def make_log(job: Row) -> Row:
    """Writes the log, 2 million rows at a time."""
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
        ids = {"user_id": names["users"][user], "item_id": names["items"][rank - 1]}
        frame = pl.DataFrame({**ids, "timestamp": moment.astype(np.int64)})
        if job["ids"] == "text":
            letters = {"user_id": "u", "item_id": "i"}
            frame = frame.with_columns(pl.format(f"{letter}{{}}", name).alias(name) for name, letter in letters.items())
        frame.write_parquet(log / f"part-{number:05d}.parquet")
    size = sum(path.stat().st_size for path in log.iterdir())
    return {"seconds": time.perf_counter() - started, "bytes": size}


def prepare_and_split(job: Row) -> Row:
    """Ours: seconds and peak memory of `prepare`, then of both splits."""
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


def sort_once(job: Row) -> Row:
    """polars: one sort of the log by user and time into one Parquet file."""
    import polars as pl

    started = time.perf_counter()
    table = pl.scan_parquet(f"{job['log']}/*.parquet").sort("user_id", "timestamp")
    table.sink_parquet(job["sorted"], engine="streaming")
    return {"seconds": time.perf_counter() - started, "peak_rss_mb": peak_mb()}


def first_batch(job: Row) -> Row:
    """Opens the prepared set; data module and first training batch, with and without imports."""
    begin = time.perf_counter()
    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.data.prepare.processed import ProcessedDataset

    imported = time.perf_counter()
    data = SequenceDataModule(job["prepared"], max_length=50, batch_size=128)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    end = time.perf_counter()
    assert len(batch) > 0
    found = {"first_batch_s": end - imported, "first_batch_with_imports_s": end - begin}
    found["first_batch_peak_rss_mb"] = peak_mb()
    opened = []
    for _ in range(5):
        started = time.perf_counter()
        ProcessedDataset.open(job["prepared"])
        opened.append(1000 * (time.perf_counter() - started))
    return {**found, "open_ms": statistics.median(opened)}


JOBS = {job.__name__: job for job in (make_log, prepare_and_split, sort_once, first_batch)}

if __name__ == "__main__":
    sys.exit(run(main, JOBS))
