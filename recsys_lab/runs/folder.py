"""RunFolder: everything that a run leaves behind, so that each claim can be recomputed from files.

<folder>/config.yaml      the resolved run; `recsys-lab fit --config` runs it again
<folder>/manifest.json    what was compared: hashes, versions, device, command, times, why training stopped
<folder>/metrics.csv      one row per epoch
<folder>/metrics.json     the best epoch's validation metrics, and the test metrics
<folder>/ranks.parquet    one row per test target: user, target, rank; outcomes.parquet for a task that does not rank
<folder>/values.parquet   user, unit, metric, value, weight: what statistics read
<folder>/checkpoints/     written by ModelCheckpoint
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from recsys_lab.config import to_config
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.runs.audit_entry import audit_of
from recsys_lab.runs.environment import describe_device, describe_environment
from recsys_lab.runs.evaluations import COUNTED, find_evaluations, tables_of, with_task_facts
from recsys_lab.runs.run_files import (
    OF_A_TEST,
    checkpoint_facts,
    file_sha256,
    read_manifest,
    write_manifest,
    write_text,
    written,
)
from recsys_lab.runs.throughput import Throughput


class RunFolder(L.Callback):
    """Writes the run folder. Only the first process writes; files appear whole or not at all.

    Args:
        folder: where; made when needed. A run that is resumed into its own folder keeps the rows of earlier epochs.
        config: text of config.yaml; None writes none (a run built in Python has its model in the checkpoint).
        facts: more entries for manifest.json, e.g. study, variant, seed, command.
    """

    def __init__(self, folder: str | Path, config: str | None = None, facts: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.config = config
        self.facts = facts or {}
        self.manifest: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []
        self._started = self._epoch_started = time.perf_counter()
        self._earlier_seconds = 0.0
        self._validated = self._is_written = False

    # -- the run -------------------------------------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.is_global_zero and not self.manifest:
            self._started = time.perf_counter()
            self.folder.mkdir(parents=True, exist_ok=True)
            if stage != "fit":
                self._write_config()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Of a run that goes on nothing is written yet: Lightning may still refuse it, and what was there stays."""
        self._describe(trainer, pl_module)
        self.manifest["stopped_by"] = "running"
        self._is_written = False
        if trainer.ckpt_path is None:
            self._begin(trainer)

    def _begin(self, trainer: L.Trainer) -> None:
        """The fit does take place: from here on the folder is its own."""
        if self._is_written:
            return
        self._is_written = True
        if trainer.is_global_zero:
            self._write_config()
        self._write_manifest(trainer)

    def _write_config(self) -> None:
        if self.config is not None:
            write_text(self.folder / "config.yaml", self.config)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """A run folder that was moved, or took another's place, goes on as if it had always been here: Lightning would
        forget which epoch was the best."""
        mine = {c.state_key: str(c.dirpath) for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)}
        for key, state in checkpoint.get("callbacks", {}).items():
            before = state.get("dirpath") if isinstance(state, dict) else None
            if key in mine and before and before != mine[key]:
                checkpoint["callbacks"][key] = moved(state, before, mine[key])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After a checkpoint was loaded: `current_epoch` is the first epoch that this process trains. What an earlier
        test found goes first: its model is about to be another one."""
        self._begin(trainer)
        if trainer.is_global_zero:
            forget_test(self.folder)
        if trainer.current_epoch and (self.folder / "metrics.csv").is_file():
            self._rows = [row for row in read_rows(self.folder / "metrics.csv") if row["epoch"] < trainer.current_epoch]
            self._earlier_seconds = sum(row["seconds"] for row in self._rows)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_started = time.perf_counter()
        self._validated = False  # Lightning keeps the values of the last validation, be it of an earlier epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": round(time.perf_counter() - self._epoch_started, 3),
        }
        if is_trained(pl_module):
            row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        row |= logged(trainer, ("train/", "val/") if self._validated else ("train/",))
        self._rows.append(row)
        if trainer.is_global_zero:
            write_rows(self.folder / "metrics.csv", self._rows)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish_fit(trainer, stopped_by(trainer))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.manifest.get("stopped_by") == "running":  # resumed from a checkpoint after which nothing was to train
            self._begin(trainer)
            if (self.folder / "metrics.csv").is_file():
                self._rows = read_rows(self.folder / "metrics.csv")
                self._earlier_seconds = sum(row["seconds"] for row in self._rows)
            self._finish_fit(trainer, stopped_by(trainer))

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if self.manifest.get("stopped_by") != "running" or not self._is_written:
            return  # the exception came before training, or in the test that follows it
        taken_away = isinstance(exception, KeyboardInterrupt | SIGTERMException)
        why = "interrupted" if taken_away else getattr(exception, "stopped_by", "error")
        self._finish_fit(trainer, why, **({} if why == "interrupted" else {"error": str(exception)}))

    # -- the test ------------------------------------------------------------------------------------------------------

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish_evaluation(trainer, pl_module, "test/")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = not trainer.sanity_checking
        if trainer.state.fn == "validate":
            self._finish_evaluation(trainer, pl_module, "val/")

    def _finish_evaluation(self, trainer: L.Trainer, pl_module: L.LightningModule, prefix: str) -> None:
        if not self.manifest:
            self.manifest = trained_by(trainer.ckpt_path)
            self._describe(trainer, pl_module)
        self.manifest |= {"trained_on": getattr(pl_module, "trained_on", None)}
        self.metrics |= logged(trainer, (prefix,))
        evaluations = [one for one in find_evaluations(trainer) if one.last is not None]
        for evaluation in evaluations:
            self.metrics |= evaluation.last_metrics  # not rounded to float32
        if trainer.is_global_zero and evaluations:
            for name, table in tables_of(evaluations, trainer.datamodule).items():  # type: ignore[attr-defined]
                with written(self.folder / name) as partial:
                    table.write_parquet(partial)
                    self.manifest[OF_A_TEST[name]] = file_sha256(partial)
                if name in COUNTED:
                    self.manifest[COUNTED[name]] = table.height
            self.manifest |= checkpoint_facts(trainer.ckpt_path, self.folder)
        self._write_metrics(trainer)
        self._write_manifest(trainer, wall_seconds=round(self._seconds(), 2))

    def summary(self) -> dict[str, Any]:
        """The numbers of a table's row, for a logger's summary."""
        names = ("parameters", "stopped_by", "epochs", "train_seconds", "tokens_per_second")
        return self.metrics | {name: self.manifest[name] for name in names if self.manifest.get(name) is not None}

    # -- files ---------------------------------------------------------------------------------------------------------

    def _describe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What is known before the first step."""
        datamodule: Any = getattr(trainer, "datamodule", None)
        evaluation = find(trainer, RankingEvaluation)
        model = to_config(pl_module)
        describe: Any = getattr(pl_module, "describe_system", None)
        if describe is not None and "system_hash" not in self.manifest:  # else the test of a run
            self.manifest |= describe()
        settings = datamodule.evaluation_settings() if hasattr(datamodule, "evaluation_settings") else {}
        settings |= to_config(evaluation)["init_args"] if evaluation is not None else {}
        self.manifest |= {
            **self.facts,
            "model": type(pl_module).__name__,
            "loss": loss_name(pl_module),
            "model_config": model,
            "parameters": sum(p.numel() for p in pl_module.parameters()) if is_trained(pl_module) else 0,
            "evaluation": {
                **with_task_facts(settings, pl_module),
                "ties": getattr(evaluation, "ties", None),
                "cold_targets": getattr(evaluation, "cold_targets", None),
            },
            "audit": audit_of(datamodule),
            "device": describe_device(trainer.strategy.root_device, trainer.world_size),
            "precision": str(trainer.precision),
            "warm_start": getattr(pl_module, "started_from", None),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **describe_environment(),
        }

    def _finish_fit(self, trainer: L.Trainer, why: str, **more: Any) -> None:
        throughput = find(trainer, Throughput)
        if throughput is not None and throughput.compile_seconds:
            more["compile_seconds"] = round(throughput.compile_seconds, 2)
        if self._rows and trainer.is_global_zero:  # an interrupt may have come before the file of the newest row
            write_rows(self.folder / "metrics.csv", self._rows)
        best = best_row(self._rows, trainer.checkpoint_callback)
        self.metrics |= {name: best[name] for name in best if name == "epoch" or name.startswith(("train/", "val/"))}
        self._write_metrics(trainer)
        self._write_manifest(
            trainer,
            stopped_by=why,
            epochs=len(self._rows),
            best_epoch=best.get("epoch"),
            train_seconds=round(self._seconds(), 2),
            wall_seconds=round(self._seconds(), 2),
            tokens_per_second=throughput.tokens_per_second if throughput is not None else None,
            **more,
        )

    def _seconds(self) -> float:
        """Since this run began, with the epochs of the process that it resumes."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def _write_metrics(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            write_text(self.folder / "metrics.json", json.dumps(self.metrics, indent=2) + "\n")

    def _write_manifest(self, trainer: L.Trainer, **more: Any) -> None:
        self.manifest |= more
        if trainer.is_global_zero:
            write_manifest(self.folder, self.manifest)


# ----------------------------------------------------------------------------------------------------------------------
# what the callback asks


def stopped_by(trainer: L.Trainer) -> str:
    """patience | max_epochs | max_steps | max_time | counted | ...: why a fit that ended by itself ended."""
    if not is_trained(trainer.lightning_module):
        return "counted"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.stopped_epoch:
            return callback.stopping_reason.name.lower().removesuffix("_exhausted")
        if isinstance(callback, Timer) and (callback.time_remaining() or 1.0) <= 0:
            return "max_time"
    if trainer.max_steps is not None and 0 <= trainer.max_steps <= trainer.global_step:
        return "max_steps"
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch:
        return "max_epochs"
    return "stopped"


def best_row(rows: list[dict[str, Any]], checkpoint: Any) -> dict[str, Any]:
    """The epoch that ModelCheckpoint would keep as best; the last one when it watches nothing."""
    monitor = (checkpoint.monitor if isinstance(checkpoint, ModelCheckpoint) else None) or ""
    watched = [row for row in rows if isinstance(row.get(monitor), float)]
    if not watched:
        return rows[-1] if rows else {}
    pick = max if checkpoint.mode == "max" else min
    return pick(watched, key=lambda row: row[monitor])


def loss_name(pl_module: L.LightningModule) -> str:
    """Loss and negatives, as a table should name them (design rule: encoder, loss and negatives, always)."""
    names = [getattr(pl_module, part, None) for part in ("loss", "negatives")]
    return " + ".join(type(n).__name__ for n in names if n is not None) if is_trained(pl_module) else "none"


def is_trained(pl_module: L.LightningModule) -> bool:
    """False for models that only count, such as popularity: their buffers say whether they have counted."""
    return not hasattr(pl_module, "is_counted")


def trained_by(ckpt_path: Any) -> dict[str, Any]:
    """The manifest of the run that wrote a checkpoint, when it still lies in its run folder; the test adds to it."""
    folder = Path(ckpt_path).parent.parent if ckpt_path else None
    return read_manifest(folder) if folder is not None and (folder / "manifest.json").is_file() else {}


def forget_test(folder: Path) -> None:
    """Removes what a test left in a run folder: its ranks and values, and the `test/` metrics of metrics.json."""
    for name in OF_A_TEST:
        (folder / name).unlink(missing_ok=True)
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        kept = {name: value for name, value in metrics.items() if not name.startswith("test/")}
        write_text(folder / "metrics.json", json.dumps(kept, indent=2) + "\n")
    except (OSError, ValueError, AttributeError):  # there is none, or it is damaged: the end of the fit writes it anew
        (folder / "metrics.json").unlink(missing_ok=True)


def logged(trainer: L.Trainer, prefixes: tuple[str, ...]) -> dict[str, float]:
    """Metrics under the names they were logged by, without Lightning's `_step` copies."""
    found = {}
    for name, value in trainer.callback_metrics.items():
        if name.startswith(prefixes) and not name.endswith("_step"):
            found[name.removesuffix("_epoch")] = float(value)
    return dict(sorted(found.items()))


def moved(value: Any, before: str, now: str) -> Any:
    """`value` with each path below `before` below `now` instead."""
    if isinstance(value, dict):
        return {moved(k, before, now): moved(v, before, now) for k, v in value.items()}
    if isinstance(value, str) and (value == before or value.startswith(before + os.sep)):
        return now + value[len(before) :]
    return value


def find(trainer: L.Trainer, kind: type[Any]) -> Any:
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with written(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [{**row, "epoch": int(row["epoch"]), "step": int(row["step"])} for row in rows]
