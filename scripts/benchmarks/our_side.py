"""Our side of peers.py, in a process of its own.

Jobs (`kind`), all through what a user calls (`prepare`, `SequenceDataModule`, a model, `Trainer`):

    prepare   the raw file into a prepared folder
    train     a few epochs and two tests: speed and memory
    quality   training until the best validation is `patience` epochs old: when it reached `goal`, and what it reached
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from harness import QUIET, Row, peak_mb, run


def measure_prepare(job: Row) -> Row:
    from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
    from recsys_lab.data.reading.file_source import FileSource

    settings = PrepareSettings(min_length=job["min_user_events"])
    started = time.perf_counter()
    data = prepare(FileSource(job["file"]), settings, Path(job["folder"]), Path(job["folder"]).parent / "raw")
    return {
        "prepare_s": time.perf_counter() - started,
        "num_users": data.num_users,
        "num_items": data.num_items,
        "num_events": data.num_events,
        "peak_rss_mb": peak_mb(),
    }


def make_model(name: str, lr: float = 1e-3) -> Any:
    """The configuration that all sides share: 64 wide, dropout 0.2, full cross-entropy, Adam."""
    from recsys_lab.models import GRU4Rec, LSTMAttention, Optimization, SASRec

    shared: dict[str, Any] = {
        "embedding_dim": 64,
        "dropout": 0.2,
        "optimization": Optimization(optimizer="adam", lr=lr),
    }
    if name == "SASRec":
        return SASRec(num_layers=2, num_heads=2, feed_forward_dim=64, **shared)
    if name == "GRU4Rec":
        return GRU4Rec(num_layers=1, **shared)
    return LSTMAttention(num_layers=1, attention="narm", time="none", **shared)  # NARM has a GRU where this has an LSTM


def make_data(job: Row, **changed: Any) -> Any:
    from recsys_lab.data.datamodule import SequenceDataModule

    given = {
        "max_length": job["max_length"],
        "batch_size": job["batch_size"],
        "max_windows_per_user": job.get("max_windows_per_user"),
        "exclude_seen": "history",
        "fields": job.get("fields"),
    }
    data = SequenceDataModule(job["folder"], **{**given, **changed})
    data.setup()
    return data


def measure_train(job: Row) -> Row:
    started = time.perf_counter()
    import lightning as L
    import torch

    import recsys_lab.data.datamodule  # noqa: F401  # counted as import, not as set-up
    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.models import SASRec  # noqa: F401
    from recsys_lab.runs.environment import describe_environment
    from recsys_lab.words import PAD_ID

    import_s = time.perf_counter() - started

    class Clock(L.Callback):
        """Seconds, CPU seconds and targets of each training epoch, making its batches included."""

        def __init__(self) -> None:
            self.epochs: list[tuple[float, float, int]] = []

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.wall, self.cpu, self.targets = time.perf_counter(), time.process_time(), 0

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.targets += int((batch.target_ids != PAD_ID).sum())

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.epochs.append((time.perf_counter() - self.wall, time.process_time() - self.cpu, self.targets))

    torch.set_num_threads(job["threads"])
    L.seed_everything(job["seed"], verbose=False)
    started = time.perf_counter()
    data = make_data(job)
    loader = data.train_dataloader()
    batches_per_epoch = len(loader)
    next(iter(loader))
    setup_s = time.perf_counter() - started
    model, clock = make_model(job["model"]), Clock()
    limit = {"limit_train_batches": job["max_batches"]} if job["max_batches"] else {}
    L.Trainer(max_epochs=job["epochs"], limit_val_batches=0, callbacks=[clock], **limit, **QUIET).fit(model, data)

    test_seconds, tested = [], 0
    limit = {"limit_test_batches": job["max_test_batches"]} if job.get("max_test_batches") else {}
    for _ in range(2):  # the first call also warms up; the peers' scripts take the better of two as well
        evaluation = RankingEvaluation()
        trainer = L.Trainer(callbacks=[evaluation], **limit, **QUIET)
        started = time.perf_counter()
        trainer.test(model, datamodule=data, verbose=False)
        test_seconds.append(time.perf_counter() - started)
        assert evaluation.last_ranks is not None
        tested = len(evaluation.last_ranks)

    timed = clock.epochs[1:] or clock.epochs  # the first is warm-up
    return {
        "import_s": import_s,
        "setup_s": setup_s,  # to the first batch
        "batches_per_epoch": batches_per_epoch,
        "windows_per_epoch": len(data.train_windows),
        "targets_per_epoch": data.train_windows.num_targets,
        "epoch_s": [round(wall, 4) for wall, _, _ in clock.epochs],
        "targets_per_s": statistics.median(targets / wall for wall, _, targets in timed),
        "cores_used": statistics.median(cpu / wall for wall, cpu, _ in timed),
        "eval_users": tested,
        "eval_users_per_s": tested / min(test_seconds),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "peak_rss_mb": peak_mb(),
        "environment": describe_environment(),
    }


def measure_quality(job: Row) -> Row:
    import lightning as L
    import torch

    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.runs.environment import describe_environment

    class Curve(L.Callback):
        """Seconds since the start of training, validations included, and val/ndcg@10 of each epoch; when to stop."""

        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.values: list[float] = []
            self.best: dict[str, Any] = {}
            self.stopped_by = "max_epochs"

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.started = time.perf_counter()

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            self.seconds.append(time.perf_counter() - self.started)
            self.values.append(float(trainer.callback_metrics["val/ndcg@10"]))
            best = max(range(len(self.values)), key=self.values.__getitem__)
            if best == len(self.values) - 1:
                self.best = copy.deepcopy(pl_module.state_dict())
            if len(self.values) - 1 - best >= job["patience"]:
                trainer.should_stop, self.stopped_by = True, "patience"
            elif self.seconds[-1] > job["max_seconds"]:
                trainer.should_stop, self.stopped_by = True, "the time limit"

    torch.set_num_threads(job["threads"])
    L.seed_everything(job["seed"], verbose=False)
    # as the peers' scripts: while training, seen items stay in the ranking
    data, model, curve = make_data(job, exclude_seen="none"), make_model(job["model"]), Curve()
    callbacks = [RankingEvaluation(), curve]
    L.Trainer(max_epochs=10_000, num_sanity_val_steps=0, callbacks=callbacks, **QUIET).fit(model, data)
    model.load_state_dict(curve.best)
    tests = {}
    for name, exclude_seen in (("test", "none"), ("test_hidden", "history")):
        evaluation = RankingEvaluation()
        trainer = L.Trainer(callbacks=[evaluation], **QUIET)
        trainer.test(model, datamodule=make_data(job, exclude_seen=exclude_seen), verbose=False)
        tests[name] = float(trainer.callback_metrics["test/ndcg@10"])
    best = max(range(len(curve.values)), key=curve.values.__getitem__)
    pairs = zip(curve.seconds, curve.values, strict=True)
    return {
        "best_val": curve.values[best],
        "seconds_to_best": curve.seconds[best],
        "seconds_to_goal": next((second for second, value in pairs if value >= job["goal"]), None),
        "epochs": len(curve.values),
        "stopped_by": curve.stopped_by,
        "val_curve": [round(value, 5) for value in curve.values],
        "val_seconds": [round(second, 2) for second in curve.seconds],
        **tests,
        "peak_rss_mb": peak_mb(),
        "environment": describe_environment(),
    }


JOBS = {"prepare": measure_prepare, "train": measure_train, "quality": measure_quality}


if __name__ == "__main__":
    sys.exit(run(lambda: 2, JOBS))
