"""The dropout that is cheap on a CPU, and positions."""

from __future__ import annotations

import pytest
import torch

from recsys_lab.models.blocks.layers import CausalSelfAttention, Dropout, Positions


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean_and_drops_the_share(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(101, 997, dtype=dtype)
    out = Dropout(p)(x)
    assert out.shape == x.shape and out.dtype == dtype
    assert abs(float((out == 0).double().mean()) - p) < 0.006
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / (1 - round(p * 65536) / 65536), dtype=dtype).item()}
    columns = (out == 0).double().mean(0)  # neighbours share a draw of the generator, not its bits
    assert abs(float(columns.mean()) - p) < 0.006 and float(columns.std()) < 2 * (p * (1 - p) / 101) ** 0.5


def test_dropout_masks_are_independent_of_their_neighbours() -> None:
    torch.manual_seed(1)
    dropped = (Dropout(0.3)(torch.ones(400_000)) == 0).double()
    for shift in (1, 2, 3, 4):
        both = float((dropped[shift:] * dropped[:-shift]).mean())
        assert abs(both - 0.09) < 0.004


def test_dropout_gradient_seed_and_evaluation() -> None:
    layer, x = Dropout(0.5), torch.randn(7, 5, requires_grad=True)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    first.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.where(first != 0, 2.0, 0.0))
    assert layer.eval()(x) is x and Dropout(0.0)(x) is x
    with pytest.raises(ValueError, match="dropout"):
        Dropout(1.0)


def test_positions_from_the_end_count_back_from_the_newest_event() -> None:
    layer = Positions(4, 2, "end")
    out = layer(torch.tensor([3, 1]), 3)
    assert torch.equal(out[0], layer.weight[[2, 1, 0]])
    assert torch.equal(out[1, 0], layer.weight[0])
    start = Positions(4, 2, "start")
    assert torch.equal(start(torch.tensor([3, 1]), 3)[0], start.weight[:3])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_heads 3"):
        CausalSelfAttention(16, 3)
