"""What holds for every loss. Losses are found by scanning the package: a new one is tested by itself."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from found_losses import LOSSES, draw
from loss_scorers import TableScorer
from torch import Tensor

import recsys_lab.losses
from recsys_lab.config import from_config, to_config
from recsys_lab.contracts import Loss, Negatives
from recsys_lab.words import RecsysLabError

WITH_NEGATIVES = [cls for cls in LOSSES if cls.default_negatives]


def defaults(cls: type[Loss]) -> dict[str, Any]:
    return {
        p.name: p.default for p in list(inspect.signature(cls.__init__).parameters.values())[1:] if p.name != "args"
    }


def shared(*item_ids: int) -> Negatives:
    zeros = torch.zeros(len(item_ids))
    return Negatives(torch.tensor(item_ids), zeros, torch.zeros(1))


def test_every_loss_is_found_by_its_name() -> None:
    assert len(LOSSES) >= 7
    assert all(getattr(recsys_lab.losses, cls.__name__) is cls for cls in LOSSES)


@pytest.mark.parametrize("cls", LOSSES)
def test_round_trip_of_the_configuration(cls: type[Loss]) -> None:
    for arguments in ({}, defaults(cls)):
        config = to_config(cls(**arguments))
        assert config["init_args"] == arguments
        again = from_config(config)
        assert type(again) is cls and to_config(again) == config


@pytest.mark.parametrize("cls", LOSSES)
def test_a_misspelt_setting_is_an_error(cls: type[Loss]) -> None:
    with pytest.raises(RecsysLabError, match="temperatur is no argument of it"):
        cls(temperatur=1.0)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("per_position", [True, False])
@pytest.mark.parametrize("cls", LOSSES)
def test_a_scalar_with_finite_gradients_for_all(cls: type[Loss], per_position: bool, linear: bool) -> None:
    hidden = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([1, 9, 3, 3, 5, 2])
    scorer = TableScorer.random(9, 4, bias=True, linear=linear)
    loss = cls()(hidden, targets, scorer, draw(4, 9, targets, per_position))
    loss.backward()
    assert loss.shape == () and loss.dtype == torch.float32 and torch.isfinite(loss)
    for tensor in (hidden, *scorer.parameters()):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all() and tensor.grad.abs().max() > 0
    assert (scorer.weight.grad[0] == 0).all()  # padding


@pytest.mark.parametrize("cls", LOSSES)
def test_gradcheck(cls: type[Loss]) -> None:
    hidden = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    scorer, targets = TableScorer.random(5, 2, dtype=torch.float64), torch.tensor([1, 5, 3])
    negatives = draw(4, 5, targets, per_position=True)  # with a collision
    assert (negatives.item_ids == targets[:, None]).any()
    assert torch.autograd.gradcheck(lambda h, w: cls()(h, targets, scorer, negatives), (hidden, scorer.weight))


@pytest.mark.parametrize("cls", LOSSES)
def test_is_the_mean_over_positions(cls: type[Loss]) -> None:
    scorer, targets = TableScorer.random(9, 4), torch.tensor([1, 9, 3])
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    negatives = draw(5, 9, targets, per_position=True)
    each = [
        cls()(
            hidden[i : i + 1],
            targets[i : i + 1],
            scorer,
            Negatives(negatives.item_ids[i : i + 1], negatives.log_q[i : i + 1], negatives.target_log_q[i : i + 1]),
        )
        for i in range(3)
    ]
    torch.testing.assert_close(cls()(hidden, targets, scorer, negatives), torch.stack(each).mean())


@pytest.mark.parametrize("cls", LOSSES)
def test_shared_negatives_equal_the_same_ones_for_each(cls: type[Loss]) -> None:
    scorer, targets = TableScorer.random(9, 4), torch.tensor([1, 9, 3])
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    one = draw(5, 9, targets, per_position=False)
    own = Negatives(one.item_ids.expand(3, 5), one.log_q.expand(3, 5), one.target_log_q)
    torch.testing.assert_close(cls()(hidden, targets, scorer, one), cls()(hidden, targets, scorer, own))


@pytest.mark.parametrize("cls", LOSSES)
def test_a_better_target_score_lowers_it(cls: type[Loss]) -> None:
    values = [
        cls()(torch.ones(1, 1), torch.tensor([1]), TableScorer.of_scores(torch.tensor([s, 0.5, -0.5])), shared(2, 3))
        for s in (-2.0, 0.0, 1.0, 3.0)
    ]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("cls", LOSSES)
def test_extreme_scores_stay_finite(cls: type[Loss]) -> None:
    scores = torch.tensor([1e4, -1e4, 1e4, -1e4, 0.0])
    targets = torch.tensor([1, 2, 5])  # best, worst, in between
    hidden, scorer = torch.ones(3, 1, requires_grad=True), TableScorer.of_scores(scores)
    loss = cls()(hidden, targets, scorer, shared(1, 2, 3, 4))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(hidden.grad).all() and torch.isfinite(scorer.weight.grad).all()


@pytest.mark.parametrize("cls", WITH_NEGATIVES)
def test_a_negative_that_is_the_target_takes_no_part(cls: type[Loss]) -> None:
    scorer, hidden = TableScorer.random(5, 2), torch.randn(1, 2, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([4])

    def gradient(negatives: Negatives) -> Tensor:
        return torch.autograd.grad(cls()(hidden, target, scorer, negatives), scorer.weight)[0]

    # Direction, not size: some losses divide by the number of negatives, collisions included. And the target apart
    # from the others, since gBCE weighs it by the number of negatives.
    clean, colliding = gradient(shared(1, 2)), gradient(shared(1, 4, 2, 4))
    for rows in ([4], [1, 2, 3, 5]):
        cosine = torch.cosine_similarity(clean[rows].flatten(), colliding[rows].flatten(), dim=0)
        assert cosine.item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("cls", WITH_NEGATIVES)
def test_collisions_only_pull_no_negative(cls: type[Loss]) -> None:
    scorer, hidden = TableScorer.random(5, 2), torch.ones(2, 2, requires_grad=True)
    loss = cls()(hidden, torch.tensor([4, 4]), scorer, shared(4, 4, 4))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(hidden.grad).all()
    assert loss.item() >= 0.0
    assert (scorer.weight.grad[[1, 2, 3, 5]] == 0).all()


@pytest.mark.parametrize("cls", WITH_NEGATIVES)
def test_missing_negatives_are_named(cls: type[Loss]) -> None:
    with pytest.raises(RecsysLabError, match=f"{cls.__name__} needs negatives"):
        cls()(torch.ones(1, 2), torch.tensor([1]), TableScorer.random(3, 2))


@pytest.mark.parametrize("cls", LOSSES)
def test_autocast_reduces_in_float32(cls: type[Loss]) -> None:
    hidden, targets = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 9, 3, 3, 5, 2])
    scorer, negatives = TableScorer.random(9, 4), draw(4, 9, targets, per_position=False)
    exact = cls()(hidden, targets, scorer, negatives)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cls()(hidden, targets, scorer, negatives)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
