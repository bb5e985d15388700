"""Metrics of clicks against scikit-learn and loops, and their variance against resampling whole users."""

import numpy as np
import pytest
from sklearn import metrics as sk

from recsys_lab.evaluation.outcomes import mean_of
from recsys_lab.ops import click_metrics as own
from recsys_lab.runs.measured import of_weight_one
from recsys_lab.statistics.rule import estimate

RNG = np.random.default_rng(5)


def made(number: int = 500, users: int = 40, ties: bool = True) -> dict[str, np.ndarray]:
    """Some users have clicks only, or none; scores have ties unless they shall not."""
    user = RNG.integers(users, size=number)
    label = (RNG.random(number) < 0.3).astype(np.int8)
    label[user == 0], label[user == 1] = 1, 0
    p = np.clip(RNG.normal(0.3 + 0.1 * label, 0.2), 0.01, 0.99)
    p = np.round(p, 1) if ties else p
    weight = RNG.random(number).astype(np.float32) * (RNG.random(number) > 0.1)
    return {"label": label, "p": p, "user": user, "weight": weight, "impression": RNG.integers(60, size=number)}


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_equal_to_scikit_learn(ties: bool, weighted: bool) -> None:
    data = made(ties=ties)
    label, p, weight = data["label"], data["p"], data["weight"].astype(np.float64) if weighted else None
    assert mean_of(own.auc(label, p, weight)) == pytest.approx(
        sk.roc_auc_score(label, p, sample_weight=weight), abs=1e-9
    )
    assert mean_of(own.log_loss(label, p, weight)) == pytest.approx(
        sk.log_loss(label, p, sample_weight=weight), abs=1e-9
    )
    assert mean_of(own.brier(label, p, weight)) == pytest.approx(
        sk.brier_score_loss(label, p, sample_weight=weight), abs=1e-9
    )
    w = np.ones(len(label)) if weight is None else weight
    areas, weights = [], []
    for user in np.unique(data["user"]):
        mine = data["user"] == user
        counted = mine & (w > 0)
        if len(set(label[counted])) == 2:
            areas.append(sk.roc_auc_score(label[counted], p[counted], sample_weight=w[counted]))
            weights.append(w[mine].sum())
    expected = np.average(areas, weights=weights)
    assert mean_of(own.grouped_auc(label, p, data["user"], weight)) == pytest.approx(expected, abs=1e-9)


def test_certain_probabilities_and_one_class() -> None:
    label = np.array([0, 1, 1, 0])
    assert mean_of(own.log_loss(label, np.array([0.0, 1, 0, 1]))) == pytest.approx(
        sk.log_loss(label, np.array([0.0, 1, 0, 1])), abs=1e-9
    )
    assert np.isnan(mean_of(own.auc(np.ones(4), np.arange(4))))
    assert np.isnan(mean_of(own.grouped_auc(label, np.arange(4), np.arange(4))))
    assert own.one_class_groups(label, np.array([0, 0, 1, 1])) == 0 and own.one_class_groups(label, np.arange(4)) == 4


def test_the_variance_of_the_area_is_that_of_resampled_users() -> None:
    """Influence values against whole users drawn anew, of the area and of a difference of two."""
    data = made(number=2_000, users=200, ties=False)
    label, user, first = data["label"], data["user"], data["p"]
    second = np.clip(first + RNG.normal(0, 0.15, len(first)), 0, 1)
    difference = of_weight_one(*weighted(own.auc(label, first))) - of_weight_one(*weighted(own.auc(label, second)))
    rows = [np.flatnonzero(user == one) for one in range(200)]
    drawn = []
    for _ in range(250):
        chosen = np.concatenate([rows[one] for one in RNG.integers(200, size=200)])
        areas = [sk.roc_auc_score(label[chosen], p[chosen]) for p in (first, second)]
        drawn.append((areas[0], areas[0] - areas[1]))
    of_area, of_difference = np.std(drawn, axis=0, ddof=1)
    assert estimate(own.auc(label, first).value, user).standard_error == pytest.approx(of_area, rel=0.2)
    assert estimate(difference, user).standard_error == pytest.approx(of_difference, rel=0.2)


def weighted(metric) -> tuple[np.ndarray, np.ndarray]:
    return metric.value, np.ones(len(metric.value)) if metric.weight is None else metric.weight


def test_ndcg_within_the_impression_is_expected_over_ties() -> None:
    label, score, impression = (
        np.array([1, 0, 0, 0, 0, 1]),
        np.array([2.0, 2, 1, 5, 4, 3]),
        np.array([7, 7, 7, 3, 3, 3]),
    )
    tied = (1 + 1 / np.log2(3)) / 2
    assert mean_of(own.impression_ndcg(label, score, impression)) == pytest.approx((tied + 1 / np.log2(4)) / 2)
    without = own.impression_ndcg(np.zeros(6), score, impression)
    assert np.isnan(mean_of(without))


def test_reliability_bins_hold_equal_mass_and_know_no_order() -> None:
    data = made(2_000, ties=False)
    found = own.reliability(data["label"], data["p"], bins=10)
    assert found.count.tolist() == [200] * 10 and (np.diff(found.predicted) > 0).all()
    first = np.argsort(data["p"])[:200]
    assert found.observed[0] == pytest.approx(data["label"][first].mean())
    order = RNG.permutation(2_000)
    again = own.reliability(data["label"][order], data["p"][order], bins=10)
    assert again.error == pytest.approx(found.error, abs=1e-12)
    equal = own.reliability(data["label"], np.full(2_000, 0.25))
    assert equal.error == pytest.approx(abs(data["label"].mean() - 0.25))


def test_weights_by_propensity_estimate_the_policy_that_shows_all_alike() -> None:
    """A log that favours what is clicked: its own rate is too high, the weighted one is that of the items."""
    from recsys_lab.models.tasks.click_through import ClickThrough

    rates = np.array([0.05, 0.1, 0.2, 0.4])
    chance = np.array([0.1, 0.2, 0.3, 0.4])
    item = RNG.choice(4, size=20_000, p=chance)
    label = (RNG.random(20_000) < rates[item]).astype(np.int8)
    row = np.arange(20_000)
    outcome = {
        **{"unit": row, "user": row % 100, "impression": row, "label": label, "probability": rates[item]},
        **{"history_length": row, "is_cold": row < 0, "weight": (1 / chance[item]).astype(np.float32)},
    }
    facts = ClickThrough().facts(outcome)
    assert label.mean() > rates.mean() + 0.04
    assert facts["click_rate"] == pytest.approx(rates.mean(), abs=0.01)
    assert facts["mean_probability"] == pytest.approx(rates.mean(), abs=0.005) and facts["calibration_error"] < 0.01
