"""The facts of targets that go into ranks.parquet, against a loop over users and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.data import histories
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation import target_facts
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import Popularity

FACTS = ["history_length", "target_count", "popularity_decile", "gap_seconds", "is_repeat", "event_type"]


@pytest.mark.parametrize("at_once", [1, 9, 1 << 22])
def test_facts_are_those_of_each_user_alone(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "EVENTS_AT_ONCE", at_once)
    folder = prepared(tmp_path / "d", made_events(num_items=8, longest=20)).path
    data = SequenceDataModule(str(folder), split=GlobalTemporal(0.6, 0.6, target="all"), exclude_seen="none")
    evaluation = RankingEvaluation()
    trainer = quiet_trainer(tmp_path, callbacks=[evaluation])
    model = Popularity()
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    frame = evaluation.ranks_frame(data)
    ranked = ("rank", "num_greater", "num_ties", "num_candidates", "is_cold", "is_hidden")
    assert frame.columns == ["user_id", "target_item_id", "query_time", *ranked, *FACTS]
    events, offsets, counts = data.events, data.events.offsets, data.item_counts.numpy()
    targets = data.split_result.test
    order = np.argsort(targets.position)
    assert len(frame) == len(order) and frame["is_repeat"].n_unique() == 2
    for row, n in zip(frame.iter_rows(named=True), order, strict=True):
        user, position = targets.user_index[n], targets.position[n]
        history = events.item_ids[offsets[user] : position].tolist()
        item = events.item_ids[position]
        assert row["history_length"] == len(history)
        assert row["is_repeat"] == (item in history)
        assert row["gap_seconds"] == events.timestamps[position] - events.timestamps[position - 1]
        assert row["target_count"] == counts[item] and row["is_cold"] == (counts[item] == 0)
        assert (row["popularity_decile"] is None) == row["is_cold"]
        assert row["event_type"] == data.processed.event_type_names[data.processed.event_types[position] - 1]


def test_an_evaluation_cut_short_keeps_its_facts(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), eval_batch_size=2)
    whole, part = RankingEvaluation(), RankingEvaluation()
    model = Popularity()
    quiet_trainer(tmp_path).fit(model, data)
    quiet_trainer(tmp_path, callbacks=[whole]).test(model, data, verbose=False)
    quiet_trainer(tmp_path, callbacks=[part], limit_test_batches=2).test(model, data, verbose=False)
    all_rows, some = whole.ranks_frame(data), part.ranks_frame(data)
    assert len(some) == 4 and some.equals(all_rows.filter(pl.col("user_id").is_in(some["user_id"].to_list())))


def test_deciles_by_hand() -> None:
    # twenty trained items: one with 1 event, eighteen with 2, one with 9; the eighteen share their middle place, 10.5
    counts = np.array([0, 1, *[2] * 18, 9, 0])
    assert target_facts.popularity_deciles(counts).tolist() == [0, 1, *[6] * 18, 10, 0]
    assert target_facts.popularity_deciles(np.array([0, *range(1, 21)])).tolist() == [0, *np.repeat(range(1, 11), 2)]
    assert target_facts.popularity_deciles(np.zeros(3, dtype=int)).tolist() == [0, 0, 0]


class LongerIsBetter(Popularity):
    """Puts one item on top of histories longer than three events, and below everything elsewhere."""

    item = 0

    def query(self, batch: Batch) -> Tensor:
        return batch.lengths[:, None].float()

    def score(self, query: Tensor) -> Tensor:
        return torch.eye(len(self.counts))[self.item] * (query - 3.5)


def test_the_same_item_again_in_the_same_second(tmp_path: Path) -> None:
    """Two targets with one user, item and time: each keeps the facts of its own place in the history, whichever the
    model ranks higher."""
    users = [0] * 6 + [1] * 4
    items, times = [1, 2, 4, 3, 3, 5, 3, 1, 2, 4], [1, 2, 3, 9, 9, 10, 1, 2, 3, 9]
    frame = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": times})
    data = SequenceDataModule(
        str(prepared(tmp_path / "twice", frame).path),
        split=GlobalTemporal(0.6, 0.6, target="all"),
        exclude_seen="none",
        eval_batch_size=1,
    )
    evaluation, model = RankingEvaluation(), LongerIsBetter()
    model.item = data.processed.item_ids_raw.to_list().index(3) + 1
    quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, data, verbose=False)
    frame = evaluation.ranks_frame(data)
    twins = frame.filter((pl.col("user_id") == 0) & (pl.col("target_item_id") == 3))
    assert twins["query_time"].to_list() == [9, 9] and twins["history_length"].to_list() == [3, 4]
    assert twins["is_repeat"].to_list() == [False, True] and twins["gap_seconds"].to_list() == [6, 0]
    assert twins["num_greater"].to_list() == [1, 0]  # two items have training events
