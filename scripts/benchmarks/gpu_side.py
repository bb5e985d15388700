"""One measurement of gpu.py, in a process of its own: its jobs, by `kind`, and the made data that they train on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness import QUIET, Row, child, peak_mb, run

MB = 2**20
PRECISIONS = {"float32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}
SIZES: dict[str, dict[str, Any]] = {
    "full": {
        "ml-1m": {"users": 6_040, "items": 3_416, "events": 165, "length": 200, "batch_size": 128},
        "million": {"users": 40_000, "items": 1_000_000, "events": 50, "length": 50, "batch_size": 512},
        "steps": 60,
        "square": 8_192,
        "losses": ((25_600, 3_416), (25_600, 50_000), (4_096, 1_000_000)),
    },
    "tiny": {
        "ml-1m": {"users": 160, "items": 100, "events": 12, "length": 10, "batch_size": 16},
        "million": {"users": 160, "items": 300, "events": 12, "length": 10, "batch_size": 16},
        "steps": 3,
        "square": 128,
        "losses": ((64, 300),),
    },
}
WARM_UP = 3
"""Steps before the clock starts, also after a compilation."""


def prepared(job: Row) -> Any:
    """The data module of a made data set, which is prepared once."""
    import numpy as np
    import polars as pl

    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
    from recsys_lab.data.reading.file_source import FileSource

    shape, folder = SIZES[job["size"]][job["data"]], Path(job["folder"]) / job["data"]
    if not folder.exists():
        draws, many = np.random.default_rng(0), shape["users"] * shape["events"]
        items = np.concatenate([np.arange(shape["items"]), draws.integers(shape["items"], size=many)])[:many]
        users, times = np.repeat(np.arange(shape["users"]), shape["events"]), np.arange(many)
        file = Path(job["folder"]) / f"{job['data']}.parquet"
        pl.DataFrame({"user_id": users, "item_id": draws.permutation(items), "timestamp": times}).write_parquet(file)
        prepare(FileSource(str(file)), PrepareSettings(), folder, Path(job["folder"]) / "raw")
    return SequenceDataModule(str(folder), max_length=shape["length"], batch_size=shape["batch_size"])


def made(job: Row, **settings: Any) -> Any:
    import recsys_lab.models
    from recsys_lab import losses

    loss = getattr(losses, job.get("loss", "CrossEntropy"))()
    return getattr(recsys_lab.models, job["encoder"])(embedding_dim=job["width"], loss=loss, **settings)


def choose(precision: str) -> None:
    import torch

    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # of recurrent layers


def wait(job: Row) -> None:
    import torch

    if job["device"] == "cuda":
        torch.cuda.synchronize()


def precisions(job: Row) -> list[str]:
    return [name for name in PRECISIONS if name != "tf32" or job["device"] == "cuda"]


def peak_speed(job: Row, precision: str) -> float:
    """Operations a second of a large square product."""
    import torch

    size, kind = SIZES[job["size"]]["square"], torch.bfloat16 if precision == "bf16" else torch.float32
    one = torch.randn(size, size, device=job["device"], dtype=kind)
    seconds = []
    for _ in range(4):
        wait(job)
        started = time.perf_counter()
        one @ one
        wait(job)
        seconds.append(time.perf_counter() - started)
    return 2 * float(size) ** 3 / min(seconds)


def operations(model: Any, events: float, targets: float, candidates: int) -> float:
    table = model.embedding.items.weight
    beside = sum(parameter.numel() for parameter in model.parameters()) - table.numel()
    return 6 * (beside * events + targets * candidates * table.shape[1])


def trainer_of(job: Row, precision: str, steps: int, **settings: Any) -> Any:
    import lightning as L

    device = {"accelerator": "gpu" if job["device"] == "cuda" else "cpu", "precision": PRECISIONS[precision]}
    limits = {"max_epochs": 1, "limit_train_batches": steps, "limit_val_batches": 0}
    return L.Trainer(**{**QUIET, **device, **limits, **settings})


def clock_of(job: Row) -> Any:
    import lightning as L

    class Clock(L.Callback):
        """Seconds, targets and events of the steps after the warm-up, and the seconds between two of them."""

        targets = events = 0
        seconds = between = 0.0
        ended = started = 0.0

        def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, batch_idx: int) -> None:
            wait(job)
            now = time.perf_counter()
            if batch_idx == WARM_UP:
                self.started = now
            elif batch_idx > WARM_UP:
                self.between += now - self.ended
            if batch_idx >= WARM_UP:
                self.targets += int((batch.target_ids != 0).sum())
                self.events += int(batch.lengths.sum())

        def on_train_batch_end(self, *_: Any) -> None:
            wait(job)
            self.ended = time.perf_counter()
            self.seconds = self.ended - self.started

    return Clock()


def measure_fit(job: Row) -> Row:
    import lightning as L
    import torch

    from recsys_lab.evaluation.callback import RankingEvaluation

    data, steps, rows = prepared(job), WARM_UP + SIZES[job["size"]]["steps"], []
    sampled = job["loss"] != "CrossEntropy"
    for precision in precisions(job):
        choose(precision)
        for compiled in (False, True)[: 1 + job["compile"]]:
            L.seed_everything(0, verbose=False)
            if job["device"] == "cuda":
                torch.cuda.reset_peak_memory_stats()
            model, clock = made(job, compile_model=compiled), clock_of(job)
            trainer_of(job, precision, steps, callbacks=[clock]).fit(model, data)
            evaluation = RankingEvaluation()
            tester = trainer_of(job, precision, steps, callbacks=[evaluation], limit_test_batches=20)
            seconds = []
            for _ in range(2):  # the first warms up
                wait(job)
                started = time.perf_counter()
                tester.test(model, data, verbose=False)
                wait(job)
                seconds.append(time.perf_counter() - started)
            candidates = 1 + model.task.negatives.num_negatives if sampled else data.spec.num_items
            done = operations(model, clock.events, clock.targets, candidates)
            assert evaluation.last_ranks is not None
            rows.append(
                {
                    **{name: job[name] for name in ("data", "encoder", "loss")},
                    "precision": precision,
                    "way": "compiled" if compiled else "eager",
                    "targets_s": clock.targets / clock.seconds,
                    "of_peak": done / clock.seconds / peak_speed(job, precision),
                    "between_steps": clock.between / clock.seconds,
                    "users_s": len(evaluation.last_ranks) / min(seconds),
                    "peak_mb": torch.cuda.max_memory_allocated() / MB if job["device"] == "cuda" else peak_mb(),
                }
            )
    return {"rows": rows}


def measure_step(job: Row) -> Row:
    """Forward, backward and optimiser on one batch of full windows that stays the same."""
    import torch

    from recsys_lab.contracts import Batch
    from recsys_lab.models.optimization import Optimization, make_optimizer

    shape, rows = SIZES[job["size"]][job["data"]], []
    data = prepared(job)
    data.setup("fit")
    many, length = shape["batch_size"], shape["length"]
    for precision in precisions(job):
        choose(precision)
        for way in ("eager", "compiled", "CUDA graphs")[: 1 + 2 * job["compile"]]:
            if way == "CUDA graphs" and job["device"] != "cuda":
                continue
            torch.manual_seed(0)
            torch.compiler.reset()
            model = made(job)
            model._build(data.spec)
            model.to(job["device"]).train()
            optimizer = make_optimizer(model, Optimization(optimizer="adam"), lambda: 1.0)
            ids = torch.randint(1, shape["items"] + 1, (many, length + 1), device=job["device"])
            inputs, full = ids[:, :-1].contiguous(), torch.full((many,), length, device=job["device"])
            batch = Batch(inputs, ids[:, 1:].contiguous(), inputs > 0, torch.zeros_like(inputs), full, full)
            encode = model.training_states
            if way != "eager":
                mode = "reduce-overhead" if way == "CUDA graphs" else None
                encode = torch.compile(encode, dynamic=False, mode=mode)
            positions, targets = torch.arange(many * length, device=job["device"]), batch.target_ids.flatten()
            auto = torch.autocast(job["device"], torch.bfloat16, enabled=precision == "bf16")
            parts = (auto, model, encode, batch, positions, targets, optimizer)
            row = {"encoder": job["encoder"], "precision": precision, "way": way, "failed": ""}
            try:
                seconds = timed(job, partial(one_step, *parts), SIZES[job["size"]]["steps"])
            except Exception as error:  # what a way can't do is a row of the table
                rows.append({**row, "failed": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"})
                continue
            done = operations(model, many * length, many * length, shape["items"])
            speed = {"step_s": seconds, "targets_s": many * length / seconds}
            rows.append({**row, **speed, "of_peak": done / seconds / peak_speed(job, precision)})
    return {"rows": rows}


def one_step(auto: Any, model: Any, encode: Any, batch: Any, positions: Any, targets: Any, optimizer: Any) -> None:
    with auto:
        loss = model.task.objective(encode(batch), positions, targets, model.scorer, None)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def timed(job: Row, step: Callable[[], None], steps: int) -> float:
    """Seconds of one, after the warm-up."""
    for _ in range(WARM_UP):
        step()
    wait(job)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait(job)
    return (time.perf_counter() - started) / steps


def measure_loss(job: Row) -> Row:
    """What losses.py finds on this device for the ways to the whole cross-entropy."""
    script, rows = Path(__file__).with_name("losses.py"), []
    ways = ["chunked", "full", "torch's own"]
    shared = {name: job[name] for name in ("device", "width", "rounds", "threads")}
    for positions, items in SIZES[job["size"]]["losses"]:
        size = {"positions": positions, "items": items}
        speed = child(script, kind="speed", ways=ways, **shared, **size)
        for way, seconds in speed["seconds"].items():
            memory = child(script, kind="memory", way=way, ways=[way], **shared, **size)
            product = 6 * positions * items * job["width"] / seconds / 1e9 / speed["product_gflops"]
            rows.append({**size, "way": way, "seconds": seconds, "of_product": product, "extra_mb": memory["extra_mb"]})
    return {"rows": rows}


def measure_same(job: Row) -> Row:
    """Each encoder twice with one seed, after a few steps."""
    import lightning as L
    import torch

    rows = []
    for name in job["encoders"]:
        for precision in precisions(job):
            choose(precision)
            ends = []
            for _ in range(2):
                L.seed_everything(0, verbose=False)
                model = made({**job, "encoder": name})
                trainer_of(job, precision, SIZES[job["size"]]["steps"]).fit(model, prepared(job))
                ends.append([parameter.detach().cpu().clone() for parameter in model.parameters()])
            equal = all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
            rows.append({"encoder": name, "precision": precision, "equal": equal})
    return {"rows": rows}


def measure_ddp(job: Row) -> Row:
    """Targets of all processes a second; on processors the processes talk through gloo."""
    import lightning as L
    import torch

    world = job["devices"]
    if job["device"] == "cuda" and torch.cuda.device_count() < world:
        return {"rows": [{"encoder": job["encoder"], "devices": world, "targets_s": None}]}
    choose("float32")
    L.seed_everything(0, verbose=False)
    clock, strategy = clock_of(job), {"strategy": "ddp"} if world > 1 else {}
    steps = WARM_UP + SIZES[job["size"]]["steps"]
    trainer = trainer_of(job, "float32", steps, callbacks=[clock], **{**strategy, "devices": world})
    trainer.fit(made(job), prepared(job))
    if trainer.global_rank:
        sys.exit()  # the first process prints for all
    return {"rows": [{"encoder": job["encoder"], "devices": world, "targets_s": world * clock.targets / clock.seconds}]}


def count_devices(job: Row) -> Row:
    import torch

    return {"cuda": torch.cuda.is_available()}


def measure(job: Row) -> Row:
    import torch

    from recsys_lab.runs.environment import describe_environment

    torch.set_num_threads(job["threads"])
    found = MEASURES[job["table"]](job)
    name = {"gpu": torch.cuda.get_device_name(0)} if job["device"] == "cuda" else {}
    for row in found["rows"]:
        row["environment"] = {**describe_environment(), **name}
    return found


MEASURES = {
    "fit": measure_fit,
    "step": measure_step,
    "loss": measure_loss,
    "same": measure_same,
    "ddp": measure_ddp,
}


if __name__ == "__main__":
    sys.exit(run(lambda: 2, {"measure": measure, "devices": count_devices}))
