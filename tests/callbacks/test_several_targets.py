"""Queries with several targets: their ranks against one target at a time, the files of a run, and every metric."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal, LeaveKOut, LeaveOneOut
from recsys_lab.diagnose.slice_values import slices
from recsys_lab.evaluation import BeyondAccuracy, Calibration
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import GRU4Rec
from recsys_lab.ops.query_metrics import first_of, query_values
from recsys_lab.ops.target_ranks import target_ranks
from recsys_lab.runs.comparison import compare
from recsys_lab.runs.finished import read_run
from recsys_lab.study.values import read_values, write_values
from recsys_lab.words import RecsysLabError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = made_events(num_users=25, num_items=12, shortest=2, longest=16, event_types=1)  # few items: many repeats
    return prepared(tmp_path_factory.mktemp("several") / "small", events).path


def trained_and_tested(
    folder: Path, data: SequenceDataModule, **settings: Any
) -> tuple[Any, RankingEvaluation, dict[str, float]]:
    evaluation = RankingEvaluation(cutoffs=(1, 3, 5), **settings)
    trainer = quiet_trainer(folder, callbacks=[evaluation])
    trainer.fit(model := GRU4Rec(embedding_dim=8), data)
    return model, evaluation, trainer.test(model, data, verbose=False)[0]


@pytest.mark.parametrize("exclude_seen", ["history", "none"])
@pytest.mark.parametrize("split", [LeaveKOut(3), GlobalTemporal(0.6, 0.6, target="together")], ids=["last", "time"])
def test_each_target_is_ranked_among_all_candidates_of_its_query(
    folder: Path, tmp_path: Path, split: Any, exclude_seen: Any
) -> None:
    data = SequenceDataModule(str(folder), split=split, exclude_seen=exclude_seen, max_length=6, eval_batch_size=4)
    model, evaluation, metrics = trained_and_tested(tmp_path, data)
    targets, events, model = data.split_result.test, data.events, model.eval()
    assert targets.query is not None and len(targets) > len(set(targets.query)) > 1
    rows = []
    for position, query, user in zip(targets.position, targets.query, targets.user_index, strict=True):
        begin = int(events.offsets[user])
        history = np.asarray(events.item_ids[begin:query]).tolist()
        window = torch.tensor([history[-6:]])
        batch = next(b for b in data.test_dataloader() if user in b.user_index).windows(torch.tensor([0]))
        own = batch.__class__(
            item_ids=window, target_ids=window, valid_mask=window > 0, timestamps=window,
            lengths=torch.tensor([window.shape[1]]), user_index=torch.tensor([user]),
        )  # fmt: skip
        seen = torch.tensor(sorted(set(history)) if exclude_seen == "history" else [], dtype=torch.int64)
        scores = model.score(model.query(own))
        target = torch.tensor([int(events.item_ids[position])])
        ranks = target_ranks(scores, target, data.item_counts > 0, seen, torch.tensor([0, len(seen)]))
        rows.append([position, *(int(getattr(ranks, name)) for name in ("num_greater", "num_ties", "num_candidates"))])
        assert target.item() not in events.item_ids[query:position], "each item counts once"
    assert evaluation.last_ranks is not None and evaluation.last_ranks[:, :4].tolist() == rows
    table = np.array(rows)
    values = query_values(*table[:, 1:].T, first_of(targets.query), (1, 3, 5))
    for name, each in values.items():
        assert metrics[f"test/{name}"] == pytest.approx(each.mean(), rel=1e-6)
    assert {"test/recall@3", "test/map@3"} < set(metrics)


def test_one_target_of_several_is_leave_one_out_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    ranks, metrics = [], []
    for split in (LeaveOneOut(), LeaveKOut(1)):
        data = SequenceDataModule(str(folder), split=split)
        _, evaluation, found = trained_and_tested(tmp_path, data)
        ranks.append(evaluation.last_ranks)
        metrics.append(found)
    assert np.array_equal(*ranks) and metrics[0] == metrics[1] and "test/recall@5" not in metrics[0]


def test_batches_hold_several_targets_and_the_time_of_the_first(folder: Path) -> None:
    data = SequenceDataModule(str(folder), split=LeaveKOut(3), eval_batch_size=4)
    events, targets, seen = data.events, data.split_result.test, []
    assert targets.query is not None
    for batch in data.test_dataloader():
        mask, where = batch.target_mask, batch.target_event
        assert mask is not None and where is not None and mask[:, 0].all() and mask.shape == batch.target_ids.shape
        assert not batch.target_ids[~mask].any() and (where[~mask] == -1).all()
        assert torch.equal(
            batch.target_ids[mask], torch.from_numpy(events.item_ids[where[mask].numpy()].astype(np.int64))
        )
        first = where[:, 0].numpy()
        assert batch.query_time is not None and batch.query_time.tolist() == events.timestamps[first].tolist()
        seen += where[mask].tolist()
    assert sorted(seen) == targets.position.tolist()
    dropped = sum(count for reason, count in data.split_result.dropped.items() if "counts once" in reason)
    assert dropped == sum(3 * len(set(part.query)) - len(part) for part in (data.split_result.val, targets)) > 0
    settings = data.evaluation_settings()
    assert settings["test_targets"] == len(targets) and settings["test_queries"] == len(set(targets.query))
    assert settings["split"] == "leave_3_out (leaky)"


def test_measures_look_at_the_first_target_of_each_query(folder: Path, tmp_path: Path) -> None:
    several = SequenceDataModule(str(folder), split=LeaveKOut(2), exclude_seen="none")
    first = SequenceDataModule(str(folder), split=LeaveKOut(2), exclude_seen="none")
    result, found = first.split_result, []
    test = result.test
    assert test.query is not None
    keep = test.position == test.query
    alone = test.__class__(test.user_index[keep], test.position[keep])
    first.__dict__["split_result"] = result.__class__(result.train_stop, result.val, alone, {})
    for data in (several, first):
        _, _, metrics = trained_and_tested(tmp_path, data, measures=[BeyondAccuracy(), Calibration()])
        found.append(metrics)
    of_measures = [name for name in found[1] if name.split("/")[1].split("@")[0] in ("nll", "coverage", "serendipity")]
    assert len(of_measures) == 7
    for name in of_measures:
        assert found[0][name] == found[1][name], name


def finished(folder: Path, home: Path, split: Any, *models: Any) -> list[Any]:
    runs = []
    for name in models:
        place = home / name
        options = ["--data.dataset", str(folder), "--run.folder", str(place), "--trainer.max_epochs", "1", *split]
        assert main(["fit", "--model", name, *options, "--trainer.enable_progress_bar", "false"]) == 0
        runs.append(read_run(place))
    return runs


def test_a_run_with_several_targets_is_compared_sliced_and_verified(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = ["--data.split", "LeaveKOut", "--data.split.num_targets", "2", "--checkpoint.monitor", "val/recall@10"]
    runs = finished(folder, tmp_path, split, "GRU4Rec", "SASRec")
    assert re.search(r"^test .*, recall 0\.\d{4}", capsys.readouterr().err, re.M)
    ranks, values = runs[0].ranks, pl.read_parquet(tmp_path / "GRU4Rec" / "values.parquet")
    queries = ranks["query"].n_unique()
    assert ranks["query"].to_list() == sorted(ranks["query"]) and queries < ranks.height
    assert ranks.group_by("query").agg(pl.col("user_id").n_unique())["user_id"].to_list() == [1] * queries
    assert (
        (ranks.group_by("query").agg(pl.col("query_time", "history_length").n_unique()).drop("query") == 1)
        .to_numpy()
        .all()
    )
    for metric in ("recall", "map", "hit_rate", "ndcg", "mrr"):
        own = values.filter(pl.col("metric").cast(pl.String) == f"{metric}@10")["value"].to_numpy()
        assert len(own) == queries == len(runs[0].units)
        assert np.array_equal(runs[0].values(metric, 10), own)
        assert runs[0].metrics[f"test/{metric}@10"] == pytest.approx(own.mean())
        assert len(runs[0].values(metric, 7)) == queries, "a cutoff that was not recorded"
    write_values(runs[0], tmp_path / "kept.parquet", "val/recall@10")
    kept = read_values(tmp_path / "kept.parquet")
    assert np.array_equal(kept.values("map", 5), runs[0].values("map", 5)) and len(kept.units) == queries
    compared = compare(runs, metrics=("recall", "map"))
    assert compared.rows[0].estimates["recall"].mean == max(run.values("recall", 10).mean() for run in runs)
    found = slices(runs, metric="recall")
    assert {one.dimension for one in found.slices} == {"history_length", "gap"}
    assert sum(one.targets for one in found.slices if one.dimension == "gap") == queries
    assert any("not cut by popularity, repeat, cold" in note for note in found.notes)
    with pytest.raises(RecsysLabError, match="can't be cut by cold"):
        slices(runs, by=["cold"])
    assert main(["verify", str(tmp_path / "GRU4Rec")]) == 0


def test_metrics_of_several_targets_are_refused_where_there_is_one(folder: Path, tmp_path: Path) -> None:
    (run,) = finished(folder, tmp_path, [], "Popularity")
    with pytest.raises(RecsysLabError, match="recall is of queries with several targets; .* it is hit_rate"):
        compare([run], metrics=("recall",))
    assert len(run.units) == len(run.ranks)
