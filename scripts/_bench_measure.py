"""One measurement of our side in a process of its own: `python _bench_measure.py '<job as JSON>'` prints one JSON line.

Jobs (`kind`): `prepare` reads the raw file into a prepared folder; `train` trains and tests SASRec on a prepared folder
the way a user would: `SequenceDataModule`, `SASRec`, `Trainer`.
"""

from __future__ import annotations

import json
import logging
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any


def measure_prepare(job: dict[str, Any]) -> dict[str, Any]:
    from recsys_lab.data.prepare import PrepareSettings, prepare
    from recsys_lab.data.sources.files import FileSource

    settings = PrepareSettings(min_length=job["min_user_events"])
    started = time.perf_counter()
    data = prepare(FileSource(job["file"]), settings, Path(job["folder"]), Path(job["folder"]).parent / "raw")
    return {
        "prepare_s": time.perf_counter() - started,
        "num_users": data.num_users,
        "num_items": data.num_items,
        "num_events": data.num_events,
    }


def measure_train(job: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    import lightning as L
    import torch

    from recsys_lab.callbacks import RankingEvaluation
    from recsys_lab.callbacks.environment import describe_environment
    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.models import Optimization, SASRec
    from recsys_lab.schema import PAD_ID

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
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    started = time.perf_counter()
    data = SequenceDataModule(
        job["folder"],
        max_length=job["max_length"],
        batch_size=job["batch_size"],
        max_windows_per_user=job["max_windows_per_user"],
        exclude_seen="history",
    )
    data.setup()
    batches_per_epoch = len(data.train_dataloader())
    setup_s = time.perf_counter() - started
    model = SASRec(
        embedding_dim=64,
        num_layers=2,
        num_heads=2,
        dropout=0.2,
        feed_forward_dim=64,
        optimization=Optimization(optimizer="adam", lr=1e-3),
    )
    clock = Clock()
    limit = {"limit_train_batches": job["max_batches"]} if job["max_batches"] else {}
    L.Trainer(max_epochs=job["epochs"], limit_val_batches=0, callbacks=[clock], **limit, **quiet).fit(model, data)

    test_seconds, tested = [], 0
    for _ in range(2):  # the first call also warms up; the peers' scripts take the better of two as well
        evaluation = RankingEvaluation()
        trainer = L.Trainer(callbacks=[evaluation], **quiet)
        started = time.perf_counter()
        trainer.test(model, datamodule=data, verbose=False)
        test_seconds.append(time.perf_counter() - started)
        assert evaluation.last_ranks is not None
        tested = len(evaluation.last_ranks)

    timed = clock.epochs[1:] or clock.epochs  # the first is warm-up
    return {
        "import_s": import_s,
        "setup_s": setup_s,
        "batches_per_epoch": batches_per_epoch,
        "targets_per_epoch": data.train_windows.num_targets,
        "epoch_s": [round(wall, 4) for wall, _, _ in clock.epochs],
        "targets_per_s": statistics.median(targets / wall for wall, _, targets in timed),
        "cores_used": statistics.median(cpu / wall for wall, cpu, _ in timed),
        "eval_users": tested,
        "eval_users_per_s": tested / min(test_seconds),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "environment": describe_environment(),
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    job = json.loads(sys.argv[1])
    result = {"prepare": measure_prepare, "train": measure_train}[job["kind"]](job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak_rss_mb"] = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
