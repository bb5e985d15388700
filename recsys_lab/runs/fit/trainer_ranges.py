"""Ranges of Lightning's own settings, which its classes check late or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys_lab.arguments import Range
from recsys_lab.words import RecsysLabError

NOT_NEGATIVE, ONE_OR_MORE = Range(at_least=0), Range(at_least=1)
LIMIT = Range(at_least=0)
RANGES: dict[str, Range] = {
    "trainer.gradient_clip_val": NOT_NEGATIVE,
    "trainer.min_epochs": Range(at_least=0, at_most=10**9),
    "trainer.max_epochs": Range(at_least=-1, at_most=10**9),
    "trainer.min_steps": Range(at_least=0, at_most=10**12),
    "trainer.max_steps": Range(at_least=-1, at_most=10**12),
    "trainer.accumulate_grad_batches": Range(at_least=1, at_most=10**6),
    "trainer.log_every_n_steps": NOT_NEGATIVE,
    "trainer.check_val_every_n_epoch": ONE_OR_MORE,
    "trainer.val_check_interval": Range(above=0),
    "trainer.num_sanity_val_steps": Range(at_least=-1),
    "trainer.num_nodes": Range(at_least=1, at_most=100_000),
    "trainer.overfit_batches": LIMIT,
    "trainer.limit_train_batches": LIMIT,
    "trainer.limit_val_batches": LIMIT,
    "trainer.limit_test_batches": LIMIT,
    "trainer.limit_predict_batches": LIMIT,
    "trainer.reload_dataloaders_every_n_epochs": NOT_NEGATIVE,
    "early_stopping.patience": NOT_NEGATIVE,
    "early_stopping.min_delta": Range(),
    "early_stopping.stopping_threshold": Range(),
    "early_stopping.divergence_threshold": Range(),
    "checkpoint.save_top_k": Range(at_least=-1),
    "checkpoint.every_n_epochs": ONE_OR_MORE,
    "checkpoint.every_n_train_steps": NOT_NEGATIVE,
    "seed_everything": Range(at_least=0, below=2**32),
}
SHARES = ("val_check_interval", "overfit_batches", *(f"limit_{part}_batches" for part in ("train", "val", "test")))


def check_ranges(config: Mapping[str, Any]) -> None:
    """Raises RecsysLabError for a value that can't be meant, naming the option."""
    if str((config.get("data") or {}).get("dataset", "any")).strip() == "":
        raise RecsysLabError("--data.dataset is empty: name a prepared data set, or one of `recsys-lab sources`")
    for name, allowed in RANGES.items():
        section, _, key = name.rpartition(".")
        value = (config.get(section) or {}).get(key) if section else config.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue  # None and texts have their own checks
        if not allowed.holds(value):
            raise RecsysLabError(f"--{name} must be {allowed.text(value)}, not {value}")
        if key in SHARES and isinstance(value, float) and value > 1 and not value.is_integer():
            raise RecsysLabError(f"--{name} is {value}: a share of at most 1.0, or a whole number of batches")
