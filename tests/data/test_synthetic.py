from __future__ import annotations

import numpy as np
import pytest

from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.sources.made_events import Synthetic
from recsys_lab.words import RecsysLabError

SMALL = Synthetic(num_users=400, num_items=60, mean_length=12)


def scores(ranks: np.ndarray, k: int) -> dict[str, np.ndarray]:
    hit = ranks <= k
    return {f"hit_rate@{k}": hit * 1.0, f"ndcg@{k}": hit / np.log2(ranks + 1), f"mrr@{k}": hit / ranks}


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("from_end", [1, 2])
def test_the_oracle_reaches_the_best_possible_score(repeats, from_end):
    """Over 4,000 users chance is below 4 standard errors; the model that knows the world scores what was computed."""
    source = Synthetic(num_users=4_000, num_items=60, mean_length=12, repeats=repeats)
    expected = source.best_possible(10, from_end)
    for name, values in scores(source.oracle_ranks(from_end), 10).items():
        assert abs(values.mean() - expected[name]) < 4 * values.std() / np.sqrt(len(values)), name
    assert 0.3 < expected["mrr@10"] < expected["ndcg@10"] < expected["hit_rate@10"] < 0.99


def test_best_possible_by_hand_on_one_user():
    source = Synthetic(num_users=1, num_items=7, mean_length=2, num_successors=2, noise=0.3, seed=5)
    world = source.world()
    *history, _ = world.item_ids.tolist()
    weight = world.popularity.copy()
    weight[world.successors[history[-1]]] += [0.7 * 2 / 3, 0.7 / 3]
    weight[history] = 0
    best = np.sort(weight / weight.sum())[::-1]
    assert source.best_possible(2) == pytest.approx(
        {"hit_rate@2": best[0] + best[1], "ndcg@2": best[0] + best[1] / np.log2(3), "mrr@2": best[0] + best[1] / 2}
    )
    assert source.best_possible(7)["hit_rate@7"] == pytest.approx(1.0)


def test_draws_follow_the_transition_probabilities():
    """With repeats every pair of neighbours is a draw from the matrix: compare counts with expected counts."""
    source = Synthetic(num_users=3_000, num_items=8, mean_length=30, num_successors=3, noise=0.4, repeats=True)
    world = source.world()
    pairs = np.stack([world.item_ids[:-1], world.item_ids[1:]])
    pairs = np.delete(pairs, world.offsets[1:-1] - 1, axis=1)  # the last of one user and the first of the next
    counts = np.zeros((8, 8))
    np.add.at(counts, tuple(pairs), 1)
    expected = world.next_probabilities(np.arange(8), np.zeros((8, 8), bool)) * counts.sum(1, keepdims=True)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 56 + 5 * np.sqrt(2 * 56)  # 8 rows x 7 degrees of freedom


def test_the_exact_fallback_draws_the_same_distribution_as_rejection(monkeypatch):
    from recsys_lab.data.sources import made_events as synthetic

    source = Synthetic(num_users=4_000, num_items=60, mean_length=12, seed=9)
    synthetic._make_world.cache_clear()
    monkeypatch.setattr(synthetic, "QUICK_DRAWS", 0)  # every draw by the fallback
    exact = source.best_possible(10), source.oracle_ranks()
    synthetic._make_world.cache_clear()
    assert abs((exact[1] <= 10).mean() - exact[0]["hit_rate@10"]) < 4 * 0.5 / np.sqrt(4_000)


def test_no_item_comes_twice_unless_asked_for():
    world = SMALL.world()
    for begin, stop in zip(world.offsets[:-1], world.offsets[1:], strict=True):
        assert len(set(world.item_ids[begin:stop].tolist())) == stop - begin
    assert (np.diff(world.timestamps)[np.diff(np.repeat(np.arange(400), np.diff(world.offsets))) == 0] > 0).all()


def test_prepared_events_are_the_drawn_ones(tmp_path):
    data = prepare(SMALL, PrepareSettings(), tmp_path / "synthetic", tmp_path)
    world = SMALL.world()
    assert data.num_users == 400 and data.num_items == 60
    np.testing.assert_array_equal(data.item_ids, world.item_ids + 1)
    np.testing.assert_array_equal(data.timestamps, world.timestamps)
    np.testing.assert_array_equal(data.offsets, world.offsets)
    assert data.manifest["tie_share"] == 0.0


def test_chunks_of_users_change_nothing_that_was_promised(monkeypatch):
    from recsys_lab.data.sources import made_events as synthetic

    whole = SMALL.best_possible(5), SMALL.oracle_ranks()
    monkeypatch.setattr(synthetic, "CHUNK_CELLS", 7 * 60)
    assert SMALL.best_possible(5) == pytest.approx(whole[0])
    np.testing.assert_array_equal(SMALL.oracle_ranks(), whole[1])


def test_the_seed_makes_the_world(tmp_path):
    same, other = Synthetic(400, 60, 12), Synthetic(400, 60, 12, seed=1)
    assert SMALL.fingerprint(tmp_path) == same.fingerprint(tmp_path) != other.fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"num_users": 0}, "num_users must be at least 1"),
        ({"num_items": 5}, "num_successors must be in 1..num_items - 1 = 4"),
        ({"noise": 0.0}, "noise is 0.0; it must be between 0 and 1"),
        ({"num_items": 100}, "100 items are too few for 50 events per user without repeats; use at least 150"),
    ],
)
def test_impossible_worlds_are_named(chosen, message):
    with pytest.raises(RecsysLabError, match=message):
        Synthetic(**chosen)


def test_a_cutoff_or_position_that_can_not_be_is_named():
    with pytest.raises(RecsysLabError, match="k is 61; it must be in 1..num_items = 60"):
        SMALL.best_possible(61)
    with pytest.raises(RecsysLabError, match="from_end is 6; every user must have an event before"):
        SMALL.best_possible(10, from_end=6)
