"""Every encoder with every loss: gradients of two processes, averaged as DDP averages them, are those of one process on
both batches together. This is one process; tests/distributed/test_joined_batch.py trains on two."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from found_models import ENCODERS, LOSSES, SPEC, built, random_batch
from torch import Tensor

from recsys_lab.contracts import Batch, Loss
from recsys_lab.losses import CrossEntropy
from recsys_lab.models import NextItemModule
from recsys_lab.models.training_steps import over_processes
from recsys_lab.words import PAD_ID

sys.path.insert(0, str(Path(__file__).parent.parent / "distributed"))
from joined_batch import GivenNegatives  # noqa: E402

SHARES = (slice(0, 4), slice(4, 7))
"""Rows of the two processes: uneven, as the last batch of an epoch may be, and with other numbers of targets."""


def training_batch(model: NextItemModule) -> Batch:
    """What a step encodes, with the masks of a masked model: each row has its own on whatever process it is."""
    batch = random_batch([5, 2, 7, 1, 3, 7, 4])
    targets = torch.randint(1, SPEC.num_rows, batch.item_ids.shape, generator=torch.Generator().manual_seed(1))
    wanted = batch.valid_mask
    if model.last_positions_only:
        wanted = torch.arange(wanted.shape[1]) == batch.lengths[:, None] - 1
    targets = torch.where(wanted, targets, PAD_ID)
    batch = replace(batch, target_ids=targets, seen_ids=None, seen_offsets=None, query_time=None)
    return model.training_batch(batch, torch.Generator().manual_seed(2))


def rows(batch: Batch, share: slice) -> Batch:
    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cut(one) for name, one in value.items()}
        return value[share] if isinstance(value, Tensor) else value

    return replace(batch, **{one.name: cut(getattr(batch, one.name)) for one in fields(batch)})


def mean_loss(model: NextItemModule, batch: Batch) -> tuple[Tensor, Any]:
    (part,) = model.task.losses(model.training_state(batch), batch, model.scorer, None)
    return part.mean, part.total


def gradients(model: NextItemModule) -> dict[str, Tensor]:
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("loss", LOSSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda cls: cls.__name__)
def test_the_gradients_are_those_of_one_process(encoder: type[NextItemModule], loss: type[Loss]) -> None:
    shared = (ENCODERS.index(encoder) + LOSSES.index(loss)) % 2 == 0
    more = {"state_dropout": 0.0} if encoder.__name__ == "NARM" else {}
    negatives = None if loss is CrossEntropy else GivenNegatives(shared)
    model = built(encoder, loss=loss(), negatives=negatives, **more).train()
    whole = training_batch(model)
    mean_loss(model, whole)[0].backward()
    alone = gradients(model)
    facts: list[Tensor] = []
    for share in SHARES:  # what the processes tell each other
        trainer: Any = SimpleNamespace(world_size=2)
        trainer.strategy = SimpleNamespace(reduce=lambda own, reduce_op: facts.append(own) or own)
        over_processes(trainer, *mean_loss(model, rows(whole, share)))
    trainer.strategy.reduce = lambda own, reduce_op: facts[0] + facts[1]
    averaged = {name: torch.zeros_like(value) for name, value in alone.items()}
    for share in SHARES:
        mean, total = mean_loss(model, rows(whole, share))
        (mean * over_processes(trainer, mean, total).weight).backward()
        for name, value in gradients(model).items():
            averaged[name] += value / 2
    largest = max(float(value.abs().max()) for value in alone.values())
    assert largest > 0
    for name, value in alone.items():
        torch.testing.assert_close(
            averaged[name], value, rtol=1e-4, atol=1e-5 * largest, msg=lambda text, n=name: n + text
        )
