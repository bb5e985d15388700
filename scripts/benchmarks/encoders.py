#!/usr/bin/env python3
"""What each encoder's training costs at the same width: targets/s and tokens/s, and where a step's time goes.

    scripts/benchmarks/encoders.py --dataset ml-1m-sasrec --data_dir data                all encoders: some minutes
    scripts/benchmarks/encoders.py --dataset ml-1m-sasrec --encoder HSTU --encoder SASRec --rounds 3
    scripts/benchmarks/encoders.py --dataset shop --encoder SASRec --rounds 5 --fields none --fields price,item.brand

Training steps through Lightning's own loop on the windows of a prepared data set, full cross-entropy, Adam, the
encoder's own defaults beside the width. The first steps are warm-up. Targets/s is what encoders that train on all
positions can be compared by; where only the last position of a window has a target (`last_position`), and where some
events are masked, it is tokens/s, the real events that are read. `encode` and `loss` are the shares of their forward
passes in a step; the rest is the backward pass, the optimiser and the batch. Parameters are those beside the item
table. With several `--fields` each encoder is measured with each of them in turn, and `of the first` is its targets/s
(tokens/s) by those with the first. Every measurement is a process of its own.

    scripts/benchmarks/encoders.py --dataset ml-1m-sasrec --encoder SASRec --operations 12

tells instead where the time of a training step and of a test batch goes, by operation, in processor seconds of all
threads: a share of the whole, which is measured without watching, `Python` being what no operation takes, and what
matrix products reach of the speed of a large square product of float32. `loss` has its gradients too; `network` has its
own, the optimiser and the batch. The floor of an operation is
its products at that speed, or else reading what it is given and writing what it makes, as fast as a copy of 64 MB. With
`--as-peers` the encoder is the one of peers.py, on each user's newest window:

    scripts/benchmarks/encoders.py --dataset DATA/ml-100k --length 50 --encoder SASRec --as-peers --operations 14
"""

from __future__ import annotations

import argparse
import sys
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
from our_side import make_model

WARM_UP = 5
"""Steps before the clock starts."""


def main() -> int:
    args = parse_args()
    chosen = ("dataset", "length", "batch_size", "width", "steps")
    rows, lines = measured(measurements(args), args, **{name: getattr(args, name) for name in chosen})
    made = operations_table(rows, args.operations) if args.operations else table(rows)
    return publish([*lines, *not_idle(rows), *made], args.markdown)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__, "benchmark_encoders.jsonl", rounds=1)
    add = parser.add_argument
    add("--dataset", default="ml-1m-sasrec", help="a known source, or a prepared folder (default ml-1m-sasrec)")
    add("--data_dir", default="data", help="where prepared sets lie (default data)")
    add("--encoder", action="append", metavar="NAME", help="only this one; repeatable")
    add("--width", type=int, default=64, help="D (default 64)")
    add("--length", type=int, default=200, help="events of a window (default 200)")
    add("--batch-size", type=int, default=128, help="windows of a step (default 128)")
    add("--fields", action="append", metavar="A,B", help="fields beside the ids, or none; repeatable (default all)")
    add("--steps", type=int, default=30, help="that are timed, if an epoch has so many (default 30)")
    add("--operations", type=int, default=0, metavar="N", help="tell the N that take longest instead of speeds")
    add("--as-peers", action="store_true", help="SASRec, GRU4Rec or LSTMAttention as peers.py has them")
    args = parser.parse_args()
    known = child(__file__, args.threads, kind="names")["names"]
    for name in args.encoder or ():
        if name not in known:
            parser.error(f"--encoder {name}: known are {', '.join(known)}")
    args.encoder = args.encoder or known
    args.fields = args.fields or ["all"]
    return args


def measurements(args: argparse.Namespace) -> Iterator[Row]:
    chosen = ("dataset", "data_dir", "width", "length", "batch_size", "steps", "as_peers")
    settings = {setting: getattr(args, setting) for setting in chosen}
    kind = "operations" if args.operations else "train"
    for number in range(args.rounds):
        for name in args.encoder:
            for fields in args.fields:
                row = {"round": number, "encoder": name, "fields": fields, "busy_cores_before": busy_cores(1.0)}
                yield {**row, **child(__file__, args.threads, kind=kind, encoder=name, fields=fields, **settings)}


def table(rows: list[Row]) -> list[str]:
    titles = ("encoder", "fields", "trains on", "targets/s", "tokens/s", "of the first", "ms a step", "encode", "loss")
    lines, first = head(*titles, "parameters", "peak MB"), dict[str, float]()
    for (name, fields, trains_on), here in groups(rows, "encoder", "fields", "trains_on"):
        of = {key: median(here, key) or 0.0 for key in ("targets_s", "tokens_s", "step_s", "encode", "loss", "peak_mb")}
        speed = (f"{of['targets_s']:,.0f}", f"{of['tokens_s']:,.0f}", f"{1000 * of['step_s']:,.0f}")
        shares = (f"{of['encode']:.0%}", f"{of['loss']:.0%}")
        ratio = f"{of['tokens_s'] / first.setdefault(name, of['tokens_s']):.2f}"
        rest = (*shares, f"{here[0]['parameters']:,}", f"{of['peak_mb']:,.0f}")
        lines.append(line(name, fields, trains_on, *speed[:2], ratio, speed[2], *rest))
    return lines


def operations_table(rows: list[Row], many: int) -> list[str]:
    from operations import floor  # torch: nothing for the process that starts the measurements

    lines = head(
        "encoder", "fields", "of", "ms", "floor ms", "operation", "share", "GFLOP/s", "of the square product's"
    )
    for row in rows:
        for what, found in row["parts"].items():
            names, each = (row["encoder"], row["fields"], what), found["operations"]
            floors = [floor(row, *one[1:]) for one in each]
            told = list(zip([[one] for one in each], [one[0] for one in each], floors, strict=True))[:many]
            for part in dict.fromkeys(one[0].split(": ")[0] for one in each if ": " in one[0]):
                of_part = [one for one in each if one[0].startswith(f"{part}: ")]
                told.append((of_part, f"{part}: all", sum(floor(row, *one[1:]) for one in of_part)))
            for of_part, name, least in [*told, (each, "all", sum(floors))]:
                seconds = found["seconds"] if of_part is each else sum(one[1] for one in of_part)
                operations = sum(one[2] for one in of_part)
                rate = operations / seconds / 1e9
                speed = (f"{rate:,.0f}", f"{rate / row['square_gflops']:.0%}") if operations else ("", "")
                share = f"{seconds / found['seconds']:.1%}"
                lines.append(line(*names, f"{1000 * seconds:,.2f}", f"{1000 * least:,.2f}", name, share, *speed))
    return lines


# -- in a process of its own -------------------------------------------------------------------------------------------


def names_of_encoders(job: Row) -> Row:
    from recsys_lab.config import import_all
    from recsys_lab.models import NextItemModule, encoders
    from recsys_lab.runs.fit.parse_errors import concrete_subclasses

    import_all(encoders)
    return {"names": sorted(concrete_subclasses(NextItemModule, str(Path(encoders.__path__[0]))), key=str.lower)}


def made(job: Row) -> tuple[Any, Any, str]:
    """The encoder, its data, and what it trains on."""
    import lightning as L
    import torch

    import recsys_lab.models
    from recsys_lab.data.datamodule import SequenceDataModule

    torch.set_num_threads(job["threads"])
    L.seed_everything(0, verbose=False)
    model = getattr(recsys_lab.models, job["encoder"])(embedding_dim=job["width"])
    if job["as_peers"]:
        model = make_model(job["encoder"])
    mode: Any = "last_position" if model.last_positions_only else "all_positions"
    data = SequenceDataModule(
        job["dataset"],
        data_dir=job["data_dir"],
        max_length=job["length"],
        batch_size=job["batch_size"],
        training_mode=mode,
        max_windows_per_user=1 if job["as_peers"] else None,
        fields={"all": None, "none": []}.get(job["fields"], job["fields"].split(",")),
    )
    return model, data, mode


def measure_operations(job: Row) -> Row:
    """Processor seconds of a step and of a test batch, and by operation: seconds, floating point operations, bytes."""
    import lightning as L
    from operations import Spent, speeds

    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.runs.environment import describe_environment

    class Watch(L.Callback):
        """Processor seconds from the first batch after the warm-up to the end of the last, and of each operation."""

        def __init__(self, first: int, last: int, watched: bool) -> None:
            self.first, self.last, self.batch, self.seconds = first, last, -1, 0.0
            self.spent = Spent("network") if watched else None

        def on_train_batch_start(self, *_: Any) -> None:
            self.batch += 1
            if self.batch == self.first:
                if self.spent is not None:
                    self.spent.__enter__()
                self.started = time.process_time()

        def on_train_batch_end(self, *_: Any) -> None:
            if self.batch == self.last:
                self.seconds = (time.process_time() - self.started) / (self.last - self.first + 1)
                if self.spent is not None:
                    self.spent.__exit__(None, None, None)

    class WatchTest(Watch):
        on_test_batch_start = Watch.on_train_batch_start
        on_test_batch_end = Watch.on_train_batch_end

    def found(alone: Watch, watched: Watch) -> Row:
        assert watched.spent is not None
        many = watched.last - watched.first + 1
        each = [(name, *(n / many for n in numbers)) for name, numbers in watched.spent.found.items()]
        each.append(("Python", alone.seconds - sum(one[1] for one in each), 0.0, 0.0))
        return {"seconds": alone.seconds, "operations": sorted(each, key=lambda one: -one[1])}

    model, data, _ = made(job)
    data.setup()
    steps = WARM_UP + job["steps"]
    limits = {"max_steps": steps, "max_epochs": -1, "limit_val_batches": 0}
    trained = [Watch(WARM_UP, steps - 1, watched) for watched in (False, True)]
    for step in trained:
        if step.spent is not None:
            object.__setattr__(model.task, "loss", step.spent.within("loss", model.task.loss))
        L.Trainer(callbacks=[step], **limits, **QUIET).fit(model, data)
    last = len(data.test_dataloader()) - 1
    tested = [WatchTest(min(1, last), last, watched) for watched in (False, True)]
    for test in tested:
        evaluation: Any = RankingEvaluation()
        if test.spent is not None:
            evaluation.rank_batch = test.spent.within("ranks", evaluation.rank_batch)
        L.Trainer(callbacks=[evaluation, test], **QUIET).test(model, data, verbose=False)
    return {
        "parts": {"a training step": found(*trained), "a test batch": found(*tested)},
        **speeds(),
        "environment": describe_environment(),
    }


def measure_train(job: Row) -> Row:
    import lightning as L

    import recsys_lab.models
    from recsys_lab.runs.environment import describe_environment

    class Clock(L.Callback):
        """Seconds, targets and tokens of the steps after the warm-up."""

        def __init__(self) -> None:
            self.steps = self.tokens = 0
            self.targets = self.seconds = self.encode = self.loss = 0.0
            self.running = False

        def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, batch_idx: int) -> None:
            self.running = batch_idx >= WARM_UP
            self.tokens += int(batch.lengths.sum()) * self.running
            self.started = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            self.seconds += (time.perf_counter() - self.started) * self.running
            self.steps += self.running

        def timed(self, part: str, call: Any) -> Any:
            def inner(*arguments: Any) -> Any:
                started = time.perf_counter()
                found = call(*arguments)
                setattr(self, part, getattr(self, part) + (time.perf_counter() - started) * self.running)
                if part == "loss":
                    self.targets += float(found[1]) * self.running
                return found

            return inner

    clock = Clock()
    model, data, mode = made(job)
    object.__setattr__(model, "training_states", clock.timed("encode", model.training_states))
    object.__setattr__(model.task, "loss", clock.timed("loss", model.task.loss))
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=WARM_UP + job["steps"], limit_val_batches=0, callbacks=[clock], **QUIET
    )
    trainer.fit(model, data)
    if not clock.steps:
        sys.exit(f"an epoch of {job['dataset']} has no more than {WARM_UP} batches: lower --batch-size")
    table = model.embedding.items.weight.numel()
    masked = type(model).training_batch is not recsys_lab.models.NextItemModule.training_batch
    return {
        "trains_on": "masked events" if masked else mode.replace("_", " "),
        "targets_s": clock.targets / clock.seconds,
        "tokens_s": clock.tokens / clock.seconds,
        "step_s": clock.seconds / clock.steps,
        "encode": clock.encode / clock.seconds,
        "loss": clock.loss / clock.seconds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()) - table,
        "peak_mb": peak_mb(),
        "environment": describe_environment(),
    }


if __name__ == "__main__":
    sys.exit(run(main, {"names": names_of_encoders, "train": measure_train, "operations": measure_operations}))
