"""Weights of targets: every loss is the weighted mean of the losses of single targets, with the gradients of that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from found_losses import LOSSES, draw
from loss_scorers import Distances, TableScorer, TwoBlocks

from recsys_lab.contracts import Loss, Negatives
from recsys_lab.losses import CrossEntropy
from recsys_lab.ops.linear_cross_entropy import linear_cross_entropy

TARGETS = torch.tensor([1, 9, 3, 3, 5, 2])
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0, 0.25], dtype=torch.float64)


def states() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("kind", [TableScorer, TwoBlocks, Distances])
@pytest.mark.parametrize("cls", LOSSES)
def test_the_weighted_mean_of_single_targets(cls: type[Loss], kind: type[TableScorer]) -> None:
    hidden, table = states(), TableScorer.random(9, 4, bias=True, dtype=torch.float64)
    scorer = kind(table.weight.detach(), table.bias.detach())  # type: ignore[union-attr]
    negatives, wanted = draw(4, 9, TARGETS, per_position=True), [hidden, *scorer.parameters()]
    each = torch.stack(
        [
            cls()(
                hidden[i : i + 1],
                TARGETS[i : i + 1],
                scorer,
                Negatives(*(t[i : i + 1] for t in (negatives.item_ids, negatives.log_q, negatives.target_log_q))),
            )
            for i in range(6)
        ]
    )
    expected = (each * WEIGHTS).sum() / WEIGHTS.sum()
    got = cls()(hidden, TARGETS, scorer, negatives, WEIGHTS)
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(torch.autograd.grad(got, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(cls()(hidden, TARGETS, scorer, negatives, torch.ones(6)), each.mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("chunk", "block"), [(None, None), (2, None), (4, 5)])
@pytest.mark.parametrize("implementation", ["chunked", "full"])
def test_the_fused_product(implementation: Any, chunk: Any, block: Any, smoothing: float) -> None:
    hidden, scorer = states(), TableScorer.random(9, 4, bias=True, dtype=torch.float64)
    logits = F.linear(hidden, scorer.weight[1:], scorer.bias[1:])  # type: ignore[index]
    losses = F.cross_entropy(logits, TARGETS - 1, reduction="none", label_smoothing=smoothing)
    expected, wanted = (losses * WEIGHTS).sum() / WEIGHTS.sum(), [hidden, *scorer.parameters()]
    if implementation == "full":
        got = CrossEntropy(smoothing, implementation="full")(hidden, TARGETS, scorer, None, WEIGHTS)
    else:
        bias = scorer.bias
        settings = {"label_smoothing": smoothing, "chunk_size": chunk, "block_size": block}
        got = linear_cross_entropy(hidden, scorer.weight, TARGETS, bias, WEIGHTS, **settings)
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(torch.autograd.grad(got, wanted), torch.autograd.grad(expected, wanted), strict=True):
        torch.testing.assert_close(ours, theirs)
