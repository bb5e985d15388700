#!/usr/bin/env python3
"""What it costs to prepare a log in tasks, beside one process; then cutting it into shards and reading them.

    scripts/benchmarks/prepare_tasks.py                                        # 1 million events
    scripts/benchmarks/prepare_tasks.py --events 1e7 1e8 --items 1e5 1e6 --shards 64
    scripts/benchmarks/prepare_tasks.py --events 1e7 --shards 4 --by-round     # memory of each kind of task

For each number of events (and the number of items at the same place) the log of `prepare.py` is made, and prepared with
a 5-core: by one process, then in tasks by `--processes` of them. Seconds are those of all processes, with their start.
Peak memory is that of the largest process (ru_maxrss: imports and mapped pages of files included). Disk is the most
that the folder of data took, beside the log. The arrays of both are compared. `--by-round` (Linux) prepares once more,
in tasks of one process, and says of each round how many tasks it had, and the peak memory while it ran.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import (
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
    run,
)
from prepare import CORE, make_log, number

ONE, TASKS, CUT, READ = "one process", "tasks", "cutting, one process", "reading an epoch"


def main() -> int:
    parser = parser_of(__doc__, "prepare_tasks.jsonl", rounds=1)
    add = parser.add_argument
    add("--events", nargs="+", type=number, default=[1_000_000], metavar="N", help="e.g. 1e7 1e8 (default 1e6)")
    add("--items", nargs="+", type=number, default=[100_000], metavar="N", help="of each of them (default 1e5)")
    add("--shards", type=int, default=16)
    add("--processes", type=int, default=2)
    add("--only-tasks", action="store_true", help="not by one process")
    add("--by-round", action="store_true", help="only the rounds, each with its memory")
    add("--ids", choices=["numbers", "text"], default="numbers", help="kind of the raw ids (default numbers)")
    add("--work-dir", help="where log and prepared sets lie: 100 bytes per event are needed; default: the system's")
    args = parser.parse_args()
    settings = {"shards": args.shards, "processes": args.processes, "ids": args.ids}
    rows, lines = measured(measurements(args), args, **settings)
    return publish([*lines, *table(rows), *not_idle(rows)], args.markdown)


def measurements(args: Any) -> Iterator[Row]:
    for events, items in zip(args.events, args.items, strict=True):
        size = {"events": events, "users": max(1, events // 100), "items": items, "ids": args.ids}
        with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
            home = Path(folder)
            child(__file__, args.threads, kind="make_log", seed=1, log=str(home / "log"), **size)
            shared = {"folder": folder, "shards": args.shards, "processes": args.processes}
            shared["only_tasks"] = args.only_tasks
            if args.by_round:
                for row in child(__file__, args.threads, kind="rounds", **shared)["rows"]:
                    yield {"round": 0, "busy_cores_before": 0.0, **size, **row}
                continue
            for turn in range(args.rounds):
                yield from on_a_log(home, args.threads, turn, size, shared)


def on_a_log(home: Path, threads: int, turn: int, size: Row, shared: Row) -> Iterator[Row]:
    def row(what: str, **job: Any) -> Row:
        busy = busy_cores(1.0)
        return {
            "what": what,
            "round": turn,
            **size,
            "busy_cores_before": busy,
            **child(__file__, threads, **job, **shared),
        }

    if not shared["only_tasks"]:
        yield row(ONE, kind="prepare", data="one")
    yield row(TASKS, kind="prepare", data="tasks")
    if not shared["only_tasks"]:
        same(home)
        shutil.rmtree(home / "one")
    yield row(CUT, kind="cut_one")
    yield row(READ, kind="read")
    shutil.rmtree(home / "tasks")


def same(home: Path) -> None:
    """Ends the benchmark where tasks made another set."""
    import json

    one, tasks = (json.loads((home / data / "made" / "manifest.json").read_text()) for data in ("one", "tasks"))
    if any(one[name] != tasks[name] for name in ("arrays", "tables", "steps", "num_events")):
        sys.exit("benchmark: the tasks prepared another set than one process did")


def table(rows: list[Row]) -> list[str]:
    lines = head("events", "items", "what", "seconds of processors", "by the clock", "peak MB of a process", "disk MB")
    for (events, items, what), here in groups(rows, "events", "items", "what"):
        numbers = [median(here, name) for name in ("processor_s", "clock_s", "peak_mb", "disk_mb")]
        shown = [
            "" if value is None else f"{value:,.{digits}f}" for value, digits in zip(numbers, (1, 1, 0, 0), strict=True)
        ]
        lines.append(line(f"{events:,}", f"{items:,}", what, *shown))
    return lines


# -- in a process of its own -------------------------------------------------------------------------------------------


def prepare(job: Row) -> Row:
    """What the processes take that prepare the set; it is not cut."""
    from recsys_lab.data.prepare.prepare_settings import PrepareSettings
    from recsys_lab.data.prepare_files import OwnFiles, prepare_files

    home, most, over = Path(job["folder"]), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            most[0] = max(most[0], size_of(home / job["data"]))

    watcher, started, of = (
        threading.Thread(target=watch),
        time.perf_counter(),
        OwnFiles(input=str(home / "log"), name="made"),
    )
    watcher.start()
    tasks = {"shards": job["shards"], "processes": job["processes"]} if job["data"] == "tasks" else {}
    try:
        data = prepare_files(
            of, PrepareSettings(min_user_events=CORE, min_item_events=CORE), home / job["data"], **tasks
        )
    finally:
        over.set()
        watcher.join()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found = {"processor_s": sum(one.ru_utime + one.ru_stime for one in used), "clock_s": time.perf_counter() - started}
    found |= {"peak_mb": max(one.ru_maxrss for one in used) / 1024, "disk_mb": most[0] / 1e6}
    from recsys_lab.runs.environment import describe_environment

    return found | {"num_events": data.num_events, "environment": describe_environment()}


def rounds(job: Row) -> Row:
    """Each round of tasks, which this process alone does."""
    from recsys_lab.data.prepare.prepare_settings import PrepareSettings
    from recsys_lab.data.reading.file_source import FileSource
    from recsys_lab.data.shards import raw_tasks

    rows: list[Row] = []

    class Measured(raw_tasks.Rounds):
        def _round(self, name: str, number: int, task: Any) -> Path:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            own, clock = time.process_time(), time.perf_counter()
            home = super()._round(name, number, task)
            status = dict(one.split(":") for one in Path("/proc/self/status").read_text().splitlines())
            row = {"what": f"{name}, {number} tasks", "processor_s": time.process_time() - own}
            peak = int(status["VmHWM"].split()[0]) / 1024
            rows.append({**row, "clock_s": time.perf_counter() - clock, "peak_mb": peak})
            return home

    raw_tasks.Rounds = Measured  # type: ignore[misc]
    home, settings = Path(job["folder"]), PrepareSettings(min_user_events=CORE, min_item_events=CORE)
    raw_tasks.prepare_in_tasks(FileSource(home / "log"), settings, home / "set", home / "raw", job["shards"])
    return {"rows": rows}


def size_of(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone by now
                total += os.stat(os.path.join(root, name)).st_size
    return total


def cut_one(job: Row) -> Row:
    """The shards alone: one process, one after the other."""
    from recsys_lab.data.shards.cut_shards import cut

    data = Path(job["folder"]) / "tasks"
    own, clock = time.process_time(), time.perf_counter()
    cut(data / "made", data / "shards", job["shards"])
    used = {"processor_s": time.process_time() - own, "clock_s": time.perf_counter() - clock}
    return used | {"peak_mb": peak_mb(), "disk_mb": size_of(data / "shards") / 1e6}


def read(job: Row) -> Row:
    """All training batches of an epoch, of windows of 50."""
    from recsys_lab.data.datamodule import SequenceDataModule

    shards = Path(job["folder"]) / "tasks" / "shards"
    own, clock = time.process_time(), time.perf_counter()
    windows = sum(map(len, SequenceDataModule(str(shards), max_length=50, batch_size=128).train_dataloader()))
    used = {"processor_s": time.process_time() - own, "clock_s": time.perf_counter() - clock}
    return used | {"peak_mb": peak_mb(), "windows": windows}


if __name__ == "__main__":
    sys.exit(run(main, {one.__name__: one for one in (make_log, prepare, rounds, cut_one, read)}))
