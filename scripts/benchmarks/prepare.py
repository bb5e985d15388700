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

This process imports nothing heavy: a child's peak memory starts at that of its parent.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import (
    MAX_BUSY_CORES,
    OURS,
    busy_cores,
    describe_machine,
    groups,
    header,
    last_json,
    median,
    publish,
    ratio,
    require_idle,
)

CHILD = Path(__file__).resolve().with_name("prepare_jobs.py")
SORT = "one sort"
Row = dict[str, Any]


def main() -> int:
    args = parse_args()
    if not require_idle(args.even_if_busy):
        return 2
    machine, rows, environment = describe_machine(), [], {}
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder, open(args.out, "a") as out:
        for events in args.events:
            for items in args.items:
                for row in measure(args, Path(folder), events, items):
                    environment = row.pop("environment", environment)
                    rows.append(row)
                    print(f"{json.dumps(row)}", file=sys.stderr, flush=True)
                    out.write(json.dumps({**machine, "commit": environment.get("commit"), **row}) + "\n")
                    out.flush()
    settings = {"threads": args.threads, "rounds": args.rounds, "ids": args.ids}
    publish([*header(machine, environment, settings), "", *table(rows), *notes(rows)], args.markdown)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--events", nargs="+", type=number, default=[1_000_000], metavar="N", help="e.g. 1e6 1e7 1e8 (default 1e6)")
    add("--items", nargs="+", type=number, default=[100_000], metavar="N", help="catalogue sizes (default 1e5)")
    add("--events-per-user", type=float, default=100.0, help="mean (default 100)")
    add("--ids", choices=["numbers", "text"], default="numbers", help="kind of the raw ids (default numbers)")
    add("--rounds", type=int, default=3, help="how often both sides are measured (default 3)")
    add("--threads", type=int, default=2, help="of every process (default 2)")
    add("--seed", type=int, default=1, help="of the made log")
    add("--no-sort", action="store_true", help="ours only")
    add("--out", default="benchmark_prepare.jsonl", help="a JSON line per measurement is appended")
    add("--markdown", help="also write header and table to this file")
    add("--work-dir", help="where log and prepared sets lie: 100 bytes per event are needed; default: the system's")
    add("--even-if-busy", action="store_true", help="measure although other processes use the machine")
    return parser.parse_args()


def number(text: str) -> int:
    value = int(float(text))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return value


def measure(args: argparse.Namespace, folder: Path, events: int, items: int) -> Any:
    log, prepared = folder / "log", folder / "prepared"
    users = max(1, round(events / args.events_per_user))
    job = {"log": str(log), "prepared": str(prepared), "ids": args.ids, "seed": args.seed}
    job |= {"events": events, "users": users, "items": items}
    made = child(args, job, "make_log")
    print(f"made {events:,} events in {made['seconds']:.0f} s: {made['bytes'] / 1e6:,.0f} MB", file=sys.stderr)
    sides = [OURS] if args.no_sort else [OURS, SORT]
    for turn in range(args.rounds):
        for who in sides if turn % 2 == 0 else sides[::-1]:
            basis = {"who": who, "round": turn, "events": events, "users": users, "items": items, "ids": args.ids}
            basis |= {"log_mb": made["bytes"] / 1e6, "busy_cores_before": busy_cores(1.0)}
            if who == SORT:
                yield {**basis, **child(args, {**job, "sorted": str(folder / "sorted.parquet")}, "sort_once")}
                (folder / "sorted.parquet").unlink()
                continue
            row = {**basis, **child(args, job, "prepare_and_split")}
            yield row | child(args, job, "first_batch")
            shutil.rmtree(prepared)
    shutil.rmtree(log)


def child(args: argparse.Namespace, job: dict[str, Any], kind: str) -> dict[str, Any]:
    return last_json([sys.executable, str(CHILD), json.dumps({**job, "kind": kind})], args.threads)


def table(rows: list[Row]) -> list[str]:
    lines = [
        "| events | users | items | log MB | who | seconds | events/s | ours/one sort | peak RSS MB | splits s "
        "| peak RSS MB with splits | open ms | first batch s | with imports s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (events, items), here in groups(rows, "events", "items"):
        theirs = [row for row in here if row["who"] == SORT]
        for (who,), group in groups(here, "who"):
            seconds = median(group, "seconds")
            assert seconds is not None
            versus = ratio(group, theirs, "seconds") if who == OURS and theirs else None
            cells = [f"{events:,}", f"{group[0]['users']:,}", f"{items:,}", f"{group[0]['log_mb']:,.0f}", who]
            cells += [f"{seconds:.2f}", f"{events / seconds:,.0f}", shown(versus, ".2f")]
            cells += [shown(median(group, name), form) for name, form in COLUMNS]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


COLUMNS = (
    ("peak_rss_mb", ",.0f"),
    ("splits_s", ".2f"),
    ("splits_peak_rss_mb", ",.0f"),
    ("open_ms", ".1f"),
    ("first_batch_s", ".2f"),
    ("first_batch_with_imports_s", ".2f"),
)


def shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def notes(rows: list[Row]) -> list[str]:
    busy = [row["busy_cores_before"] for row in rows if row["busy_cores_before"] > MAX_BUSY_CORES]
    if not busy:
        return []
    return ["", f"NOT idle: others used up to {max(busy):.1f} cores before {len(busy)} of {len(rows)} measurements."]


if __name__ == "__main__":
    sys.exit(main())
