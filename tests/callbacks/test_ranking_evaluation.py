"""RankingEvaluation: blocks of rows, what it logs and keeps, its settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.contracts import Batch
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import GRU4Rec, NextItemModule, Popularity
from recsys_lab.ops.target_ranks import target_ranks
from recsys_lab.words import RecsysLabError


def fresh_model(data: SequenceDataModule) -> GRU4Rec:
    torch.manual_seed(0)
    model = GRU4Rec(embedding_dim=8)
    model.build(data.spec)
    model.spec = data.spec
    return model.eval()


def evaluated(folder: Path, data: SequenceDataModule, model: NextItemModule, **settings: Any) -> RankingEvaluation:
    evaluation = RankingEvaluation(**settings)
    quiet_trainer(folder, callbacks=[evaluation]).test(model, data, verbose=False)
    return evaluation


@pytest.mark.parametrize("block_bytes", [1, 31 * 8 * 2, 31 * 8 * 5])
def test_blocks_of_rows_change_nothing(block_bytes: int, small_folder: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=8)
    model, (batch,) = fresh_model(data), data.test_dataloader()
    whole, blocks = RankingEvaluation(), RankingEvaluation()
    whole._is_candidate = blocks._is_candidate = data.item_counts > 0
    blocks.max_score_bytes = block_bytes
    rows: list[int] = []
    score = model.score
    with torch.no_grad():
        query = model.query(batch)
        expected = whole.rank_batch(model, query, batch)
        model.score = lambda part: rows.append(len(part)) or score(part)  # type: ignore[method-assign,func-returns-value]
        got = blocks.rank_batch(model, query, batch)
    assert torch.equal(got, expected)
    assert len(rows) > 1 and sum(rows) == len(batch)


def test_without_whole_rows_of_scores_the_ranks_are_the_same(tmp_path: Path) -> None:
    """Enough users for the block by block way, which must really have been taken."""
    folder = prepared(tmp_path / "many", made_events(num_users=70, num_items=200, shortest=4)).path
    data = SequenceDataModule(str(folder), max_length=8, eval_batch_size=50)
    model, asked = fresh_model(data), []
    blockwise = evaluated(tmp_path, data, model)
    score = model.score
    model.score = lambda part: asked.append(len(part)) or score(part)  # type: ignore[method-assign,func-returns-value]
    model.scorer.linear_blocks = lambda: None  # type: ignore[method-assign,assignment,return-value]
    rows = evaluated(tmp_path, data, model)
    assert sum(asked) == 70 and blockwise.last_metrics == rows.last_metrics
    assert blockwise.last_ranks is not None and np.array_equal(blockwise.last_ranks, rows.last_ranks)  # type: ignore[arg-type]
    took = [ranks is not None for ranks in taken(blockwise, data, model)]
    assert took == [True, False], "the last batch is too small for it"


def taken(evaluation: RankingEvaluation, data: SequenceDataModule, model: GRU4Rec) -> list[Any]:
    """What the block by block way gives for each batch."""
    del model.score, model.scorer.linear_blocks
    with torch.no_grad():
        return [evaluation._product_ranks(model.scorer, model.query(batch), batch) for batch in data.test_dataloader()]


def test_a_tiny_bound_gives_the_same_metrics(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=8)
    model = fresh_model(data)
    tiny, large = RankingEvaluation(), RankingEvaluation(max_score_mb=64)
    tiny.max_score_bytes = 0
    for evaluation in (tiny, large):
        quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, data, verbose=False)
    assert tiny.last_metrics == large.last_metrics and tiny.last_ranks is not None
    assert np.array_equal(tiny.last_ranks, large.last_ranks)


@pytest.mark.parametrize("exclude_seen", ["history", "window", "none"])
def test_ranks_are_those_of_each_user_alone(exclude_seen: Any, small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=4, eval_batch_size=5, exclude_seen=exclude_seen)
    model = fresh_model(data)
    evaluation = evaluated(tmp_path, data, model)
    frame, events, offsets = evaluation.ranks_frame(data), data.events, data.events.offsets
    assert frame["user_id"].is_sorted() and frame["user_id"].n_unique() == len(frame)
    raw_items, is_candidate = data.processed.item_ids_raw.to_list(), data.item_counts > 0
    users = [u for u in range(data.spec.num_users) if offsets[u + 1] - offsets[u] >= 3]
    assert len(frame) == len(users)
    for row, user in zip(frame.iter_rows(named=True), users, strict=True):
        history = events.item_ids[offsets[user] : offsets[user + 1] - 1].tolist()
        target, window = int(events.item_ids[offsets[user + 1] - 1]), history[-4:]
        assert row["user_id"] == data.processed.user_ids[user] and row["target_item_id"] == raw_items[target - 1]
        seen = {"history": set(history), "window": set(window), "none": set()}[exclude_seen]
        start = offsets[user + 1] - 1 - len(window)
        batch = Batch(
            item_ids=torch.tensor([window]),
            target_ids=torch.tensor([target]),
            valid_mask=torch.ones(1, len(window), dtype=torch.bool),
            timestamps=torch.from_numpy(np.array([events.timestamps[start : start + len(window)]])),
            event={
                name: column.take(np.arange(start, start + len(window))[None], np.ones((1, len(window)), bool))
                for name, column in events.fields.items()
            },
            lengths=torch.tensor([len(window)]),
            user_index=torch.tensor([user]),
        )
        with torch.no_grad():
            scores = model.score(model.query(batch))
        alone = target_ranks(
            scores,
            batch.target_ids,
            is_candidate,
            torch.tensor(sorted(seen), dtype=torch.int64),
            torch.tensor([0, len(seen)]),
        )
        assert (row["rank"], row["num_greater"], row["num_ties"]) == (*alone.rank, alone.num_greater, alone.num_ties)


def cold_data(folder: Path) -> SequenceDataModule:
    """Late events are of items that nobody has met before."""
    frame = made_events(num_users=9, shortest=6, seed=4)
    cut = int(frame["timestamp"].quantile(0.8) or 0)
    frame = frame.with_columns(
        item_id=pl.when((pl.col("timestamp") >= cut) & (pl.col("item_id") % 2 == 0))
        .then(pl.col("item_id") + 1_000)
        .otherwise("item_id")
    )
    split = GlobalTemporal(quantile=0.8, target="all")
    return SequenceDataModule(str(prepared(folder / "cold", frame).path), split=split, max_length=8)


def test_cold_targets_are_a_miss_or_left_out_and_their_share_is_logged(tmp_path: Path) -> None:
    data = cold_data(tmp_path)
    model = fresh_model(data)
    miss, drop = (evaluated(tmp_path, data, model, cold_targets=rule) for rule in ("miss", "drop"))
    share = miss.last_metrics["test/cold_target_share"]
    assert 0 < share < 1 and share == drop.last_metrics["test/cold_target_share"]
    assert miss.last_metrics["test/hit_rate@20"] == pytest.approx((1 - share) * drop.last_metrics["test/hit_rate@20"])
    frame = miss.ranks_frame(data)
    assert set(frame.filter(pl.col("rank").is_infinite())["target_item_id"]) >= {
        item for item in frame["target_item_id"] if item > 1_000
    }
    trained_items = int((data.item_counts > 0).sum())
    assert miss.last_ranks is not None and (miss.last_ranks[:, 3] <= trained_items).all()


def test_what_the_trainer_is_told(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=8)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    model = GRU4Rec(embedding_dim=8)
    trainer.fit(model, data)
    metrics = {"hit_rate", "ndcg", "mrr"}
    names = {f"val/{m}@{k}" for m in metrics for k in (1, 5, 10, 20)} | {"val/auc", "val/mean_rank"}
    assert names <= set(trainer.callback_metrics)
    tested = trainer.test(model, data, verbose=False)[0]
    assert {name.replace("val/", "test/") for name in names} <= set(tested)
    evaluation = next(c for c in trainer.callbacks if isinstance(c, RankingEvaluation))  # type: ignore[attr-defined]
    assert tested["test/ndcg@10"] == pytest.approx(evaluation.last_metrics["test/ndcg@10"], rel=1e-6)
    assert evaluation.last_stage == "test"


def test_a_callback_of_the_users_own_is_not_doubled(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=8)
    trainer = quiet_trainer(tmp_path, callbacks=[RankingEvaluation(cutoffs=(3,))])
    trainer.fit(Popularity(), data)
    assert "val/ndcg@3" in trainer.callback_metrics and "val/ndcg@10" not in trainer.callback_metrics
    assert sum(isinstance(c, RankingEvaluation) for c in trainer.callbacks) == 1  # type: ignore[attr-defined]


def test_a_model_with_nan_scores_is_stopped(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=8)
    model = fresh_model(data)
    with torch.no_grad():
        model.embedding.items.weight[5] = math.nan
    with pytest.raises(RecsysLabError, match="NaN or infinite"):
        evaluated(tmp_path, data, model)


def test_no_ranks_before_an_evaluation(small_folder: Path) -> None:
    with pytest.raises(RecsysLabError, match="no evaluation has run yet"):
        RankingEvaluation().ranks_frame(SequenceDataModule(str(small_folder)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ties": "worst"}, "ties must be .*'expected'"),
        ({"cold_targets": "skip"}, "cold_targets must be one of 'miss'"),
        ({"cutoffs": ()}, "cutoffs must be positive"),
        ({"cutoffs": (0, 10)}, "cutoffs holds a wrong value: each must be at least 1"),
    ],
)
def test_unknown_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        RankingEvaluation(**settings)
    assert isinstance(RankingEvaluation(), L.Callback)
