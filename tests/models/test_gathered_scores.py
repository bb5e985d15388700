from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.ops import gathered_scores as module
from recsys_lab.ops.gathered_scores import gathered_scores

NUM_ROWS, D = 9, 5


def inputs(n: int, c: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(n * 100 + c)
    hidden = torch.randn(n, D, generator=draw, dtype=dtype).requires_grad_()
    weight = torch.randn(NUM_ROWS, D, generator=draw, dtype=dtype).requires_grad_()
    return hidden, weight, torch.randint(1, NUM_ROWS, (n, c), generator=draw)  # with repeated items


def gathered(hidden: Tensor, weight: Tensor, item_ids: Tensor) -> Tensor:
    return (F.embedding(item_ids, weight) * hidden.unsqueeze(1)).sum(2)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("elements", [1, 70, 1_000_000])  # rows gathered at a time: one position, a few, all
@pytest.mark.parametrize(("n", "c"), [(1, 1), (7, 1), (13, 6)])
def test_equals_the_gather(n: int, c: int, elements: int, sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GATHERED_ELEMENTS", elements)
    hidden, weight, item_ids = inputs(n, c)
    upstream = torch.randn(n, c, generator=torch.Generator().manual_seed(0))
    ours, reference = gathered_scores(hidden, weight, item_ids, sparse), gathered(hidden, weight, item_ids)
    torch.testing.assert_close(ours, reference)
    found = torch.autograd.grad(ours, (hidden, weight), upstream)
    expected = torch.autograd.grad(reference, (hidden, weight), upstream)
    assert found[1].is_sparse is sparse
    if sparse:
        assert found[1].is_coalesced() and torch.equal(found[1].indices()[0], item_ids.unique())
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1].to_dense() if sparse else found[1], expected[1])


def test_gradcheck() -> None:
    hidden, weight, item_ids = inputs(4, 3, torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: gathered_scores(h, w, item_ids), (hidden, weight))


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input(frozen: int) -> None:
    hidden, weight, item_ids = inputs(4, 3)
    (hidden, weight)[frozen].requires_grad_(False)
    wanted = (hidden, weight)[1 - frozen]
    ours, reference = (f(hidden, weight, item_ids).sum() for f in (gathered_scores, gathered))
    torch.testing.assert_close(torch.autograd.grad(ours, wanted), torch.autograd.grad(reference, wanted))


def test_autocast() -> None:
    hidden, weight, item_ids = inputs(6, 4)
    reference = gathered(hidden, weight, item_ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = gathered_scores(hidden, weight, item_ids)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), reference, rtol=0.03, atol=0.05)
    for one, other in zip(
        *(torch.autograd.grad(s.float().sum(), (hidden, weight)) for s in (ours, reference)), strict=True
    ):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.03, atol=0.05)


@pytest.mark.parametrize("bias", [False, True])
def test_own_items_score_as_shared_and_as_all_items(bias: bool) -> None:
    scorer = TiedScorer(ItemTable(NUM_ROWS, D), bias=bias)
    if scorer.bias is not None:
        nn.init.normal_(scorer.bias)
    hidden, _, item_ids = inputs(6, 4)
    every = scorer.all_scores(hidden)
    torch.testing.assert_close(scorer.scores(hidden, item_ids), every.gather(1, item_ids))
    torch.testing.assert_close(scorer.scores(hidden, item_ids[0]), every[:, item_ids[0]])
