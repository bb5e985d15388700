"""Recommendations: the file against a reference that holds all in memory; interruptions; how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation import spilled_lists
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.evaluation.spilled_lists import SpilledLists
from recsys_lab.models import NextItemModule, Popularity
from recsys_lab.models.baselines.markov import Markov
from recsys_lab.ops.top_items import top_items

MODELS = {"popularity": Popularity, "markov": Markov}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = made_events(num_users=23, num_items=12, shortest=3, longest=40, seed=2)
    return prepared(tmp_path_factory.mktemp("prepared") / "users", frame).path


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of users at a time."""
    monkeypatch.setattr(spilled_lists, "RANGE_ROWS", 12)


def all_at_once(model: NextItemModule, data: SequenceDataModule, k: int) -> pl.DataFrame:
    """The slow reference: a row for each place, all in memory, sorted."""
    rows = []
    for batch in data.predict_dataloader():
        with torch.no_grad():
            scores = model.score(model.query(batch))
        items, best = top_items(scores, data.item_counts > 0, batch.seen_ids, batch.seen_offsets, k)
        for row, user in enumerate(batch.user_index.tolist()):
            for place in range(items.shape[1]):
                if items[row, place] > 0:
                    facts = (items[row, place].item(), best[row, place].item(), batch.query_time[row].item())
                    rows.append((user, place + 1, *facts))
    rows.sort()
    user_ids, item_ids = data.processed.user_ids, data.processed.item_ids_raw
    return pl.DataFrame(
        {
            "user_id": [user_ids[row[0]] for row in rows],
            "position": pl.Series([row[1] for row in rows], dtype=pl.Int32),
            "item_id": pl.Series([item_ids[row[2] - 1] for row in rows], dtype=item_ids.dtype),
            "score": pl.Series([row[3] for row in rows], dtype=pl.Float32),
            "query_time": [row[4] for row in rows],
        }
    )


def predict(model: NextItemModule, data: SequenceDataModule, folder: Path, *others: Any, **settings: Any) -> Path:
    recommendations = Recommendations(folder / "best.parquet", **settings)
    trainer = quiet_trainer(folder, callbacks=[recommendations, *others])
    trainer.predict(model, data, return_predictions=False)
    return recommendations.path


@pytest.mark.parametrize("k", [1, 5, 50])
@pytest.mark.parametrize("exclude_seen", ["history", "none"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("small_ranges")
def test_the_file_is_that_of_everything_in_memory(
    name: str, exclude_seen: Any, k: int, folder: Path, tmp_path: Path
) -> None:
    """Also where fewer than K candidates are left: with 50 of 12 items, and where a user had them all."""
    data = SequenceDataModule(str(folder), max_length=8, eval_batch_size=5, exclude_seen=exclude_seen)
    model = MODELS[name]()
    file = predict(model, data, tmp_path, top_k=k)
    assert [path.name for path in tmp_path.iterdir()] == ["best.parquet"]
    assert_frame_equal(pl.read_parquet(file), all_at_once(model, data, k))


class Stop(Exception):
    pass


class StopsInTheMiddle(Popularity):
    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if batch_idx == 3:
            raise Stop
        return super().predict_step(batch, batch_idx)


@pytest.mark.usefixtures("small_ranges")
def test_an_interrupted_prediction_leaves_the_old_file_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(folder), max_length=8, eval_batch_size=5)
    file = predict(Popularity(), data, tmp_path, top_k=3)
    before = file.read_bytes()
    with pytest.raises(Stop):
        predict(StopsInTheMiddle(), data, tmp_path, top_k=2)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.usefixtures("small_ranges")
def test_what_a_killed_prediction_left_is_not_taken_for_results(folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(folder), max_length=8, eval_batch_size=5)
    killed = SpilledLists(tmp_path, 3)
    killed.folder = Recommendations(tmp_path / "best.parquet").scratch / "lists"
    killed.folder.mkdir(parents=True)
    killed.add(np.array([1]), np.array([7]), np.array([[1, 2, 3]]), np.ones((1, 3), dtype=np.float32))
    killed.flush()
    model = Popularity()
    file = predict(model, data, tmp_path, top_k=3)
    assert_frame_equal(pl.read_parquet(file), all_at_once(model, data, 3))
    assert list(tmp_path.iterdir()) == [file]


def test_without_users_the_file_has_no_rows(folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(folder))
    strategy = SimpleNamespace(barrier=lambda name: None)
    trainer: Any = SimpleNamespace(datamodule=data, strategy=strategy, is_global_zero=True, global_rank=0)
    recommendations, model = Recommendations(tmp_path / "none.parquet"), Popularity()
    recommendations.on_predict_start(trainer, model)
    recommendations.on_predict_end(trainer, model)
    found = pl.read_parquet(tmp_path / "none.parquet")
    assert found.is_empty() and found.columns == ["user_id", "position", "item_id", "score", "query_time"]


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_lists_come_back_in_order_from_any_number_of_processes(processes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    users, k = rng.permutation(101)[:83], 3
    items, scores = rng.integers(1, 2**31 - 1, (83, k)), rng.random((83, k)).astype(np.float32)
    writers = [SpilledLists(tmp_path, k, process) for process in range(processes)]
    for start in range(0, 83, 5):
        part = slice(start, start + 5)
        writers[start % processes].add(users[part], users[part] * 2**40, items[part], scores[part])
    for writer in writers:
        writer.flush()
    ranges = list(writers[0].ranges())
    assert len(ranges) == len({user // writers[0].users_per_range for user in users}) > 20
    got, order = np.concatenate(ranges), np.argsort(users)
    assert np.array_equal(got["user"], users[order]) and np.array_equal(got["time"], users[order] * 2**40)
    assert np.array_equal(got["items"], items[order]) and np.array_equal(got["scores"], scores[order])


MANY_USERS = """
import json, resource, sys
from types import SimpleNamespace
import numpy as np, polars as pl, torch
from recsys_lab.evaluation import spilled_lists\nfrom recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.contracts import Batch

spilled_lists.RANGE_ROWS = 1 << 18

users, k, rows = int(sys.argv[1]), 100, 500
torch.set_num_threads(1)
ids = pl.Series([f"user{u:08d}" for u in range(users)])
processed = SimpleNamespace(user_ids=ids, item_ids_raw=pl.Series(range(k + 20)))
data = SimpleNamespace(item_counts=torch.ones(k + 21, dtype=torch.int64).index_fill(0, torch.tensor([0]), 0),
                       processed=processed)
trainer = SimpleNamespace(datamodule=data, strategy=SimpleNamespace(barrier=lambda name: None), is_global_zero=True,
                          global_rank=0)
model = SimpleNamespace(device="cpu", score=lambda query: query, check_ranks=lambda: None)
recommendations = Recommendations(sys.argv[2], top_k=k)
recommendations.on_predict_start(trainer, model)
scores, one = torch.rand(rows, k + 21), torch.ones(rows, 1, dtype=torch.int64)
for start in range(0, users, rows):
    user = torch.arange(rows) * (users // rows) + start // rows  # far from sorted
    batch = Batch(one, one[:, 0], one > 0, one, one[:, 0], user, seen_ids=torch.tensor([], dtype=torch.int64),
                  seen_offsets=torch.zeros(rows + 1, dtype=torch.int64), query_time=user)
    recommendations.on_predict_batch_end(trainer, model, scores, batch)
recommendations.on_predict_end(trainer, model)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


@pytest.mark.process
def test_memory_does_not_grow_with_the_users(tmp_path: Path) -> None:
    """Four million places take 160 MB as the rows of a float64 tensor, as much again for each copy of them, and half of
    it as a table."""
    peak = {}
    for users in (4_000, 40_000):
        file = tmp_path / f"{users}.parquet"
        done = subprocess.run(
            [sys.executable, "-c", MANY_USERS, str(users), str(file)], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        peak[users] = json.loads(done.stdout) / 1024  # Linux counts in KB
        found = pl.scan_parquet(file).select(pl.len(), (pl.col("query_time").diff() >= 0).all(), pl.n_unique("user_id"))
        assert found.collect().row(0) == (users * 100, True, users)
    assert peak[40_000] - peak[4_000] < 130, peak
