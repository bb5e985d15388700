"""Every baseline equals its slow reference on random data, validation event and the far past of a history included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import slow_references as slow
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import sparse
from small_data import FrameSource, made_events, prepared

import recsys_lab.models.baselines.row_table as row_table
import recsys_lab.models.baselines.session_knn as session_knn
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.models.baselines import (
    EASE,
    CountingModel,
    ItemKNN,
    Markov,
    Popularity,
    RecentPopularity,
    RepeatLast,
    SessionKNN,
)
from recsys_lab.models.baselines.row_table import RowTable
from recsys_lab.words import RecsysLabError

WINDOW = 4  # shorter than most histories


@pytest.fixture(scope="module", params=["dense", "sparse"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SequenceDataModule]:
    """Few items in dense tables; many items, some of them cold, in sparse ones."""
    many = request.param == "sparse"
    frame = made_events(num_users=25 if many else 40, num_items=150 if many else 12, seed=3)
    folder = prepared(tmp_path_factory.mktemp("baselines") / "set", frame).path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_table, "DENSE_SHARE", 1.1 if many else 0.0)
        yield SequenceDataModule(str(folder), max_length=WINDOW, eval_batch_size=7)


def counted(model: CountingModel, data: SequenceDataModule) -> CountingModel:
    model.build(data.spec)
    model.spec = data.spec
    model.count(data)
    return model


def test_scores(model: CountingModel, data: SequenceDataModule) -> np.ndarray:
    """(N, V) scores of the test targets, in the order of the split's targets."""
    scores = np.full((data.processed.num_users, data.spec.num_rows), np.nan)
    for batch in data.test_dataloader():
        scores[batch.user_index] = model.score(model.query(batch)).numpy()
    return scores[data.split_result.test.user_index]


test_scores.__test__ = False  # type: ignore[attr-defined]


def assert_equal(model: CountingModel, data: SequenceDataModule, expected: list[Any]) -> None:
    scores = test_scores(counted(model, data), data)
    assert len(scores) == len(expected) > 10
    np.testing.assert_allclose(scores[:, 1:], np.array(expected)[:, 1:], rtol=2e-5, atol=1e-6)
    assert np.array_equal(scores.astype(np.float32), scores)


def test_the_form_of_the_table_follows_its_density() -> None:
    for share, is_dense in ((0.02, False), (0.2, True)):
        table = row_table.RowTable(100, 50)
        table.fill(sparse.random(100, 50, density=share, format="csr", random_state=0))
        assert bool(table.dense.numel()) is is_dense and bool(table.values.numel()) is not is_dense


@pytest.mark.parametrize("backoff", [0.0, 0.5, 20.0])
def test_markov(data: SequenceDataModule, backoff: float) -> None:
    histories, rows = slow.training_histories(data), data.spec.num_rows
    expected = [slow.markov(histories, history, rows, backoff) for _, history in slow.test_cases(data)]
    assert_equal(Markov(backoff), data, expected)


@pytest.mark.parametrize("history", ["last", "whole"])
@pytest.mark.parametrize(("shrinkage", "num_neighbours"), [(0.0, None), (3.0, None), (0.0, 2)])
def test_item_knn(data: SequenceDataModule, history: Any, shrinkage: float, num_neighbours: int | None) -> None:
    histories = slow.training_histories(data)
    expected = [
        slow.item_knn(
            histories, set(h) if history == "whole" else {h[-1]}, data.spec.num_rows, shrinkage, num_neighbours
        )
        for _, h in slow.test_cases(data)
    ]
    assert_equal(ItemKNN(history, shrinkage, num_neighbours), data, expected)


@pytest.mark.parametrize("exclude_seen", ["history", "window", "none"])
def test_whole_history_does_not_depend_on_exclude_seen(data: SequenceDataModule, exclude_seen: Any) -> None:
    other = SequenceDataModule(str(data.processed.path), max_length=WINDOW, exclude_seen=exclude_seen)
    histories = slow.training_histories(data)
    expected = [slow.item_knn(histories, set(h), data.spec.num_rows, 0.0, None) for _, h in slow.test_cases(data)]
    assert_equal(ItemKNN(), other, expected)


@pytest.mark.parametrize("regularization", [0.5, 250.0])
def test_ease(data: SequenceDataModule, regularization: float) -> None:
    weights = slow.ease_weights(slow.training_histories(data), data.spec.num_items, regularization)
    expected = []
    for _, history in slow.test_cases(data):
        x = np.zeros(data.spec.num_items)
        x[[i - 1 for i in history]] = 1.0
        expected.append(np.concatenate([[0.0], x @ weights]))
    assert_equal(EASE(regularization), data, expected)


def newest_sessions_first(data: SequenceDataModule) -> list[int]:
    histories, begin = slow.training_histories(data), data.processed.offsets
    last = [data.processed.timestamps[begin[u] + len(h) - 1] if h else -1 for u, h in enumerate(histories)]
    return sorted(range(len(histories)), key=lambda u: (-last[u], u))


@pytest.mark.parametrize("num_neighbours", [2, 100])
@pytest.mark.parametrize("sample_size", [1, 5, 1000])
@pytest.mark.parametrize(("cells", "sparse"), [(1, 1 << 20), (1 << 18, 0)])
def test_session_knn(
    data: SequenceDataModule,
    num_neighbours: int,
    sample_size: int,
    cells: int,
    sparse: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_knn, "MAX_CELLS", cells)  # 1: every row is its own block
    monkeypatch.setattr(session_knn, "SPARSE", sparse)  # 0: entries are sorted in any case; else never
    histories, order = slow.training_histories(data), newest_sessions_first(data)
    expected = [
        slow.session_knn(
            [histories[u] for u in order],
            order.index(user),
            history[-WINDOW:],
            data.spec.num_rows,
            num_neighbours,
            sample_size,
        )
        for user, history in slow.test_cases(data)
    ]
    assert_equal(SessionKNN(num_neighbours, sample_size), data, expected)


def test_session_knn_linear_decay_forgets_what_is_ten_events_ago() -> None:
    length = torch.tensor([[12]])
    position = torch.arange(1, 13)[None]
    weight = session_knn.decayed("linear", position, length)
    assert weight[0, [0, 1, 2, 11]].tolist() == pytest.approx([0.0, 0.0, 0.1, 1.0])
    recency = session_knn.decayed_recency("linear", torch.tensor([1, 5, 10, 11]))
    assert recency.tolist() == pytest.approx([0.9, 0.5, 0.0, 0.0])


def test_repeat_last(data: SequenceDataModule) -> None:
    expected = []
    for _, history in slow.test_cases(data):
        scores = [0.0] * data.spec.num_rows
        for step, item in enumerate(reversed(history[-WINDOW:]), start=1):
            scores[item] = max(scores[item], 1 / step)
        expected.append(scores)
    assert_equal(RepeatLast(), data, expected)


def test_popularity_and_recent_popularity(data: SequenceDataModule) -> None:
    rows, cases = range(data.spec.num_rows), len(data.split_result.test)
    all_time = slow.recent_popularity(data, since=-1)
    assert_equal(Popularity(), data, [[all_time[i] for i in rows]] * cases)
    assert_equal(RecentPopularity(share=1.0), data, [[all_time[i] for i in rows]] * cases)
    times = np.sort(data.processed.timestamps[data.train_positions])
    recent = slow.recent_popularity(data, since=times[-1] - 2_000)
    assert 0 < recent.total() < all_time.total()
    assert_equal(RecentPopularity(window_seconds=2_000), data, [[recent[i] for i in rows]] * cases)
    newest = slow.recent_popularity(data, since=times[len(times) * 3 // 4] - 1)
    assert newest.total() / len(times) == pytest.approx(0.25, abs=0.02)
    assert_equal(RecentPopularity(share=0.25), data, [[newest[i] for i in rows]] * cases)


def test_recent_popularity_ends_with_the_training_part_of_a_temporal_split(small_folder: Path) -> None:
    data = SequenceDataModule(str(small_folder), split=GlobalTemporal(quantile=0.8, val_quantile=0.8))
    end = data.processed.timestamps[data.train_positions].max()
    cut = data.split_result.cut_time
    assert cut is not None and end < cut
    model = counted(RecentPopularity(window_seconds=600), data)
    expected = slow.recent_popularity(data, since=end - 600)
    assert model.counts.tolist() == [expected[i] for i in range(data.spec.num_rows)]


def test_data_without_time(tmp_path: Path) -> None:
    source = FrameSource(made_events().drop("timestamp"), "order")
    source.has_timestamps = False
    folder = prepare(source, PrepareSettings(), tmp_path / "order", tmp_path / "raw").path
    data = SequenceDataModule(str(folder), max_length=WINDOW)
    expected = [0] * data.spec.num_rows
    for h in slow.training_histories(data):
        for item in h[len(h) - -(-len(h) * 3 // 10) :]:  # the newest 30 % of each user, rounded up
            expected[item] += 1
    assert counted(RecentPopularity(share=0.3), data).counts.tolist() == expected
    with pytest.raises(RecsysLabError, match="no timestamps"):
        counted(RecentPopularity(window_seconds=60.0), data)
    same, other = (counted(SessionKNN(seed=s), data).session_of_user for s in (0, 1))
    assert torch.equal(same, counted(SessionKNN(), data).session_of_user) and not torch.equal(same, other)


events = st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=8), min_size=2, max_size=6)


@hypothesis_settings(max_examples=25, deadline=None)
@given(histories=events, chunk=st.integers(1, 9))
def test_short_and_repeating_histories(
    histories: list[list[int]], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All that depends on last items, repetitions and block borders, on data that hypothesis makes up."""
    rows = [(f"u{u}", i, 1_000 * t + u) for u, h in enumerate(histories) for t, i in enumerate(h)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    folder = prepared(tmp_path_factory.mktemp("made") / "set", frame).path
    data = SequenceDataModule(str(folder), max_length=3)
    train, num_rows = slow.training_histories(data), data.spec.num_rows
    order = newest_sessions_first(data)
    weights = slow.ease_weights(train, data.spec.num_items, 2.0)
    results = {m: test_scores(counted(m, data), data) for m in (Markov(0.0), ItemKNN(), SessionKNN(2, 3), EASE(2.0))}
    with pytest.MonkeyPatch.context() as patch:  # as on an accelerator
        patch.setattr(row_table, "MAX_ENTRIES", chunk)
        patch.setattr(RowTable, "_multiplied", RowTable._scattered)
        in_blocks = {m: test_scores(m, data) for m in results}
    for place, (user, history) in enumerate(slow.test_cases(data)):
        x = np.isin(np.arange(1, num_rows), history).astype(float)
        expected = [
            slow.markov(train, history, num_rows, 0.0),
            slow.item_knn(train, set(history), num_rows, 0.0, None),
            slow.session_knn([train[u] for u in order], order.index(user), history[-3:], num_rows, 2, 3),
            [0.0, *(x @ weights)],
        ]
        for (model, scores), values in zip(results.items(), expected, strict=True):
            np.testing.assert_allclose(scores[place, 1:], values[1:], rtol=2e-5, atol=1e-6, err_msg=str(model))
            assert np.array_equal(scores[place], in_blocks[model][place])
