"""Every way to the full cross-entropy gives the same, or says what it can't do."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from loss_scorers import TableScorer
from torch import Tensor

from recsys_lab.losses import CrossEntropy, implementations
from recsys_lab.schema import RecsysLabError

HAS_TORCHS = hasattr(torch.nn, "LinearCrossEntropyOptions")


def example() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(37, 8, generator=draw).requires_grad_(), torch.randint(1, 54, (37,), generator=draw)


def gradients(loss: CrossEntropy, bias: bool) -> list[Tensor]:
    hidden, targets = example()
    scorer = TableScorer.random(53, 8, bias)
    value = loss(hidden, targets, scorer)
    return [value.detach(), *torch.autograd.grad(2.0 * value, [hidden, *scorer.parameters()])]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("name", "smoothing"), [("full", 0.0), ("full", 0.2), ("torch", 0.0)])
def test_equals_ours(name: Any, smoothing: float, bias: bool) -> None:
    if name == "torch" and not HAS_TORCHS:
        pytest.skip("this torch has no linear_cross_entropy")
    theirs = gradients(CrossEntropy(smoothing, 0.7, implementation=name), bias)
    for one, other in zip(theirs, gradients(CrossEntropy(smoothing, 0.7), bias), strict=True):
        assert (one - other).norm() / other.norm() < 1e-6
    assert (theirs[2][0] == 0).all()  # padding


def test_torchs_makes_no_warning_of_a_fallback(recwarn: pytest.WarningsRecorder) -> None:
    if not HAS_TORCHS:
        pytest.skip("this torch has no linear_cross_entropy")
    gradients(CrossEntropy(implementation="torch"), bias=True)
    assert not [w for w in recwarn if "linear_cross_entropy" in str(w.message)]


def test_a_torch_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.nn, "LinearCrossEntropyOptions", raising=False)
    with pytest.raises(RecsysLabError, match=r"torch 2\.13"):
        gradients(CrossEntropy(implementation="torch"), bias=False)


def test_cut_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", None)
    with pytest.raises(RecsysLabError, match=r"recsys-lab\[cut\]"):
        CrossEntropy(implementation="cut")


class StandIn:
    """cut_cross_entropy as its first release is called, computed plainly; remembers how."""

    def linear_cross_entropy(
        self,
        e: Tensor,
        c: Tensor,
        targets: Tensor,
        ignore_index: int = -100,
        softcap: float | None = None,
        reduction: str = "mean",
        shift: bool = False,
        filter_eps: float | str | None = "high",
        impl: str = "cce",
    ) -> Tensor:
        self.called = SimpleNamespace(states=e.dtype, table=c.dtype, filter_eps=filter_eps, impl=impl)
        assert ignore_index not in targets
        return F.cross_entropy(e.float() @ c.T, targets, reduction=reduction).to(e.dtype)


def test_cut_is_called_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, with a stand-in: nothing here says that its kernels are right."""
    kernels = StandIn()
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", kernels)
    loss = CrossEntropy(implementation="cut")
    hidden, targets = example()
    scorer = TableScorer.random(53, 8)
    with pytest.raises(RecsysLabError, match="runs on CUDA, not on cpu"):
        loss(hidden, targets, scorer)

    class OnGPU:  # the states, as far as `cut` looks at them
        device = torch.device("cuda")

        def to(self, dtype: torch.dtype) -> Tensor:
            return hidden.to(dtype)

    value = implementations.cut(OnGPU(), scorer.weight, targets, None, 0.0)  # type: ignore[arg-type]
    assert vars(kernels.called) == {
        "states": torch.bfloat16,
        "table": torch.float32,
        "filter_eps": None,
        "impl": "cce",
    }
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(CrossEntropy()(hidden, targets, scorer).item(), rel=0.02)
    with pytest.raises(RecsysLabError, match="no item bias"):
        implementations.cut(OnGPU(), scorer.weight, targets, scorer.weight[:, 0], 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["torch", "cut"])
def test_label_smoothing_is_refused_where_it_is_missing(name: Any) -> None:
    with pytest.raises(RecsysLabError, match="label_smoothing"):
        CrossEntropy(label_smoothing=0.1, implementation=name)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(RecsysLabError, match="must be one of 'chunked', 'full', 'torch', 'cut'"):
        CrossEntropy(implementation="fast")  # type: ignore[arg-type]
