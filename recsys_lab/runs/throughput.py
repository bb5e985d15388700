"""Throughput: real tokens per second of training."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch


class Throughput(L.Callback):
    """Counts real input events (no padding) per second of training, over all processes.

    Loading, forward, backward and the optimiser's step are inside the time; validation, the set-up of the epoch's
    loader and what `torch.compile` takes (`compile_seconds`) are not. Logs `train/tokens_per_second` per epoch, and
    shows `tokens/s` in the progress bar.

    Args:
        every_n_steps: how often the progress bar is told.
    """

    def __init__(self, every_n_steps: int = 20) -> None:
        self.every_n_steps = every_n_steps
        self.tokens = 0  # of finished epochs, all processes
        self.seconds = 0.0
        self.compile_seconds = 0.0  # of this process
        self._compile_mark = 0.0
        self._epoch_seconds = 0.0
        self._epoch_start_tokens = 0
        self._mark = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_seconds, self._epoch_start_tokens = 0.0, _tokens(pl_module)
        self._mark, self._compile_mark = time.perf_counter(), _compile_seconds(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        now, compiled = time.perf_counter(), _compile_seconds(pl_module)
        self._epoch_seconds += now - self._mark - (compiled - self._compile_mark)
        self.compile_seconds += compiled - self._compile_mark
        self._mark, self._compile_mark = now, compiled
        if trainer.global_step % self.every_n_steps == 0 and self._epoch_seconds > 0:
            rate = (_tokens(pl_module) - self._epoch_start_tokens) * trainer.world_size / self._epoch_seconds
            pl_module.log("tokens/s", float(f"{rate:.3g}"), prog_bar=True, logger=False, batch_size=1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._mark = time.perf_counter()  # a validation in the middle of an epoch is not training time

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        tokens = _sum_over_processes(trainer, pl_module, _tokens(pl_module) - self._epoch_start_tokens)
        self.tokens += tokens
        self.seconds += self._epoch_seconds
        if self._epoch_seconds > 0 and tokens:
            pl_module.log("train/tokens_per_second", tokens / self._epoch_seconds, batch_size=1)

    @property
    def tokens_per_second(self) -> float | None:
        """Over all finished epochs; None before the first, and for models that are not trained by gradient."""
        return self.tokens / self.seconds if self.seconds > 0 and self.tokens else None

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "seconds": self.seconds, "compile_seconds": self.compile_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens, self.seconds = state_dict["tokens"], state_dict["seconds"]
        self.compile_seconds = state_dict.get("compile_seconds", 0.0)


def _tokens(pl_module: L.LightningModule) -> int:
    """Real events that this process's model has trained on; 0 for a model that does not count."""
    return int(getattr(pl_module, "train_tokens", 0))


def _compile_seconds(pl_module: L.LightningModule) -> float:
    """What torch's compiler has taken so far; 0 for a model that does not compile."""
    return float(getattr(pl_module, "compile_seconds", 0.0))


def _sum_over_processes(trainer: L.Trainer, pl_module: L.LightningModule, value: int) -> int:
    if trainer.world_size == 1:
        return value
    total: Any = trainer.strategy.reduce(torch.tensor(value, device=pl_module.device), reduce_op="sum")
    return int(total)
