"""BeyondAccuracy under the Trainer, against a loop over users; when measures run; features and histories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.config import from_config, to_config
from recsys_lab.data import histories
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation.beyond_accuracy import BeyondAccuracy
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.list_facts import item_features
from recsys_lab.models import GRU4Rec, Popularity
from recsys_lab.models.baselines import Markov
from recsys_lab.ops.rank_metrics import hit_rate
from recsys_lab.words import RecsysLabError


def repeating_data(folder: Path, exclude_seen: Any) -> SequenceDataModule:
    """Few items, so that users come back to them; several targets per user, some of them cold."""
    frame = made_events(num_users=9, num_items=12, shortest=8, longest=16, seed=3)
    late = int(frame["timestamp"].quantile(0.9) or 0)
    is_cold = (pl.col("timestamp") >= late) & (pl.col("item_id") % 3 == 0)
    frame = frame.with_columns(item_id=pl.when(is_cold).then(pl.col("item_id") + 1_000).otherwise("item_id"))
    split = GlobalTemporal(quantile=0.7, target="all")
    path = prepared(folder / "repeating", frame).path
    return SequenceDataModule(str(path), split=split, max_length=5, exclude_seen=exclude_seen)


@pytest.mark.parametrize("exclude_seen", ["history", "window", "none"])
@pytest.mark.parametrize("cold_targets", ["miss", "drop"])
def test_metrics_are_those_of_a_loop(exclude_seen: str, cold_targets: Any, tmp_path: Path) -> None:
    data, k = repeating_data(tmp_path, exclude_seen), 3
    evaluation = RankingEvaluation((1, k), cold_targets=cold_targets, measures=[BeyondAccuracy()])
    model = Markov()
    quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, data, verbose=False)
    got = {name.removeprefix("test/"): value for name, value in evaluation.last_metrics.items()}
    counts, items = data.item_counts.tolist(), np.asarray(data.events.item_ids)
    frame = evaluation.ranks_frame(data)
    counted = frame.filter(~pl.col("is_cold")) if cold_targets == "drop" else frame
    hit = hit_rate(counted["num_greater"].to_numpy(), counted["num_ties"].to_numpy(), k)
    weight = 1 / np.maximum(counted["target_count"].to_numpy(), 1)
    assert got[f"debiased_hit_rate@{k}"] == pytest.approx((weight * hit).sum() / weight.sum())
    repeat = counted["is_repeat"].to_numpy()
    assert 0 < repeat.mean() < 1 and got["repeat_target_share"] == repeat.mean()
    assert got[f"repeat_hit_rate@{k}"] == pytest.approx(hit[repeat].mean())
    assert got[f"explore_hit_rate@{k}"] == pytest.approx(hit[~repeat].mean())
    # weighted by their shares, repeat and explore give the whole
    share = got["repeat_target_share"]
    whole = share * got[f"repeat_hit_rate@{k}"] + (1 - share) * got[f"explore_hit_rate@{k}"]
    assert whole == pytest.approx(got[f"hit_rate@{k}"])

    recommended, repeats = [], 0
    targets = data.split_result.test
    for user, position in zip(targets.user_index, targets.position, strict=True):
        if cold_targets == "drop" and counts[items[position]] == 0:
            continue
        history = items[data.events.offsets[user] : position].tolist()
        hidden = {"history": history, "window": history[-5:], "none": []}[exclude_seen]
        allowed = [i for i in range(1, len(counts)) if counts[i] and i not in hidden]
        scores = scores_of(model, data, int(user), int(position))
        best = sorted(allowed, key=lambda i: (-scores[i], (i * 2654435761) % 2**32))[:k]
        recommended += best
        repeats += sum(i in history for i in best)
    assert got[f"coverage@{k}"] == len(set(recommended)) / sum(c > 0 for c in counts)
    assert got[f"average_popularity@{k}"] == pytest.approx(np.mean([counts[i] for i in recommended]))
    assert got[f"repeat_share@{k}"] == pytest.approx(repeats / len(recommended))
    assert (got[f"repeat_share@{k}"] > 0) == (exclude_seen != "history")
    assert f"diversity@{k}" not in got  # the items have no features


def scores_of(model: Any, data: SequenceDataModule, user: int, position: int) -> list[float]:
    """The model's scores for one target, asked for alone."""
    dataset = data.test_dataloader().dataset
    places = np.flatnonzero((dataset.windows.user_index == user) & (dataset.windows.stop == position))  # type: ignore[attr-defined]
    batch = dataset[places[:1]]
    scores: list[float] = model.score(model.query(batch))[0].tolist()
    return scores


def test_popularity_has_no_serendipity_and_hides_no_hit(tmp_path: Path) -> None:
    data = repeating_data(tmp_path, "history")
    found = {}
    for name, model in (("popularity", Popularity()), ("markov", Markov())):
        evaluation = RankingEvaluation((3,), measures=[BeyondAccuracy()])
        quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, data, verbose=False)
        found[name] = evaluation.last_metrics
    assert found["popularity"]["test/serendipity@3"] == 0 < found["popularity"]["test/hit_rate@3"]
    assert found["markov"]["test/serendipity@3"] > 0


def test_measures_run_in_test_and_validate_but_not_inside_fit(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=8)
    evaluation = RankingEvaluation((5,), measures=[BeyondAccuracy()])
    trainer = quiet_trainer(tmp_path, callbacks=[evaluation])
    model = GRU4Rec(embedding_dim=8)
    trainer.fit(model, data)
    assert "val/ndcg@5" in evaluation.last_metrics and "val/coverage@5" not in trainer.callback_metrics
    trainer.validate(model, data, verbose=False)
    assert "val/coverage@5" in trainer.callback_metrics
    assert "test/coverage@5" in trainer.test(model, data, verbose=False)[0]


def test_measures_are_part_of_the_configuration() -> None:
    config = to_config(RankingEvaluation((5,), measures=[BeyondAccuracy(propensity_exponent=0.5)]))
    again = from_config(config)
    assert again.measures[0].propensity_exponent == 0.5 and to_config(again) == config


@pytest.mark.parametrize("at_once", [1, 7, 1 << 22])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_had_before_is_a_look_into_each_history(at_once: int, data: st.DataObject) -> None:
    had = data.draw(st.lists(st.lists(st.integers(1, 5), max_size=6), min_size=1, max_size=5))
    offsets, items = np.cumsum([0, *map(len, had)]), np.array(sum(had, []), np.int32)
    user = np.array(data.draw(st.lists(st.integers(0, len(had) - 1), min_size=1, max_size=8)))
    stop = np.array([data.draw(st.integers(0, len(had[u]))) for u in user])
    lists = np.array([data.draw(st.lists(st.integers(0, 6), min_size=3, max_size=3)) for _ in user])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "EVENTS_AT_ONCE", at_once)
        got = histories.had_before(items, offsets, user, offsets[user] + stop, lists)
    expected = [[i in had[u][:s] for i in row] for u, s, row in zip(user, stop, lists.tolist(), strict=True)]
    assert got.tolist() == expected, "PAD_ID, which fills short lists, was never had"


def test_features_are_names_that_items_share() -> None:
    table = pl.DataFrame(
        {
            "item_id": [10, 20, 30, 40],
            "title": ["a", "b", "c", "d"],
            "year": [1, 1, 2, 2],
            "brand": ["x", "x", None, "x"],
            "genres": [["p", "q"], None, [], ["q", "q"]],
        }
    )
    features = item_features(table)
    assert features.shape == (5, 3)  # brand=x, genres=p, genres=q
    assert features.toarray().tolist() == [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert item_features(table, ["year"]).toarray().tolist() == [[0, 0], [1, 0], [1, 0], [0, 1], [0, 1]]
    assert item_features(table.select("item_id", "title")) is None
    with pytest.raises(RecsysLabError, match="no feature 'colour'; it has: title, year, brand, genres"):
        item_features(table, ["colour"])
    with pytest.raises(RecsysLabError, match="'price' holds Float64"):
        item_features(table.with_columns(price=1.5), ["price"])


def test_a_negative_exponent_is_refused() -> None:
    with pytest.raises(RecsysLabError, match="must be at least 0, not -1"):
        BeyondAccuracy(propensity_exponent=-1)
