"""Relative change with its interval, Jaccard of lists, and what the table says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys_lab.diagnose.shuffle_effect import list_overlap, ratio_of_means, shuffle_effect


def test_overlap_of_lists_equals_sets() -> None:
    draw = np.random.default_rng(0)
    a, b = (np.stack([draw.permutation(8)[:5] for _ in range(50)]) for _ in range(2))  # 0 = no item there
    for row in range(50):
        one, other = set(a[row].tolist()) - {0}, set(b[row].tolist()) - {0}
        assert list_overlap(a, b)[row] == len(one & other) / len(one | other)
    empty = np.zeros((1, 5), dtype=int)
    assert list_overlap(empty, empty).tolist() == [1.0] and list_overlap(empty, a[:1]).tolist() == [0.0]


def test_effect_by_hand() -> None:
    original, user = np.array([1.0, 0.5, 0.5]), np.array([4, 7, 9])
    effect = shuffle_effect(original, np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.3]]), np.ones((2, 3)), user)
    assert effect.shuffled == pytest.approx((1 / 3 + 0.8 / 3) / 2)
    assert effect.seed_deviation == pytest.approx((1 / 3 - 0.8 / 3) / math.sqrt(2))
    assert effect.change == pytest.approx(0.9 / 2 - 1)
    assert effect.change_interval[0] < effect.change < effect.change_interval[1]
    assert effect.jaccard == 1 and effect.jaccard_interval == (1, 1)


def test_no_change_has_no_width() -> None:
    original = np.random.default_rng(0).random(20)
    effect = shuffle_effect(original, np.stack([original] * 3), np.ones((3, 20)), np.arange(20))
    assert effect.change == 0 and effect.change_interval == (0, 0) and effect.seed_deviation == 0


def test_what_can_not_be_known_is_nan() -> None:
    effect = shuffle_effect(np.zeros(4), np.ones((1, 4)), np.ones((1, 4)), np.arange(4))
    assert math.isnan(effect.change) and math.isnan(effect.change_interval[0]) and math.isnan(effect.seed_deviation)
    effect = shuffle_effect(np.ones(1), np.ones((1, 1)), np.ones((1, 1)), np.zeros(1))
    assert effect.change == 0 and math.isnan(effect.change_interval[0]) and math.isnan(effect.jaccard_interval[0])


@pytest.mark.parametrize("targets_per_user", [1, 3])
def test_the_interval_holds_the_truth_as_often_as_it_says(targets_per_user: int) -> None:
    """1,000 made populations of 200 users whose values halve on average; several targets share their user's luck."""
    draw, held = np.random.default_rng(3), 0
    user = np.repeat(np.arange(200), targets_per_user)
    for _ in range(1_000):
        level = draw.random(200)[user]
        before = (draw.random(len(user)) < level).astype(float)
        after = ((draw.random((2, len(user))) < 0.5) * before).mean(axis=0)
        found = ratio_of_means(after, before, user)
        held += abs(found.mean - 0.5) <= found.half_width()
    assert 0.93 <= held / 1_000 <= 0.97
