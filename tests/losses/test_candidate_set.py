"""One candidate set: rows of items without training events are never scored, drawn or trained, whatever the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from loss_scorers import TableScorer
from small_data import made_events, prepared, quiet_trainer
from test_every_loss import LOSSES

from recsys_lab.contracts import Loss, NegativeSampler, candidate_ids
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.losses import GBCE, CrossEntropy, SampledSoftmax
from recsys_lab.losses.negatives import InBatchNegatives, PopularityNegatives, UniformNegatives
from recsys_lab.models import SASRec
from recsys_lab.words import RecsysLabError

COUNTS = torch.tensor([0, 5, 0, 9, 1, 0, 0, 2, 40, 3, 0])  # items 1..10, five of them with events
TRAINED = [1, 3, 4, 7, 8, 9]
UNTRAINED = [0, 2, 5, 6, 10]
TARGETS = torch.tensor([9, 1, 8, 8, 3, 7, 4])
SAMPLERS = [UniformNegatives, PopularityNegatives, InBatchNegatives]


def test_the_candidates_by_hand() -> None:
    assert candidate_ids(COUNTS).tolist() == TRAINED


def oracle(hidden: Any, scorer: TableScorer, smoothing: float, temperature: float) -> Any:
    """Softmax over the candidates' columns, in double."""
    logits = scorer.all_scores(hidden)[:, TRAINED] / temperature
    return F.cross_entropy(logits, torch.tensor([TRAINED.index(t) for t in TARGETS]), label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("linear", "bias"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("implementation", ["chunked", "full"])
def test_full_softmax_is_over_the_candidates(implementation: Any, linear: bool, bias: bool, smoothing: float) -> None:
    hidden = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scorer = TableScorer.random(10, 4, bias=bias, linear=linear).double()
    with torch.no_grad():
        scorer.weight[UNTRAINED] *= 50  # would rule every sum
    loss = CrossEntropy(smoothing, 0.7, chunk_size=3, implementation=implementation)
    loss.prepare(COUNTS)
    parameters = [hidden, *scorer.parameters()]
    got = loss(hidden, TARGETS, scorer)
    gradients = torch.autograd.grad(got, parameters)
    expected = oracle(hidden, scorer, smoothing, 0.7)
    torch.testing.assert_close(got, expected)
    for gradient, other in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(gradient, other)
    for gradient in gradients[1:]:
        assert not gradient[UNTRAINED].any() and gradient[TRAINED].any()
    unprepared = CrossEntropy(smoothing, 0.7, implementation=implementation)(hidden, TARGETS, scorer)
    assert abs(unprepared.item() - got.item()) > 0.1, "the case tells the two sets apart"


def test_the_plain_path_where_every_item_is_a_candidate() -> None:
    loss = CrossEntropy()
    loss.prepare(torch.tensor([0, 1, 7, 2]))
    assert loss._rows is None and loss._place is None
    assert not loss.state_dict()
    loss.prepare(COUNTS)
    assert loss._rows is not None and not loss.state_dict()


def test_a_target_that_is_no_candidate_is_an_error() -> None:
    loss = CrossEntropy()
    loss.prepare(COUNTS)
    with pytest.raises((IndexError, RuntimeError), match="index|out of"):
        loss(torch.ones(1, 4), torch.tensor([2]), TableScorer.random(10, 4))


@pytest.mark.parametrize("sampler", [cls() for cls in SAMPLERS] + [UniformNegatives(3, True), PopularityNegatives(3)])
def test_only_candidates_are_drawn_and_their_chances_add_up(sampler: NegativeSampler) -> None:
    sampler.prepare(COUNTS)
    drawn = set()
    for seed in range(30):
        sample = sampler.sample(TARGETS, torch.Generator().manual_seed(seed))
        drawn |= set(sample.item_ids.flatten().tolist())
        assert torch.isfinite(sample.log_q).all() and torch.isfinite(sample.target_log_q).all()
    assert drawn == set(TRAINED)
    if isinstance(sampler, InBatchNegatives):
        return
    assert sampler._log_q is not None  # type: ignore[attr-defined]
    log_q = sampler._log_q  # type: ignore[attr-defined]
    assert log_q[TRAINED].exp().sum().item() == pytest.approx(1) and (log_q[UNTRAINED] == -torch.inf).all()
    if isinstance(sampler, UniformNegatives):
        assert log_q[TRAINED].exp().tolist() == pytest.approx([1 / 6] * 6)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("cls", LOSSES)
def test_no_gradient_for_other_rows(cls: type[Loss], sampler: Any) -> None:
    hidden = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scorer, loss, negatives = TableScorer.random(10, 4, bias=True), cls(), sampler()
    loss.prepare(COUNTS)
    negatives.prepare(COUNTS)
    loss(hidden, TARGETS, scorer, negatives.sample(TARGETS, torch.Generator().manual_seed(0))).backward()
    for parameter in scorer.parameters():
        assert parameter.grad is not None and not parameter.grad[UNTRAINED].any() and parameter.grad[TRAINED].any()


def test_the_rate_of_gbce_counts_candidates() -> None:
    """5 negatives of the 5 other candidates: alpha 1, so beta 1 whatever t is."""
    hidden, scorer = torch.ones(1, 4), TableScorer.random(10, 4)
    target = torch.tensor([3])
    negatives = UniformNegatives(5)
    negatives.prepare(COUNTS)
    sample, values = negatives.sample(target, torch.Generator().manual_seed(1)), []
    for t in (0.0, 0.9):
        loss = GBCE(t)
        loss.prepare(COUNTS)
        values.append(loss(hidden, target, scorer, sample).item())
    assert values[0] == values[1] != GBCE(0.9)(hidden, target, scorer, sample).item()


def test_fewer_than_two_candidates_is_named() -> None:
    with pytest.raises(RecsysLabError, match="at least 2 items with training events.*there are 1"):
        UniformNegatives().prepare(torch.tensor([0, 0, 3, 0]))


@pytest.mark.parametrize("loss", [CrossEntropy, SampledSoftmax])
def test_training_leaves_the_rows_of_cold_items_alone(loss: type[Loss], tmp_path: Path) -> None:
    frame = made_events(num_users=12, num_items=20, shortest=8, longest=14)
    late = int(frame["timestamp"].quantile(0.8) or 0)
    new = (pl.col("timestamp") >= late) & (pl.col("item_id") % 3 == 0)
    frame = frame.with_columns(item_id=pl.when(new).then(pl.col("item_id") + 1_000).otherwise("item_id"))
    data = SequenceDataModule(str(prepared(tmp_path / "d", frame).path), split=GlobalTemporal(0.7), batch_size=4)
    torch.manual_seed(0)
    model = SASRec(embedding_dim=8, num_layers=1, loss=loss(), dropout=0.0)
    model.build(data.spec)
    model.spec = data.spec
    before = model.scorer.one_block().weight.detach().clone()  # type: ignore[union-attr]
    quiet_trainer(tmp_path, max_epochs=3, limit_val_batches=0).fit(model, data)
    moved = (model.scorer.one_block().weight.detach() != before).any(dim=1).numpy()  # type: ignore[union-attr]
    is_candidate = data.item_counts.numpy() > 0
    assert not is_candidate[1:].all(), "some items come after the training part"
    assert not moved[~is_candidate].any() and moved[is_candidate].mean() > 0.8, np.flatnonzero(moved)
