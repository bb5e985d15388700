"""Where a run writes: `runs/<study>/<variant>/seed<k>/`, and what happens when something is there already."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recsys_lab.schema import RecsysLabError

log = logging.getLogger("recsys_lab")

RESULTS = ("config.yaml", "manifest.json", "metrics.csv", "metrics.json", "ranks.parquet")
LOGGED = ("wandb", "tensorboard")
"""Folders of the loggers."""


@dataclass(frozen=True)
class RunSettings:
    """The run folder and the loggers.

    Args:
        root: Folder of all runs.
        study: Runs that are compared with each other. Default: the data set's name.
        variant: What is compared. Default: the configuration file's name, or the model's.
        folder: The run folder itself, instead of root/study/variant/seed.
        overwrite: Replace a run that is in the folder already.
        test_after_fit: After `fit`, test the best checkpoint.
        retrain: After `fit`, train once more on the training and validation part together, for as many epochs as the
            best one had; that model is tested. See docs/temporal_splits.md.
        logger: Beside the run folder's own files. wandb writes offline unless WANDB_MODE=online is set.
    """

    root: str = "runs"
    study: str | None = None
    variant: str | None = None
    folder: str | None = None
    overwrite: bool = False
    test_after_fit: bool = True
    retrain: bool = False
    logger: Literal["none", "wandb", "tensorboard"] = "none"


def run_folder(settings: RunSettings, seed: int | None) -> Path:
    if settings.folder is not None:
        return Path(settings.folder)
    name = "unseeded" if seed is None else f"seed{seed}"
    return Path(settings.root) / str(settings.study) / str(settings.variant) / name


def make_room(folder: Path, overwrite: bool, resumes_from: str | None) -> None:
    """Raises RecsysLabError where a run would be lost; with `overwrite`, removes its files."""
    if not (folder / "manifest.json").exists():
        return
    if resumes_from is not None and Path(resumes_from).resolve().is_relative_to(folder.resolve()):
        return
    if not overwrite:
        raise RecsysLabError(
            f"{folder} holds a run already. Go on with it: `recsys-lab fit {folder}`; keep both: --run.variant NAME or "
            "another --seed_everything; replace it: --run.overwrite true"
        )
    log.info("replacing the run in %s", folder)
    for path in [*(folder / name for name in RESULTS), *(folder / "checkpoints").glob("*.ckpt")]:
        path.unlink(missing_ok=True)
    for name in LOGGED:  # or the new run's curves would be drawn over the old one's
        shutil.rmtree(folder / name, ignore_errors=True)
