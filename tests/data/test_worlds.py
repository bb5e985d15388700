"""Worlds with a known best score: what is promised is what the model that knows the world reaches."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_data import quiet_trainer, value_of
from test_cli_runs import QUIET
from torch import Tensor

from recsys_lab.cli import main
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.prepared_text import prepared_text
from recsys_lab.data.sources import get_source
from recsys_lab.data.sources.worlds import SOURCES
from recsys_lab.data.sources.worlds.copying import Copying
from recsys_lab.data.sources.worlds.known_world import Events, KnownWorld, zipf
from recsys_lab.data.sources.worlds.markov_chains import Behaviours, MarkovChain
from recsys_lab.data.sources.worlds.popular_items import PopularItems
from recsys_lab.data.sources.worlds.timed import Drift, Periodic
from recsys_lab.data.split.leave_one_out import LeaveKOut
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import CountingModel
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.runs.remarks import of_best
from recsys_lab.words import RecsysLabError

SMALL = {"num_users": 1_500, "num_items": 24, "length": 16, "noise": 0.2}
GAINS = 1 / np.log2(np.arange(2, 12))


def small(world: KnownWorld, **settings: Any) -> KnownWorld:
    own = {"order": world.order} if isinstance(world, MarkovChain) else {}
    own |= {"back": 6} if isinstance(world, Copying) else {}
    return type(world)(**{**SMALL, **own, **settings})


@pytest.mark.parametrize("world", SOURCES, ids=lambda world: world.name)
def test_the_model_that_knows_the_world_reaches_the_best_possible_score(world: KnownWorld) -> None:
    """On the events that did come, up to chance; and one that doesn't, popularity, does not."""
    world = small(world)
    for from_end in (1, 2):
        expected = world.best_possible(10, from_end)
        ((probabilities, came), *more) = list(world.queries(from_end))
        for other, target in more:
            probabilities, came = np.concatenate([probabilities, other]), np.concatenate([came, target])
        assert np.allclose(probabilities.sum(1), 1) and len(came) == world.num_users
        for metric in ("hit_rate", "ndcg"):
            own = probabilities[np.arange(len(came)), came][:, None]
            greater, ties = (probabilities > own).sum(1), (probabilities == own).sum(1) - 1
            values = RANKING_METRICS[metric](greater, ties, 10)
            off, error = abs(values.mean() - expected[f"{metric}@10"]), expected[f"{metric}@10_error"]
            assert off < 4 * error and error < 0.02, metric
        counted = np.bincount(world.drawn().items.ravel(), minlength=world.num_items)
        rank = np.empty(world.num_items)
        rank[np.argsort(-counted)] = np.arange(world.num_items) + 1
        popular = float(value_of("ndcg", rank[came], 10).mean())
        error = expected["ndcg@10_error"]
        if isinstance(world, PopularItems):
            assert abs(popular - expected["ndcg@10"]) < 4 * error
        else:
            assert popular < expected["ndcg@10"] - 4 * error


@pytest.mark.parametrize(
    ("world", "ndcg", "hit_rate"),
    [
        (PopularItems(noise=0.0), zipf(100)[:10] @ GAINS, zipf(100)[:10].sum()),
        (Copying(noise=0.0), 1.0, 1.0),
        (MarkovChain(noise=0.0), zipf(5) @ GAINS[:5], 1.0),
        (MarkovChain(noise=0.0, order=2, num_items=20), zipf(5) @ GAINS[:5], 1.0),
        (Behaviours(noise=0.0), zipf(3) @ GAINS[:3], 1.0),
        (Periodic(noise=0.0), zipf(25)[:10] @ GAINS, zipf(25)[:10].sum()),
        (Drift(noise=0.0), zipf(100)[:10] @ GAINS, zipf(100)[:10].sum()),
    ],
    ids=lambda value: value.name if isinstance(value, KnownWorld) else "",
)
def test_closed_forms_without_noise(world: KnownWorld, ndcg: float, hit_rate: float) -> None:
    best = small(world, num_users=50, num_items=world.num_items, noise=0.0).best_possible(10)
    assert best["ndcg@10"] == pytest.approx(ndcg) and best["hit_rate@10"] == pytest.approx(hit_rate)


def test_what_the_events_are() -> None:
    copy = Copying(**{**SMALL, "noise": 0.0}, back=3).drawn()
    assert (copy.items[:, 3:] == copy.items[:, :-3]).all() and not (copy.items[:, 1:] == copy.items[:, :-1]).all()
    assert (np.diff(copy.times) > 0).all()
    chain = MarkovChain(**{**SMALL, "noise": 0.0}, order=2).drawn().items
    followers: dict[tuple[int, int], set[int]] = {}
    for row in chain.tolist():
        for before, last, after in zip(row, row[1:], row[2:], strict=False):
            followers.setdefault((before, last), set()).add(after)
    assert max(len(after) for after in followers.values()) == 5
    of_one = {last: set().union(*(a for (_, one), a in followers.items() if one == last)) for _, last in followers}
    assert np.mean([len(after) for after in of_one.values()]) > 15, "one item alone says little"


@pytest.mark.parametrize("world", [Behaviours(**SMALL), PopularItems(**SMALL)], ids=lambda world: world.name)
def test_prepared_events_are_the_drawn_ones(world: KnownWorld, tmp_path: Path) -> None:
    data, drawn = prepare(world, PrepareSettings(), tmp_path / "world", tmp_path), world.drawn()
    assert data.num_users == 1_500 and data.num_items == 24
    raw = data.item_ids_raw.cast(pl.Int64).to_numpy()
    kept = np.arange(world.length) >= world.begins()[:, None]
    np.testing.assert_array_equal(raw[data.item_ids - 1], drawn.items[kept] + 1)
    np.testing.assert_array_equal(data.timestamps, drawn.times[kept])
    lengths = np.diff(data.offsets)
    assert lengths.min() == world.shortest == 8 and lengths.max() == 16
    assert data.num_event_types == (4 if isinstance(world, Behaviours) else 0)


def test_they_are_found_by_name_and_made_from_their_seed(tmp_path: Path) -> None:
    assert len({world.name for world in SOURCES}) == len(SOURCES) == 7
    assert all(get_source(world.name) is world for world in SOURCES)
    one, same, other = (small(Copying(), seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint(tmp_path) == same.fingerprint(tmp_path) != other.fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Copying(noise=1.0), "world-copy: noise is 1.0; it must be at least 0 and below 1"),
        (lambda: Copying(length=5), "world-copy: it takes a user, 2 items, and a length of 6 events"),
        (lambda: Copying(back=14), "world-copy: back must be in 1..length / 2 - 2 = 13"),
        (lambda: MarkovChain(order=4), "world-markov-4: order is 4; .* at most 10,000,000"),
        (lambda: MarkovChain(order=3, length=8, num_items=20), "order must be at most length / 2 - 2 = 2"),
        (lambda: MarkovChain(num_items=5), r"world-markov-1: num_successors must be in 1..num_items - 1 = 4"),
        (lambda: Behaviours(num_behaviours=1), "world-behaviours: num_behaviours is 1; it must be at least 2"),
        (lambda: Periodic(phases=5), "world-periodic: phases is 5; it must divide 24"),
        (lambda: Drift(seasons=1), "world-drift: it takes 2 seasons"),
        (lambda: PopularItems(**SMALL).best_possible(25), "k is 25; it must be in 1..num_items = 24"),
        (lambda: PopularItems(**SMALL).best_possible(10, 8), "from_end is 8; every user must have an event before"),
    ],
)
def test_impossible_worlds_are_named(make: Any, message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        make()


class Knowing(CountingModel):
    """The model that knows a world: its scores are the probabilities of what comes next, from the batch alone."""

    world: KnownWorld

    def build(self, spec: DataSpec) -> None:
        self.num_rows = spec.num_rows

    def count(self, datamodule: SequenceDataModule) -> None:
        data = datamodule.processed
        self.number = data.item_ids_raw.cast(pl.Int64).to_numpy() - 1  # of each item, in the world
        names = datamodule.fitted_fields["event_type"].values.to_list() if data.num_event_types else []
        self.kinds = np.array([0, 0, *(int(name.removeprefix("behaviour ")) for name in names)])  # of each row

    def query(self, batch: Batch) -> Tensor:
        scores = torch.zeros(len(batch), self.num_rows)
        kinds = batch.event.get("event_type", torch.zeros_like(batch.item_ids))
        for length in batch.lengths.unique():
            rows = batch.lengths == length
            items, times, kind = (of[rows, :length].numpy() for of in (batch.item_ids, batch.timestamps, kinds))
            known = self.world.probabilities(Events(self.number[items - 1], times, self.kinds[kind]))
            scores[rows, 1:] = torch.from_numpy(known[:, self.number]).float()
        return scores

    def score(self, query: Tensor) -> Tensor:
        return query


@pytest.mark.parametrize("world", SOURCES, ids=lambda world: world.name)
def test_our_evaluation_gives_it_the_best_possible_score(world: KnownWorld, tmp_path: Path) -> None:
    """On the prepared data, through batches, ranking and metrics; and these are the ranks that the world knows of."""
    world = small(world)
    folder = prepare(world, PrepareSettings(), tmp_path / "world", tmp_path).path
    data = SequenceDataModule(str(folder), max_length=world.length, exclude_seen="none")
    model, evaluation = Knowing(), RankingEvaluation()
    model.world = world
    trainer = quiet_trainer(tmp_path, callbacks=[evaluation])
    (reached,) = trainer.test(model, data, verbose=False)
    best = data.evaluation_settings()["best_possible"]
    for metric in ("hit_rate@10", "ndcg@10"):
        assert abs(reached[f"test/{metric}"] - best[metric]) < 4 * best[f"{metric}_error"]
    ranks = evaluation.ranks_frame(data)
    for name, counts in zip(("num_greater", "num_ties"), world.best_counts(), strict=True):
        np.testing.assert_array_equal(ranks[name], counts)
    (val,) = trainer.validate(model, data, verbose=False)
    known = data.processed.manifest["best_possible"]["val"]
    assert abs(val["val/ndcg@10"] - known["ndcg@10"]) < 4 * known["ndcg@10_error"]


def test_the_best_possible_score_is_said_where_it_holds(tmp_path: Path) -> None:
    world = small(Copying(), back=3)
    whole = prepare(world, PrepareSettings(), tmp_path / "whole", tmp_path)
    assert "hit_rate@10" in prepared_text(whole) and "with --data.exclude_seen none" in prepared_text(whole)
    said = SequenceDataModule(str(whole.path), exclude_seen="none").evaluation_settings()
    assert said["best_possible"] == pytest.approx(world.best_possible())
    (line,) = of_best(said["best_possible"]["ndcg@10"] / 2, said, 10)
    assert "is 50.0% of what the best model can expect" in line and of_best(0.5, said, 20) == []
    for others in ({}, {"exclude_seen": "none", "split": LeaveKOut(2)}):
        assert "best_possible" not in SequenceDataModule(str(whole.path), **others).evaluation_settings()
    part = prepare(world, PrepareSettings(keep=("item_id != 5",)), tmp_path / "part", tmp_path)
    assert "best_possible" not in part.manifest and "best " not in prepared_text(part)


def test_the_page_of_the_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: Any) -> None:
    """Its example in Python and its commands run, over fewer batches, and say what they promise; its table is whole."""
    page = (Path(__file__).parents[2] / "docs" / "worlds.md").read_text()
    assert set(re.findall(r"^\| `(world-[\w-]+)`", page, re.MULTILINE)) == {world.name for world in SOURCES}
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
    assert "ndcg@5_error" in capsys.readouterr().out
    assert main(["verify", "copy-12"]) == 0
    (commands,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    prepares, fits = (shlex.split(line)[1:] for line in commands.replace("\\\n", "").splitlines())
    assert main(prepares) == 0 and "is the most that a model can expect" in capsys.readouterr().out
    with caplog.at_level("INFO", logger="recsys_lab"):
        few = ["--trainer.limit_train_batches", "2", "--trainer.max_epochs", "1", "--model.embedding_dim", "8"]
        assert main([*fits, *few, *QUIET]) == 0
    assert "of what the best model can expect" in caplog.text + capsys.readouterr().out
    (manifest,) = tmp_path.glob("runs/**/manifest.json")
    best = json.loads(manifest.read_text())["evaluation"]["best_possible"]
    assert best == pytest.approx(get_source("world-copy").best_possible())
