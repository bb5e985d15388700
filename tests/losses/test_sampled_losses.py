"""Hand-computed values on 3 items, and the identities between losses."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from loss_scorers import TableScorer
from torch import Tensor

from recsys_lab.contracts import Loss, Negatives
from recsys_lab.losses import BCE, BPR, GBCE, BPRMax, CrossEntropy, SampledSoftmax, TOP1Max
from recsys_lab.losses.negatives import InBatchNegatives, PopularityNegatives, UniformNegatives
from recsys_lab.words import RecsysLabError


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


# Items 1, 2, 3 score 2, 1, 0; the target is item 1, the negatives are 2 and 3.
SCORES, NEGATIVES = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([2, 3])
LOG_Q, TARGET_LOG_Q = torch.tensor([0.5, 0.25]).log(), torch.tensor([0.125]).log()
W2, W3 = exp(1) / (exp(1) + 1), 1 / (exp(1) + 1)  # softmax of the negatives' scores
L2 = log(2)  # the prior of one target among 2 negatives is 1 : 2
BETA = 1 - 0.75 * (1 - 2 / 2)  # 2 negatives of the 2 other items


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (SampledSoftmax(log_q_correction=False), log(1 + exp(-1) + exp(-2))),
        (SampledSoftmax(log_q_correction=False, temperature=2.0), log(1 + exp(-0.5) + exp(-1))),
        (SampledSoftmax(), -log(8 * exp(2) / (8 * exp(2) + 2 * exp(1) + 4))),
        (SampledSoftmax(correct_target=False), -log(exp(2) / (exp(2) + 2 * exp(1) + 4))),
        (BCE(), -(log(sigmoid(2)) + log(1 - sigmoid(1)) + log(1 - sigmoid(0))) / 3),
        (BCE(True), -(log(sigmoid(2 - L2)) + log(1 - sigmoid(1 - L2)) + log(1 - sigmoid(0 - L2))) / 3),
        (GBCE(0.75, False), -(BETA * log(sigmoid(2)) + log(1 - sigmoid(1)) + log(1 - sigmoid(0))) / 3),
        (BPR(), -(log(sigmoid(1)) + log(sigmoid(2))) / 2),
        (BPRMax(0.0), -log(W2 * sigmoid(1) + W3 * sigmoid(2))),
        (BPRMax(0.5), -log(W2 * sigmoid(1) + W3 * sigmoid(2)) + 0.5 * W2),
        (TOP1Max(), W2 * (sigmoid(-1) + sigmoid(1)) + W3 * (sigmoid(-2) + sigmoid(0))),
    ],
)
def test_by_hand(loss: Loss, expected: float) -> None:
    negatives = Negatives(NEGATIVES, LOG_Q, TARGET_LOG_Q)
    value = loss(torch.ones(1, 1), torch.tensor([1]), TableScorer.of_scores(SCORES), negatives)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_gbce_by_hand_with_few_of_many_items() -> None:
    """1 negative of the 100 others: alpha = 0.01, and the paper's own form of beta."""
    scorer = TableScorer.of_scores(torch.linspace(0, 1, 101))
    alpha, t = 0.01, 0.75
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    negatives = Negatives(torch.tensor([1]), torch.zeros(1), torch.zeros(1))
    value = GBCE(t, False)(torch.ones(1, 1), torch.tensor([101]), scorer, negatives)
    assert value.item() == pytest.approx((-beta * log(sigmoid(1)) - log(1 - sigmoid(0))) / 2, rel=1e-5)
    value = GBCE(t, True)(torch.ones(1, 1), torch.tensor([101]), scorer, negatives)
    prior = log(beta)  # beta : 1
    assert value.item() == pytest.approx((-beta * log(sigmoid(1 + prior)) - log(1 - sigmoid(prior))) / 2, rel=1e-5)


def test_with_the_prior_scores_of_zero_are_balanced() -> None:
    """What pushes the target up and what pushes all negatives down, together, are equal at the start."""
    sampler = UniformNegatives(256)
    sampler.prepare(torch.ones(1001, dtype=torch.int64))
    for loss, is_balanced in ((GBCE(0.75, True), True), (BCE(True), True), (GBCE(0.75), False), (BCE(), False)):
        scorer = TableScorer.of_scores(torch.zeros(1000))
        negatives = sampler.sample(torch.tensor([7]), torch.Generator().manual_seed(0))
        loss(torch.ones(1, 1), torch.tensor([7]), scorer, negatives).backward()
        gradient = scorer.weight.grad[:, 0]
        assert (abs(gradient.sum() / gradient[7]) < 0.01) == is_balanced


def test_bce_with_one_negative_has_an_even_prior() -> None:
    hidden, targets, scorer = example()
    sampler = UniformNegatives(1)
    sampler.prepare(torch.ones(12, dtype=torch.int64))
    negatives = sampler.sample(targets, torch.Generator().manual_seed(0))
    assert BCE()(hidden, targets, scorer, negatives).item() == BCE(False)(hidden, targets, scorer, negatives).item()


def example(num_items: int = 11) -> tuple[Tensor, Tensor, TableScorer]:
    hidden = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return hidden, torch.tensor([1, 11, 3, 3, 5, 2, 8]), TableScorer.random(num_items, 4, bias=True)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("correct_target", [True, False])
def test_sampled_softmax_over_all_items_is_full_cross_entropy(temperature: float, correct_target: bool) -> None:
    hidden, targets, scorer = example()
    everything = Negatives(torch.arange(1, 12), torch.zeros(11), torch.zeros(7))  # each item once: log q = 0
    sampled = SampledSoftmax(temperature=temperature, correct_target=correct_target)
    ours = sampled(hidden, targets, scorer, everything)
    full = CrossEntropy(temperature=temperature)(hidden, targets, scorer)
    torch.testing.assert_close(ours, full, rtol=1e-6, atol=0)
    wanted = [hidden, *scorer.parameters()]
    for one, other in zip(torch.autograd.grad(ours, wanted), torch.autograd.grad(full, wanted), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sampler", [UniformNegatives(50_000), PopularityNegatives(50_000, alpha=1.0)])
def test_many_draws_estimate_full_cross_entropy(sampler: UniformNegatives | PopularityNegatives) -> None:
    """log q undoes the sampler: without it, the popular items would weigh too much."""
    hidden, targets, scorer = example()
    sampler.prepare(torch.tensor([0, 900, 500, 300, 200, 100, 50, 40, 30, 20, 10, 5]))
    negatives = sampler.sample(targets, torch.Generator().manual_seed(0))
    full = CrossEntropy()(hidden, targets, scorer).item()
    assert SampledSoftmax(correct_target=False)(hidden, targets, scorer, negatives).item() == pytest.approx(full, 0.02)
    assert SampledSoftmax(log_q_correction=False)(hidden, targets, scorer, negatives).item() > 2 * full


def test_in_batch_softmax_by_hand() -> None:
    """Every position's negatives are the other positions' targets; its own, twice in the batch, is left out."""
    sampler = InBatchNegatives()
    sampler.prepare(torch.tensor([0, 1, 1, 2]))
    targets = torch.tensor([1, 2, 1])
    scorer = TableScorer.of_scores(SCORES)
    negatives = sampler.sample(targets, None)
    value = SampledSoftmax()(torch.ones(3, 1), targets, scorer, negatives)
    # Items 1 and 2 are equally frequent, so the correction cancels: 1 against one 2 (twice), 2 against two 1s.
    expected = (2 * log(1 + exp(-1)) + log(1 + 2 * exp(1))) / 3
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_gbce_with_t_0_is_bce() -> None:
    hidden, targets, scorer = example()
    sampler = UniformNegatives(4)
    sampler.prepare(torch.ones(12, dtype=torch.int64))
    negatives = sampler.sample(targets, torch.Generator().manual_seed(0))
    bce = BCE()(hidden, targets, scorer, negatives)
    assert GBCE(0.0)(hidden, targets, scorer, negatives).item() == bce.item()
    assert GBCE(0.75, False)(hidden, targets, scorer, negatives) < BCE(False)(hidden, targets, scorer, negatives)


def test_colliding_bpr_pairs_are_not_averaged_in() -> None:
    scorer, hidden, target = TableScorer.of_scores(SCORES), torch.ones(1, 1), torch.tensor([1])
    clean = BPR()(hidden, target, scorer, Negatives(NEGATIVES, LOG_Q, TARGET_LOG_Q))
    with_target = torch.tensor([1, 2, 1, 3])
    colliding = BPR()(hidden, target, scorer, Negatives(with_target, torch.zeros(4), TARGET_LOG_Q))
    assert clean.item() == pytest.approx(colliding.item())


def test_default_negatives_are_those_of_the_papers() -> None:
    counts = {cls: cls.default_negatives for cls in (CrossEntropy, BCE, BPR, GBCE, SampledSoftmax, BPRMax, TOP1Max)}
    assert list(counts.values()) == [0, 1, 1, 256, 256, 512, 512]


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (SampledSoftmax, {"temperature": 0.0}),
        (GBCE, {"t": 1.5}),
        (GBCE, {"t": -0.1}),
        (BPRMax, {"regularization": -1.0}),
    ],
)
def test_bad_arguments_are_named(cls: type[Loss], arguments: dict[str, float]) -> None:
    with pytest.raises(RecsysLabError, match=next(iter(arguments))):
        cls(**arguments)
