#!/usr/bin/env python3
"""Cost curves: how time and memory grow with users, events, items, window length and width; fitted exponents.

    scripts/benchmarks/costs.py --markdown docs/costs.md --figure docs/costs.svg     # about ten minutes on two cores
    scripts/benchmarks/costs.py --sweep items --rounds 3

One quantity grows at a time, everything else stays. For each point one process prepares made events, and another
trains SASRec for two epochs (the second counts) and ranks every user's test target against all items; memory is the
peak of the second beyond what it had after its imports. The exponent is the slope of log cost over log quantity: 1 is
linear, 0 no growth. Two are given: over all points, and between the last two, where fixed costs weigh least.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import (
    MAX_BUSY_CORES,
    QUIET,
    busy_cores,
    describe_machine,
    header,
    last_json,
    peak_mb,
    publish,
    require_idle,
)

BASE = {"users": 2_000, "history": 23, "items": 2_000, "length": 20, "width": 64, "batch_size": 128}
SWEEPS: dict[str, list[dict[str, int]]] = {
    "users": [{"users": n} for n in (2_000, 4_000, 8_000, 16_000, 32_000)],
    "events per user": [{"history": n} for n in (23, 43, 83, 163, 323)],
    "items": [{"items": n, "users": 1_000} for n in (2_500, 5_000, 10_000, 20_000)],
    # as many targets in each point, and as many in each step
    "window length": [
        {"length": n, "history": n + 3, "users": 64_000 // n, "batch_size": 6_400 // n} for n in (25, 50, 100, 200, 400)
    ],
    "width": [{"width": n} for n in (32, 64, 128, 256)],
}
VARIED = {"users": "users", "events per user": "history", "items": "items", "window length": "length", "width": "width"}
COSTS = {
    "prepare_s": "preparation",
    "epoch_s": "training epoch",
    "evaluation_s": "full-ranking evaluation",
    "memory_mb": "memory of training and evaluation",
}
CAPTIONS = {
    "window length": "the number of targets is the same in each point, so linear in L would be a constant cost: what "
    "grows is attention over a window, L per target",
    "items": "the number of targets is the same in each point; full cross-entropy and full ranking compute a score for "
    "each item",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sweep", action="append", choices=list(SWEEPS), help="repeatable; default: all")
    add("--points", type=int, default=99, help="only the first points of each sweep")
    add("--rounds", type=int, default=1, help="how often each point is measured; medians (default 1)")
    add("--threads", type=int, default=2)
    add("--out", default="costs.jsonl", help="one JSON line per point is appended (default costs.jsonl)")
    add("--markdown", type=Path, help="write the page here")
    add("--figure", type=Path, help="write the figure here, .svg or .png")
    add("--even-if-busy", action="store_true")
    add("--point", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(json.loads(args.point))))
        return 0
    if not require_idle(args.even_if_busy):
        return 2
    machine, environment, busiest = describe_machine(), {}, 0.0
    rows: list[dict[str, Any]] = []
    with open(args.out, "a") as out:
        for _ in range(args.rounds):
            for sweep in args.sweep or SWEEPS:
                for changed in SWEEPS[sweep][: args.points]:
                    busiest = max(busiest, busy_cores(1.0))
                    point = {**BASE, **changed, "threads": args.threads}
                    found = {}
                    with tempfile.TemporaryDirectory() as folder:
                        for kind in ("prepare", "train"):
                            half = json.dumps({**point, "kind": kind, "folder": folder})
                            found |= last_json([sys.executable, __file__, "--point", half], args.threads)
                    environment = found.pop("environment")
                    row = {"sweep": sweep, "x": point[VARIED[sweep]], **point, **found}
                    rows.append(row)
                    out.write(json.dumps({**machine, "commit": environment.get("commit"), **row}) + "\n")
                    out.flush()
                    print(sweep, row["x"], {name: round(row[name], 3) for name in COSTS}, file=sys.stderr, flush=True)
    points = medians(rows)
    lines = ["# What costs grow with", "", *__doc__.strip().split("\n\n")[2].splitlines(), ""]
    lines += header(machine, environment, {"threads": args.threads, "rounds": args.rounds})
    if busiest > MAX_BUSY_CORES:
        lines.append(f"- NOT an idle machine: others used up to {busiest:.1f} cores. Do not quote these numbers")
    if args.figure:
        draw(points, args.figure)
        lines += ["", f"![costs]({args.figure.name})"]
    lines += page(points)
    publish(lines, args.markdown)
    return 0


def measure(point: dict[str, Any]) -> dict[str, Any]:
    """One half of a point, in this process."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return {"prepare": measure_prepare, "train": measure_train}[point["kind"]](point)


def measure_prepare(point: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import polars as pl

    from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
    from recsys_lab.data.reading.file_source import FileSource

    folder, draw = Path(point["folder"]), np.random.default_rng(0)
    user = np.repeat(np.arange(point["users"]), point["history"])
    assert point["items"] <= len(user), "fewer events than items: the catalogue would be smaller than asked for"
    # squared: some items are much more popular; each item once at least, so that the catalogue is as large as asked for
    item = (point["items"] * draw.random(len(user)) ** 2).astype(np.int64)
    once = draw.permutation(len(user))[: point["items"]]
    item[once] = np.arange(len(once))
    events = pl.DataFrame({"user_id": user, "item_id": item, "timestamp": draw.integers(1, 10**9, len(user))})
    events.write_parquet(folder / "events.parquet")
    seconds = []
    for turn in range(2):  # the first also starts the engine
        started = time.perf_counter()
        prepare(FileSource(folder / "events.parquet"), PrepareSettings(), folder / f"prepared{turn}", folder / "raw")
        seconds.append(time.perf_counter() - started)
    return {"prepare_s": min(seconds)}


def measure_train(point: dict[str, Any]) -> dict[str, Any]:
    import lightning as L
    import torch

    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.models import SASRec
    from recsys_lab.runs.environment import describe_environment

    class Clock(L.Callback):
        seconds = 0.0  # of the newest epoch

        def on_train_epoch_start(self, *_: Any) -> None:
            self.started = time.perf_counter()

        def on_train_epoch_end(self, *_: Any) -> None:
            self.seconds = time.perf_counter() - self.started

    torch.set_num_threads(point["threads"])
    L.seed_everything(0, verbose=False)
    before = peak_mb()
    folder = str(Path(point["folder"]) / "prepared1")
    data = SequenceDataModule(folder, max_length=point["length"], batch_size=point["batch_size"])
    clock, model = Clock(), SASRec(point["width"], num_layers=2, num_heads=2, feed_forward_dim=point["width"])
    L.Trainer(max_epochs=2, limit_val_batches=0, callbacks=[clock], **QUIET).fit(model, data)
    seconds = []
    for _ in range(2):
        trainer = L.Trainer(callbacks=[RankingEvaluation()], **QUIET)
        started = time.perf_counter()
        trainer.test(model, datamodule=data, verbose=False)
        seconds.append(time.perf_counter() - started)
    return {
        "epoch_s": clock.seconds,
        "evaluation_s": min(seconds),
        "memory_mb": peak_mb() - before,
        "targets": data.train_windows.num_targets,
        "environment": describe_environment(),
    }


def medians(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """sweep -> its points in ascending order, each with x and the median of each cost."""
    found: dict[str, list[dict[str, float]]] = {}
    for sweep in dict.fromkeys(row["sweep"] for row in rows):
        here = [row for row in rows if row["sweep"] == sweep]
        found[sweep] = [
            {"x": x, **{name: statistics.median(row[name] for row in here if row["x"] == x) for name in COSTS}}
            for x in sorted({row["x"] for row in here})
        ]
    return found


def exponent(points: list[dict[str, float]], cost: str) -> float | None:
    """Least-squares slope of log cost over log x; None where a cost is 0 or there is one point only."""
    if len(points) < 2 or any(point[cost] <= 0 for point in points):
        return None
    x = [math.log(point["x"]) for point in points]
    y = [math.log(point[cost]) for point in points]
    return statistics.linear_regression(x, y).slope


def page(sweeps: dict[str, list[dict[str, float]]]) -> list[str]:
    lines = []
    for sweep, points in sweeps.items():
        lines += ["", f"## {sweep}", ""]
        if sweep in CAPTIONS:
            lines += [CAPTIONS[sweep][0].upper() + CAPTIONS[sweep][1:] + ".", ""]
        lines.append(f"| {sweep} | " + " | ".join(f"{text} {'MB' if '_mb' in n else 's'}" for n, text in COSTS.items()))
        lines[-1] += " |"
        lines.append("|" + "---|" * (len(COSTS) + 1))
        for point in points:
            lines.append(f"| {point['x']:,} | " + " | ".join(f"{point[name]:.3g}" for name in COSTS) + " |")
        for text, part in (("exponent", points), ("between the last two", points[-2:])):
            slopes = [exponent(part, name) for name in COSTS]
            lines.append(f"| **{text}** | " + " | ".join("" if s is None else f"**{s:.2f}**" for s in slopes) + " |")
    return lines


def draw(sweeps: dict[str, list[dict[str, float]]], file: Path) -> None:
    import altair as alt
    import polars as pl

    rows = [
        {"sweep": sweep, "x": point["x"], "cost": text, "value": point[name]}
        for sweep, points in sweeps.items()
        for point in points
        for name, text in COSTS.items()
        if point[name] > 0
    ]
    charts = []
    for unit, names in (("seconds", [t for n, t in COSTS.items() if n.endswith("_s")]), ("MB", [COSTS["memory_mb"]])):
        frame = pl.DataFrame(rows).filter(pl.col("cost").is_in(names))
        line = alt.Chart(frame).mark_line(point=True)
        chart = line.encode(
            x=alt.X("x:Q", title=None).scale(type="log", nice=False).axis(tickCount=4, format="~s"),
            y=alt.Y("value:Q", title=unit).scale(type="log"),
            color=alt.Color("cost:N", title=None, sort=list(COSTS.values())).legend(orient="top"),
        ).properties(width=150, height=150)
        facet = alt.Facet("sweep:N", title=None, sort=list(sweeps))
        charts.append(chart.facet(facet, columns=5).resolve_scale(x="independent"))
    alt.vconcat(*charts).save(str(file))


if __name__ == "__main__":
    sys.exit(main())
