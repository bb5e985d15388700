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
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import (
    QUIET,
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
    parser = parser_of(__doc__, "costs.jsonl", rounds=1)
    add = parser.add_argument
    add("--sweep", action="append", choices=list(SWEEPS), help="repeatable; default: all")
    add("--points", type=int, default=99, help="only the first points of each sweep")
    add("--figure", type=Path, help="write the figure here, .svg or .png")
    args = parser.parse_args()
    rows, lines = measured(measurements(args), args)
    points = medians(rows)
    lines = ["# What costs grow with", "", *(__doc__ or "").strip().split("\n\n")[2].splitlines(), "", *lines]
    lines += not_idle(rows)
    if args.figure:
        draw(points, args.figure)
        lines += ["", f"![costs]({args.figure.name})"]
    return publish([*lines, *page(points)], args.markdown)


def measurements(args: argparse.Namespace) -> Iterator[Row]:
    for _ in range(args.rounds):
        for sweep in args.sweep or SWEEPS:
            for changed in SWEEPS[sweep][: args.points]:
                point: Row = {**BASE, **changed}
                row = {"sweep": sweep, "x": point[VARIED[sweep]], **point, "busy_cores_before": busy_cores(1.0)}
                with tempfile.TemporaryDirectory() as folder:
                    for kind in ("prepare", "train"):
                        row |= child(__file__, args.threads, kind=kind, folder=folder, **point)
                yield row


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


JOBS = {"prepare": measure_prepare, "train": measure_train}


# -- the page ----------------------------------------------------------------------------------------------------------


def medians(rows: list[Row]) -> dict[str, list[Row]]:
    """sweep -> its points in ascending order, each with x and the median of each cost."""
    found: dict[str, list[Row]] = {}
    for (sweep, x), here in sorted(groups(rows, "sweep", "x"), key=lambda one: one[0][1]):
        found.setdefault(sweep, []).append({"x": x, **{name: median(here, name) for name in COSTS}})
    return {sweep: found[sweep] for (sweep,), _ in groups(rows, "sweep")}


def exponent(points: list[Row], cost: str) -> float | None:
    """Least-squares slope of log cost over log x; None where a cost is 0 or there is one point only."""
    if len(points) < 2 or any(point[cost] <= 0 for point in points):
        return None
    x = [math.log(point["x"]) for point in points]
    y = [math.log(point[cost]) for point in points]
    return statistics.linear_regression(x, y).slope


def page(sweeps: dict[str, list[Row]]) -> list[str]:
    lines = []
    for sweep, points in sweeps.items():
        lines += ["", f"## {sweep}", ""]
        if sweep in CAPTIONS:
            lines.append(CAPTIONS[sweep][0].upper() + CAPTIONS[sweep][1:] + ".")
        lines += head(sweep, *(f"{text} {'MB' if '_mb' in name else 's'}" for name, text in COSTS.items()))
        lines += [line(f"{point['x']:,}", *(f"{point[name]:.3g}" for name in COSTS)) for point in points]
        for text, part in (("exponent", points), ("between the last two", points[-2:])):
            slopes = [exponent(part, name) for name in COSTS]
            lines.append(line(f"**{text}**", *("" if s is None else f"**{s:.2f}**" for s in slopes)))
    return lines


def draw(sweeps: dict[str, list[Row]], file: Path) -> None:
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
    sys.exit(run(main, JOBS))
