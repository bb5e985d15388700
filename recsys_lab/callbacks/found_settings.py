"""Settings that a callback chooses before the first step, written into the run's configuration as if asked for."""

from __future__ import annotations

from typing import Any

import lightning as L
import yaml
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder


def with_found_settings(config: str, trainer: L.Trainer, pl_module: Any) -> str:
    """`config` (the text of config.yaml) with the batch size and the learning rate that training takes, and without the
    callbacks that found them: `fit --config` then trains the same again, and a resume does not look for others."""
    kinds = {type(c) for c in trainer.callbacks if isinstance(c, BatchSizeFinder | LearningRateFinder)}  # type: ignore[attr-defined]
    if not kinds:
        return config
    plain = yaml.safe_load(config)
    if BatchSizeFinder in kinds:
        plain["data"]["batch_size"] = trainer.datamodule.batch_size  # type: ignore[attr-defined]
    if LearningRateFinder in kinds:
        settings = plain["model"].setdefault("init_args", {})
        optimization = settings.get("optimization") or {}
        (optimization.get("init_args", optimization))["lr"] = pl_module.lr
        settings["optimization"] = optimization
    names = {kind.__name__ for kind in kinds}
    callbacks = plain["trainer"].get("callbacks") or []
    kept = [c for c in callbacks if str(c["class_path"]).rpartition(".")[2] not in names]
    plain["trainer"]["callbacks"] = kept or None
    return str(yaml.safe_dump(plain, sort_keys=False))
