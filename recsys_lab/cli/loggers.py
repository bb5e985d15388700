"""Loggers beside the run folder's own files. W&B and TensorBoard are imported only when chosen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

from recsys_lab.cli.run_settings import RunSettings


def make_logger(settings: RunSettings, folder: Path, config: dict[str, Any]) -> Logger | bool:
    """The logger that `run.logger` names, with the run's configuration; False for none.

    Args:
        folder: the run folder; loggers write below it.
        config: the resolved run as plain data.
    """
    if settings.logger == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        model = config["model"]["class_path"].rpartition(".")[2]
        folder.mkdir(parents=True, exist_ok=True)
        return WandbLogger(
            project=settings.study,
            group=settings.variant,
            name=f"{settings.variant}-seed{config['seed_everything']}",
            save_dir=folder,
            offline=os.environ.get("WANDB_MODE", "offline") != "online",  # nothing needs an account
            tags=[str(settings.study), str(settings.variant), model],
            config=config,
        )
    if settings.logger == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(folder, name="", version="tensorboard")
    return False


def finish_loggers(trainer: Trainer, summary: dict[str, Any]) -> None:
    """Writes the final numbers into W&B's summary and closes its run, so that its file is complete."""
    for logger in trainer.loggers:
        run = getattr(logger, "_experiment", None)
        if type(logger).__name__ == "WandbLogger" and run is not None:
            run.summary.update(summary)
            run.finish()
