"""Compact letters: the definition, on any set of differences."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from recsys_lab.statistics.letters import groups_of, letters_of


@pytest.mark.parametrize("seed", range(30))
def test_rows_share_a_letter_exactly_when_not_told_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, share = int(rng.integers(1, 14)), rng.random()
    rows = [int(row) for row in rng.permutation(count + 3)[:count]]
    different = {(a, b) for a, b in combinations(rows, 2) if rng.random() < share}
    letters = letters_of(rows, groups_of(rows, different))
    assert all(letters.values())
    for a, b in combinations(rows, 2):
        assert bool(set(letters[a]) & set(letters[b])) == ((a, b) not in different)


def test_a_row_that_differs_from_all_has_a_letter_of_its_own_and_the_best_has_a() -> None:
    groups = groups_of([5, 3, 8], [(3, 5), (8, 5)])
    assert groups == [[5], [3, 8]]
    assert letters_of([5, 3, 8], groups) == {5: "a", 3: "b", 8: "b"}


def test_a_chain_has_overlapping_groups() -> None:
    assert groups_of([0, 1, 2], [(0, 2)]) == [[0, 1], [1, 2]]


def test_numbers_where_letters_run_out() -> None:
    rows = list(range(60))
    letters = letters_of(rows, groups_of(rows, list(combinations(rows, 2))))
    assert letters[0] == "1" and letters[59] == "60"
