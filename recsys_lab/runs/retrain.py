"""`fit --run.retrain true`: once the fit has found the best epoch, the same model from the same seed is trained on the
training and validation part together, for exactly as many epochs; that model is tested and is the run's `best.ckpt`.

    checkpoints/best.ckpt        the model that is tested: of the first fit until the second training is done
    checkpoints/first_fit.ckpt   the best epoch of the first fit, once best.ckpt is the retrained model
    checkpoints/retrained.ckpt   the second training, while it runs: `recsys-lab fit RUN` goes on from it
    checkpoints/last.ckpt        the last epoch of the first fit

A schedule over the planned steps (cosine) is laid over the second training's own epochs: it ends at its end.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from recsys_lab.models.checkpoint import read_checkpoint
from recsys_lab.models.system import system_hash
from recsys_lab.runs.each_epoch import EachEpoch
from recsys_lab.runs.folder import RunFolder
from recsys_lab.runs.progress_lines import own_progress
from recsys_lab.runs.run_files import OF_A_TEST, UNFINISHED, read_manifest, write_manifest, write_text
from recsys_lab.runs.whole_checkpoints import with_whole_checkpoints
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")


def fit_twice(line: Any, **kwargs: Any) -> str:
    """The fit and the second training, as far as a run that goes on has not done them.

    Args:
        line: the `CommandLine`; its trainer, model and data are those of the second training afterwards.
        kwargs: of the first `Trainer.fit`.

    Returns:
        The checkpoint to test.
    """
    config = line.config[line.subcommand]
    files = RetrainFiles(line.folder, Path(config.checkpoint.dirpath) / f"{config.checkpoint.filename}.ckpt")
    if kwargs.get("ckpt_path") is None or not files.first_fit_is_done(line.trainer.max_epochs):
        line.trainer.callbacks.append(BackToFirstFit(files))
        line.trainer_call("fit", **kwargs)
    epochs = files.epochs()
    again = line.config.clone()
    again[line.subcommand].data.retrained, again[line.subcommand].trainer.logger = True, False
    line._set_seed()
    parts = line.parser.instantiate_classes(again)[line.subcommand]
    parts.model.starts_from = line.model.starts_from
    line.model, line.datamodule, line.trainer = parts.model, parts.data, second_trainer(parts, epochs, files)
    if not files.second_training_is_done():
        log.info("training once more, on the training and validation part together: %d epoch(s)", epochs)
        start = time.perf_counter()
        goes_on = str(files.unfinished) if files.unfinished.is_file() else None
        line.trainer_call("fit", model=line.model, datamodule=line.datamodule, ckpt_path=goes_on)
        if line.trainer.is_global_zero:
            files.finish(line.text_to_save(line.asked, retrained=True), epochs, time.perf_counter() - start)
        line.trainer.strategy.barrier()
    line.trainer.callbacks.append(RetrainedFolder(line.folder))
    return str(files.best)


class RetrainFiles:
    """What a run with a second training has on disk, and so how far it is.

    Args:
        folder: the run folder.
        best: where ModelCheckpoint keeps the best epoch.
    """

    def __init__(self, folder: Path, best: Path) -> None:
        self.folder, self.best = folder, best
        self.first_fit, self.unfinished = best.with_name("first_fit.ckpt"), best.with_name("retrained.ckpt")

    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.folder) if (self.folder / "manifest.json").is_file() else {}

    def first_fit_is_done(self, max_epochs: int | None) -> bool:
        """It ended by itself, and not because of a `max_epochs` that is higher now."""
        manifest = self.manifest()
        why = manifest.get("stopped_by", "running")
        if why in UNFINISHED or not (self.best.is_file() or self.first_fit.is_file()):
            return False
        return why != "max_epochs" or (max_epochs is not None and 0 <= max_epochs <= manifest["epochs"])

    def second_training_is_done(self) -> bool:
        return self.first_fit.is_file() and self.best.is_file() and not self.unfinished.is_file()

    def back_to_first_fit(self) -> None:
        """Before the first fit begins or goes on: its best epoch is best.ckpt again, and what came after is void."""
        if self.first_fit.is_file():
            os.replace(self.first_fit, self.best)
            for name in OF_A_TEST:
                (self.folder / name).unlink(missing_ok=True)
        self.unfinished.unlink(missing_ok=True)

    def epochs(self) -> int:
        """Epochs until the first fit's best one, that included."""
        best = self.first_fit if self.first_fit.is_file() else self.best
        if not best.is_file():
            raise RecsysLabError(
                f"--run.retrain looks for the best epoch in {best}, which does not exist: leave checkpoint.filename "
                "without placeholders, and checkpoints on"
            )
        epochs: int = read_checkpoint(best)["epoch"] + 1
        return epochs

    def finish(self, config: str, epochs: int, seconds: float) -> None:
        """The second training has ended: its model becomes best.ckpt, and config.yaml and manifest.json say so."""
        if not self.first_fit.is_file():
            os.replace(self.best, self.first_fit)
        os.replace(self.unfinished, self.best)
        write_text(self.folder / "config.yaml", config)
        facts = {"retrained": True, "retrain_epochs": epochs, "retrain_seconds": round(seconds, 2)}
        manifest = self.manifest()
        manifest |= facts | {"wall_seconds": round(manifest.get("wall_seconds", 0.0) + seconds, 2)}
        write_manifest(self.folder, manifest)


class BackToFirstFit(Callback):
    """The files go back when the first fit really trains: one that is refused before leaves the run as it was."""

    def __init__(self, files: RetrainFiles) -> None:
        self._files = files

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._files.back_to_first_fit()
        trainer.strategy.barrier()


class RetrainedFolder(RunFolder):
    """Adds the test of the retrained model to what the first fit left: its validation metrics stay."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._first: dict[str, Any] = read_manifest(folder)
        path = folder / "metrics.json"
        self.metrics = json.loads(path.read_text()) if path.is_file() else {}
        self._earlier_seconds = self._first.get("wall_seconds", 0.0)

    def _describe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super()._describe(trainer, pl_module)
        second = self.manifest
        self.manifest = self._first | {name: second[name] for name in ("evaluation", "audit", "training_hash")}
        # the second training has the first one's settings; the number of its epochs is a finding and no setting
        system = {**self._first.get("system", {}), "retrained_on": second["training_hash"]}
        self.manifest |= {"system": system, "system_hash": system_hash(system)}


def second_trainer(parts: Any, epochs: int, files: RetrainFiles) -> L.Trainer:
    """A Trainer for exactly `epochs` epochs without validation.

    Args:
        parts: the instantiated configuration: `trainer`, `evaluation`.
    """
    callbacks = parts.trainer.callbacks or []
    users: list[Callback] = callbacks if isinstance(callbacks, list) else [callbacks]
    kept = [c for c in users if not isinstance(c, EarlyStopping | ModelCheckpoint)]  # they watch the validation
    each_epoch = EachEpoch(files.unfinished)
    exactly = {"max_epochs": epochs, "min_epochs": None, "max_steps": -1, "min_steps": None, "max_time": None}
    no_validation = {"limit_val_batches": 0, "num_sanity_val_steps": 0}
    whole = {"plugins": with_whole_checkpoints(parts.trainer.plugins)}
    settings = {**parts.trainer, **exactly, **no_validation, **whole, "logger": False}
    return L.Trainer(**settings | {"callbacks": [*kept, parts.evaluation, each_epoch, *own_progress(settings)]})
