"""A prepared set in shards is the same data: windows, targets, hashes and metrics; each process reads whole shards."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.cli import main
from recsys_lab.data.batches import samplers
from recsys_lab.data.batches.shard_batches import ShardBatches, dealt
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.shards.cut_shards import cut, finish, plan, write_shard
from recsys_lab.data.shards.sharded_dataset import ShardedDataset
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import GRU4Rec
from recsys_lab.words import RecsysLabError

SHARDS = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "small"
    prepared(folder, made_events(num_users=150, longest=30))
    return folder


@pytest.fixture(scope="module")
def sharded(whole: Path) -> Path:
    cut(whole, whole.with_name("sharded"), SHARDS)
    return whole.with_name("sharded")


def module(folder: Path | str, **settings: Any) -> SequenceDataModule:
    return SequenceDataModule(str(folder), max_length=7, batch_size=8, **settings)


def test_it_is_the_same_data(whole: Path, sharded: Path) -> None:
    one, other = ProcessedDataset.open(whole), ProcessedDataset.open(sharded)
    assert isinstance(other, ShardedDataset)
    assert (one.data_hash, one.vocabulary_hash, one.fields_hash) == (
        other.data_hash,
        other.vocabulary_hash,
        other.fields_hash,
    )
    for name, array in one.arrays.items():
        assert np.array_equal(np.asarray(other.arrays[name]), np.asarray(array)), name
    at = np.random.default_rng(0).integers(one.num_events, size=(5, 9))
    assert np.array_equal(other.item_ids[at], one.item_ids[at]) and other.item_ids[at].dtype == np.int32
    assert np.array_equal(other.timestamps[3:40], one.timestamps[3:40])
    again = pickle.loads(pickle.dumps(other))
    assert np.array_equal(again.item_ids[at], one.item_ids[at])
    other.verify()


@pytest.mark.parametrize("split", [None, GlobalTemporal()], ids=["leave-one-out", "by-time"])
def test_training_and_evaluation_see_the_same(whole: Path, sharded: Path, split: Any) -> None:
    one, other = module(whole, split=split, fields="all"), module(sharded, split=split, fields="all")
    assert torch.equal(one.item_counts, other.item_counts)
    assert one.spec == other.spec and one.evaluation_settings() == other.evaluation_settings()
    for part in ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"):
        first, second = (getattr(data, part)().dataset for data in (one, other))
        rows = np.arange(len(first))
        assert len(second) == len(rows)
        for name, expected in vars(first[rows]).items():
            _same(getattr(second[rows], name), expected, name)


def _same(found: Any, expected: Any, name: str) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            _same(found[key], expected[key], f"{name}.{key}")
    elif isinstance(expected, torch.Tensor) and name == "seen_ids":
        assert torch.equal(found.sort().values, expected.sort().values)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), name
    else:
        assert found == expected, name


def batches_of(folder: Path, rank: int, world: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    monkeypatch.setattr("recsys_lab.data.batches.samplers.rank_and_world", lambda: (rank, world))
    monkeypatch.setattr("recsys_lab.data.batches.shard_batches.rank_and_world", lambda: (rank, world))
    return module(folder, **settings)


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 3), (2, 2), (3, 1)])
@pytest.mark.parametrize("bucketing", [True, False])
def test_each_window_once_over_processes_and_workers(
    sharded: Path, world: int, workers: int, bucketing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, orders, evaluated, shards_of = [], [], [], {}
    for rank in range(world):
        data = batches_of(
            sharded, rank, world, monkeypatch, num_workers=workers, length_bucketing=bucketing, shuffle_shards=2
        )
        loader = data.train_dataloader()
        batches = loader.sampler
        assert isinstance(batches, ShardBatches)
        epochs = []
        for epoch in range(2):
            batches.epoch = epoch
            epochs.append(list(batches))
            assert len(epochs[-1]) == len(batches)
            sizes = [len(batch) for batch in epochs[-1]]
            assert min(sizes) > 0 and max(sizes) <= data.batch_size
        seen.append([row for batch in epochs[0] for row in batch])
        orders.append(epochs[0] != epochs[1])
        for i, batch in enumerate(epochs[0]):
            stream = (rank, i % max(workers, 1))
            shards_of.setdefault(stream, set()).update(batches.shard[batch].tolist())
            assert len(set(batches.shard[batch])) <= 4  # of two groups at most
        evaluated += [row for batch in data.test_dataloader().sampler for row in batch]
    lengths = {len(one) for one in seen}
    rows = [row for one in seen for row in one]
    assert sorted(rows) == list(range(len(batches.lengths))) and len(lengths) >= 1
    assert all(orders)
    streams = list(shards_of.values())
    assert sum(map(len, streams)) == len(set().union(*streams)), "two streams read one shard"
    assert sorted(evaluated) == list(range(len(data.test_dataloader().dataset)))


def test_all_processes_take_as_many_steps(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {len(batches_of(sharded, rank, 3, monkeypatch).train_dataloader()) for rank in range(3)}
    assert len(counts) == 1


def test_it_goes_on_in_the_middle_of_an_epoch(sharded: Path) -> None:
    """With two worker processes: the batches that are left, bit for bit."""
    data = module(sharded, num_workers=2, shuffle_shards=2)
    whole_epoch = [batch.item_ids for batch in data.train_dataloader()]
    loader = data.train_dataloader()
    steps = iter(loader)
    for _ in range(3):
        next(steps)
    state = loader.state_dict()
    assert state["batches_done"] == 3
    again = module(sharded, num_workers=2, shuffle_shards=2).train_dataloader()
    again.load_state_dict(json.loads(json.dumps(state)))
    rest = [batch.item_ids for batch in again]
    assert len(rest) == len(whole_epoch) - 3 and all(map(torch.equal, rest, whole_epoch[3:]))
    other = module(sharded, num_workers=1, shuffle_shards=2).train_dataloader()
    with pytest.raises(RecsysLabError, match=r"data\.num_workers 2, and now it is 1"):
        other.load_state_dict(state)


def test_a_model_is_ranked_the_same(whole: Path, sharded: Path, tmp_path: Path) -> None:
    found = []
    model = GRU4Rec(embedding_dim=8)
    trainer = quiet_trainer(tmp_path, callbacks=[RankingEvaluation()])
    trainer.fit(model, module(sharded))
    for folder in (whole, sharded):
        evaluation = RankingEvaluation()
        data = module(folder)
        quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, data, verbose=False)
        assert evaluation.last is not None
        found.append((evaluation.last_metrics, evaluation.last.ranks_frame(data)))
    assert found[0][0] == found[1][0] and found[0][1].equals(found[1][1])


def test_shards_are_tasks_of_their_own(whole: Path, sharded: Path, tmp_path: Path) -> None:
    """In any order, by any process; what is written already stays."""
    output = tmp_path / "by-task"
    left = plan(whole, output, SHARDS)
    assert left == list(range(SHARDS))
    for number in left[::-2]:
        write_shard(whole, output, number)
    with pytest.raises(RecsysLabError, match="6 of 12 shards are not written yet, the first is 0"):
        finish(whole, output)
    assert plan(whole, output, SHARDS) == left[::2]
    for number in left[::2]:
        write_shard(whole, output, number)
    finish(whole, output)
    for path in sharded.rglob("*.npy"):
        assert path.read_bytes() == (output / path.relative_to(sharded)).read_bytes(), path
    assert plan(whole, output, 3) == [0, 1, 2], "other shards begin anew"


def test_shards_by_the_command_line(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    made_events(num_users=40).write_csv(log)
    words = ["prepare", "--input", str(log), "--name", "mine", "--data_dir", str(tmp_path / "data"), "--shards", "3"]
    assert main(words) == 0
    assert "mine-3-shards" in capsys.readouterr().out
    assert main([*words, "--shard", "1"]) == 0 and main(words) == 0
    assert main(["verify", str(tmp_path / "data" / "mine-3-shards")]) == 0
    damaged = tmp_path / "data" / "mine-3-shards" / "shards" / "00001" / "item_ids.npy"
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"abcd")
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "data" / "mine-3-shards")]) == 1
    assert "00001/item_ids.npy" in capsys.readouterr().err


def test_too_few_shards_is_one_line(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = batches_of(sharded, 0, 4, monkeypatch, num_workers=4)
    with pytest.raises(RecsysLabError, match="shards can't be shared by 4 processes with 4 workers"):
        len(data.train_dataloader())


def test_streams_are_even() -> None:
    sizes = np.random.default_rng(0).poisson(1000, 64)
    loads = [sizes[shards].sum() for shards in dealt(sizes, 8)]
    assert max(loads) < 1.01 * min(loads)


# -- from a store ------------------------------------------------------------------------------------------------------


@pytest.fixture
def address(sharded: Path) -> Iterator[str]:
    """A store of fsspec: its files are in memory."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.store.clear()
    for path in sharded.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/bucket/small/{path.relative_to(sharded)}", path.read_bytes())
    yield "memory://bucket/small"
    files.store.clear()


def test_a_store_is_read_through_a_cache_of_bounded_size(
    whole: Path, sharded: Path, address: str, tmp_path: Path
) -> None:
    largest = max(ProcessedDataset.open(sharded).store.bytes_of(one) for one in range(SHARDS))  # type: ignore[attr-defined]
    room = 3 * largest
    data = module(address, cache_dir=str(tmp_path / "cache"), cache_gb=room / 1e9, shuffle_shards=1)
    expected = [batch.item_ids for batch in module(sharded, shuffle_shards=1).train_dataloader()]
    found = []
    for batch in data.train_dataloader():
        found.append(batch.item_ids)
        kept = [path for path in (tmp_path / "cache").rglob("shards/[0-9]*/**/*") if path.is_file()]
        assert sum(path.stat().st_size for path in kept) <= room
    assert all(map(torch.equal, found, expected)) and len(found) == len(expected)
    assert data.spec == module(sharded).spec


def test_a_cache_that_holds_all_is_read_without_the_store(address: str, tmp_path: Path) -> None:
    import fsspec

    settings = {"cache_dir": str(tmp_path / "cache")}
    first = [batch.item_ids for batch in module(address, **settings).train_dataloader()]
    files = fsspec.filesystem("memory")
    for name in [name for name in files.store if "/shards/0" in name]:
        del files.store[name]
    second = [batch.item_ids for batch in module(address, **settings).train_dataloader()]
    assert all(map(torch.equal, first, second))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(RecsysLabError, match=r"of memory://bucket/small can't be read"):
        next(iter(module(address, **settings).train_dataloader()))


def test_a_damaged_shard_of_a_store_is_named(address: str, tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    name = next(name for name in files.store if name.endswith("00003/timestamps.npy"))
    content = files.cat_file(name)
    files.pipe_file(name, content[:-1] + b"x")
    with pytest.raises(RecsysLabError, match=r"timestamps\.npy of shard 3 of memory://bucket/small is not what"):
        np.asarray(module(address, cache_dir=str(tmp_path)).processed.timestamps)


def test_a_cache_smaller_than_a_shard_is_one_line(address: str, tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match=r"data\.cache_gb .* is less than a shard"):
        _ = module(address, cache_dir=str(tmp_path), cache_gb=1e-9).processed


def test_others_are_bit_identical() -> None:
    """What a process takes of the batches without shards."""
    batches = samplers.TrainBatches(np.arange(1, 50), 4)
    assert [one.tolist() for one in batches.of_process(1, 3)] == [b[1::3].tolist() for b in batches.global_batches(3)]
