"""The loss of a step over all processes, and the stop at a NaN or infinite one before the weights are touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recsys_lab.words import RecsysLabError

LOOK_EVERY = 50
"""Batches between two looks at what an accelerator found: each look waits for it."""


class GlobalLoss(NamedTuple):
    """Of one batch, over all processes; nothing here waits for the device."""

    mean: Tensor  # over all targets of the batches of all processes
    total: Tensor | float  # weights of the targets of all processes; where they have none, their number
    weight: Tensor | float  # of this process's loss: DDP averages gradients, and processes differ in targets
    is_bad: Tensor  # () bool: NaN or infinite on one of them


def over_processes(trainer: Any, loss: Tensor, total: Tensor | int) -> GlobalLoss:
    """With `weight`, N processes take the very step that one process would take on the joined batch.

    Args:
        loss: (), the mean over this process's targets.
        total: of their weights; how many there are, where they have none.
    """
    mean = loss.detach()
    if trainer.world_size == 1:
        return GlobalLoss(mean, total, 1.0, ~mean.isfinite())
    own = torch.as_tensor(total, dtype=mean.dtype, device=mean.device).detach()
    facts = torch.stack([own, mean * own, ~mean.isfinite()]).float()
    of_all, summed, bad = trainer.strategy.reduce(facts, reduce_op="sum").unbind()
    return GlobalLoss(summed / of_all, of_all, total * trainer.world_size / of_all, bad > 0)


class FiniteLoss:
    """Stops training at the first loss that is NaN or infinite.

    On a CPU, and under an optimiser that can't be told to skip a step, each loss is looked at: there that costs
    nothing, or is waited for anyway. On an accelerator a look makes it run dry. There the optimiser itself gets the
    news, on the device (`found_inf`, by which a GradScaler makes fused optimisers skip a step), and from the first bad
    loss on leaves weights and moments as they are. The error comes with the next look: every `LOOK_EVERY` batches,
    before a validation, at an epoch's end, and before a checkpoint is written.
    """

    def __init__(self, device: torch.device | None = None, optimizers: Sequence[Any] = ()) -> None:
        can_skip = all(getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in optimizers)
        self.at_once = device is None or device.type == "cpu" or not can_skip
        self._first_bad = torch.full((), -1, device=device)  # step of the first bad loss, on the device
        self._epoch = self._seen = 0

    def see(self, loss: GlobalLoss, step: int, epoch: int) -> None:
        """A batch's loss, before its backward pass.

        Raises:
            NonFiniteLossError: on every process, when the loss of one of them is NaN or infinite.
        """
        self._first_bad = torch.where(loss.is_bad & (self._first_bad < 0), step, self._first_bad)
        self._epoch, self._seen = epoch, self._seen + 1
        if self.at_once or self._seen % LOOK_EVERY == 0:
            self.look()

    def guard(self, optimizer: Any) -> None:
        """Before a step of the optimiser."""
        if not self.at_once:
            optimizer.found_inf = (self._first_bad >= 0).float()

    def look(self) -> None:
        """Raises NonFiniteLossError when a loss was bad."""
        step = int(self._first_bad)
        if step >= 0:
            self._first_bad = torch.full_like(self._first_bad, -1)  # said once
            raise NonFiniteLossError(
                f"the training loss became NaN or infinite at step {step} (epoch {self._epoch}): stopped before the "
                "weights were touched. Lower optimization.lr, add warm-up, or set trainer.gradient_clip_val"
            )


class NonFiniteLossError(RecsysLabError):
    """Training stopped at a NaN or infinite loss; the last good checkpoint is untouched."""

    exit_code = 1  # of the command line: the run failed, not the way it was called
    stopped_by = "nan"  # in the run's manifest
