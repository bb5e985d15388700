"""The plain matrix of all logits, `implementation="full"`, and the default way give the same loss and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_scorers import TableScorer
from torch import Tensor

from recsys_lab.losses import CrossEntropy
from recsys_lab.words import RecsysLabError


def gradients(loss: CrossEntropy, bias: bool) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 8, generator=draw).requires_grad_()
    targets = torch.randint(1, 54, (37,), generator=draw)
    scorer = TableScorer.random(53, 8, bias)
    value = loss(hidden, targets, scorer)
    return [value.detach(), *torch.autograd.grad(2.0 * value, [hidden, *scorer.parameters()])]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_equals_ours(smoothing: float, bias: bool) -> None:
    plain = gradients(CrossEntropy(smoothing, 0.7, implementation="full"), bias)
    for one, other in zip(plain, gradients(CrossEntropy(smoothing, 0.7), bias), strict=True):
        assert (one - other).norm() / other.norm() < 1e-6
    assert (plain[2][0] == 0).all()  # padding


@pytest.mark.parametrize("name", ["fast", "torch", "cut"])
def test_an_unknown_name_lists_the_known(name: Any) -> None:
    with pytest.raises(RecsysLabError, match="must be one of 'chunked', 'full'"):
        CrossEntropy(implementation=name)
