"""How the weights are updated: the settings, the optimiser and the schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from torch import nn

from recsys_lab.arguments import Range, Share, check_fields
from recsys_lab.models.model_parallel import is_part
from recsys_lab.ops.row_sparse import RULES, RowSparse, sparse_tables
from recsys_lab.words import RecsysLabError

Beta = Annotated[float, Range(at_least=0, below=1)]


Rate = Annotated[float, Range(above=0, at_most=1000)]
"""The bound keeps a slip of the keyboard from a training that is only noise."""


@dataclass(frozen=True)
class Optimization:
    """How the weights are updated.

    Args:
        optimizer: `adam`, or `adamw` (decoupled weight decay). For millions of items and a sampled loss `sparse_adam`
            or `rowwise_adagrad`: the item table by that rule, in the rows of the batch only; the rest by `adam`.
        lr: learning rate after warm-up.
        weight_decay: not applied to biases, norms and embeddings.
        betas: of Adam.
        warmup_steps: the rate rises linearly from 0 over so many steps.
        schedule: `constant`, or `cosine` down to `final_lr_fraction` of `lr` over the Trainer's planned steps.
        final_lr_fraction: where cosine ends.
        table_lr: of the item table under a row-sparse optimiser; None = lr. Adagrad wants a larger one than Adam.
    """

    optimizer: Literal["adam", "adamw", "sparse_adam", "rowwise_adagrad"] = "adam"
    lr: Rate = 1e-3
    weight_decay: Annotated[float, Range(at_least=0, at_most=100)] = 0.0
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    warmup_steps: Annotated[int, Range(at_least=0)] = 0
    schedule: Literal["constant", "cosine"] = "constant"
    final_lr_fraction: Share = 0.0
    table_lr: Rate | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.table_lr is not None and not self.row_sparse:
            raise RecsysLabError(f"optimization.table_lr is for {' and '.join(RULES)}; {self.optimizer} has one lr")

    @property
    def row_sparse(self) -> bool:
        """The item table must give sparse gradients."""
        return self.optimizer in RULES


class LearningRate:
    """`model.lr`: where Lightning's LearningRateFinder reads the rate and leaves the one that it found."""

    optimization: Optimization
    _init_args: dict[str, Any]

    @property
    def lr(self) -> float:
        return self.optimization.lr

    @lr.setter
    def lr(self, value: float) -> None:
        if self.optimization.schedule != "constant" or self.optimization.warmup_steps:
            raise RecsysLabError(
                "LearningRateFinder looks for a constant rate, and this run has a schedule or warm-up: leave the "
                "callback out, or --model.optimization.schedule constant --model.optimization.warmup_steps 0"
            )
        self.optimization = replace(self.optimization, lr=float(value))
        self._init_args["optimization"] = self.optimization  # so that checkpoint and manifest name what trains


def make_optimizer(model: nn.Module, settings: Optimization, planned_steps: Callable[[], float]) -> Any:
    """What Lightning's `configure_optimizers` returns. `planned_steps` is asked only where a schedule needs it."""
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    tables = sparse_tables(model)
    for parameter in model.parameters():
        if any(parameter is table for table in tables):
            continue
        decays = parameter.ndim > 1 and id(parameter) not in embeddings
        (decay if decays else plain).append(parameter)
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    optimizer: torch.optim.Optimizer
    if settings.row_sparse:
        table_lr = settings.lr if settings.table_lr is None else settings.table_lr
        optimizer = RowSparse(groups, tables, settings.optimizer, settings.lr, table_lr, settings.betas)
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        kinds = {is_part(parameter) for parameter in (*decay, *plain)}
        kernel: Any = {"fused": True} if len(kinds) < 2 else {"fused": False, "foreach": False}
        optimizer = kind(groups, lr=settings.lr, betas=settings.betas, **kernel)
    if settings.schedule == "constant" and not settings.warmup_steps:
        return optimizer
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(settings, planned_steps()))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def learning_rate_factor(settings: Optimization, total_steps: float) -> Callable[[int], float]:
    """Linear warm-up, then constant or cosine, as a factor of `lr`. A function: schedulers don't pickle functions."""

    def factor(step: int) -> float:
        warmup = settings.warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        if settings.schedule == "constant" or not math.isfinite(total_steps):
            return 1.0
        progress = min(1.0, (step - warmup) / max(1.0, total_steps - warmup))
        low = settings.final_lr_fraction
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
