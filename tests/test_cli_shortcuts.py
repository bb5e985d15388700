"""`recsys-lab diagnose shortcuts`: each measure against a loop, at its extremes, and on a run from the command line."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer
from test_cli_runs import fit
from test_cli_shuffle import SumOfHistory

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.diagnose.shortcuts import branching, history, item_vectors, smoothness
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import SASRec
from recsys_lab.models.baselines import Markov


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SequenceDataModule:
    frame = made_events(num_users=60, num_items=25, shortest=5, event_types=1, seed=2)
    return SequenceDataModule(str(prepared(tmp_path_factory.mktemp("cuts") / "set", frame).path), exclude_seen="none")


def steps(data: SequenceDataModule) -> tuple[np.ndarray, np.ndarray]:
    """Last item and target of each test case."""
    position, items = data.split_result.test.position, data.events.item_ids
    return items[position - 1].astype(np.int64), items[position].astype(np.int64)


def test_branching_against_a_loop(data: SequenceDataModule) -> None:
    edges: dict[int, Counter[int]] = defaultdict(Counter)
    offsets, stop, items = data.processed.offsets, data.split_result.train_stop, data.processed.item_ids
    for user in range(data.processed.num_users):
        events = [int(i) for i in items[offsets[user] : stop[user]]]
        for a, b in zip(events, events[1:], strict=False):
            edges[a][b] += 1
    total = sum(after.total() for after in edges.values())
    bits = -sum(n * math.log2(n / after.total()) for after in edges.values() for n in after.values()) / total
    found = branching(data, *steps(data))
    assert found["transitions"] == total and found["successors"] == pytest.approx(2**bits)
    assert 1 < found["successors"] < found["successors_shuffled"], "the next item is mostly the last one plus one"
    last, target = steps(data)
    in_first = np.mean([b in edges[a] for a, b in zip(last.tolist(), target.tolist(), strict=True)])
    size = np.mean([len(edges[a]) / data.spec.num_items for a in last.tolist()])
    assert found["rings"][0] == pytest.approx(in_first) and found["ring_sizes"][0] == pytest.approx(size)
    assert in_first > 2 * size and sum(found["rings"]) <= 1 and sum(found["ring_sizes"]) <= 1 + 1e-6


def test_smoothness_against_a_loop_and_at_its_extremes(data: SequenceDataModule) -> None:
    last, target = steps(data)
    user = data.split_result.test.user_index
    vectors = torch.nn.functional.normalize(torch.randn(data.spec.num_rows, 6, generator=torch.manual_seed(0)), dim=1)
    vectors[[0, int(last[0])]] = 0.0
    found = smoothness(data, vectors, last, target, user)
    counts = data.item_counts.numpy() * (vectors.norm(dim=1) > 0).numpy()
    kept = [(a, b) for a, b in zip(last, target, strict=True) if vectors[a].any() and vectors[b].any()]
    cosine, chance, above = [], [], []
    for a, b in kept:
        own = float(vectors[a] @ vectors[b])
        others = (vectors[a] @ vectors.T).numpy()
        cosine.append(own)
        chance.append(float((others * counts).sum() / counts.sum()))
        above.append(float((counts * (others < own - 1e-7)).sum() + counts[b] / 2) / counts.sum())
    assert found["targets"] == len(kept) < len(last)
    for name, values in (("cosine", cosine), ("cosine_of_chance", chance)):
        assert found[name][0] == pytest.approx(np.mean(values), abs=1e-5)
        assert found[name][1] < found[name][0] < found[name][2]
    assert found["more_similar_than_chance"][0] == pytest.approx(np.mean(above), abs=0.01)
    ring = torch.arange(data.spec.num_rows) * 2 * math.pi / 25  # the next item is mostly a small step further
    smooth = smoothness(data, torch.stack([ring.cos(), ring.sin()], dim=1), last, target, user)
    assert smooth["more_similar_than_chance"][1] > 0.6
    assert smoothness(data, torch.zeros(data.spec.num_rows, 2), last, target, user) == {"targets": 0}


def test_markov_needs_one_event_and_a_sum_of_the_history_all(data: SequenceDataModule, tmp_path: Path) -> None:
    for model, needs in ((Markov(), False), (SumOfHistory(), True)):
        quiet_trainer(tmp_path).test(model, data, verbose=False)
        found = history(model, data, RankingEvaluation(), data.split_result.test, "ndcg", 10)
        assert [one["newest"] for one in found] == [1, 2, 3, 5, 10, 20, data.max_length]
        whole = found[-1]
        assert whole["share"] == pytest.approx((1.0, 1.0, 1.0))
        (share, low, high), value = found[0]["share"], found[0]["value"]
        assert share == pytest.approx(value / whole["value"]) and low <= share <= high
        assert (share == 1.0) is not needs


def test_on_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    data = prepared(tmp_path / "shop", made_events(num_users=40))
    assert fit(Path("shop"), tmp_path / "runs", "--trainer.max_epochs", "1") == 0
    (folder,) = (tmp_path / "runs").glob("**/seed0")
    capsys.readouterr()
    assert main(["diagnose", "shortcuts", str(folder)]) == 0
    shown = capsys.readouterr().out
    found = json.loads((folder / "shortcuts" / "shortcuts.json").read_text())
    assert "transitions: what follows an item is as uncertain as" in shown and "by the item table of SASRec" in shown
    assert "newest events" in (folder / "shortcuts" / "shortcuts.md").read_text()
    assert found["history"][-1]["value"] == pytest.approx(
        json.loads((folder / "metrics.json").read_text())["test/ndcg@10"], abs=1e-6
    )
    rows = pl.DataFrame(
        {
            "item_id": data.item_ids_raw,
            "vector": np.random.default_rng(0).normal(size=(len(data.item_ids_raw), 3)).tolist(),
        }
    )
    rows.write_parquet("texts.parquet")
    assert main(["diagnose", "shortcuts", str(folder), "--item_vectors", "texts.parquet", "--output", "out"]) == 0
    assert "by texts.parquet, over" in capsys.readouterr().out and (tmp_path / "out" / "shortcuts.md").is_file()
    assert main(["diagnose", "shortcuts", str(folder), "--item_vectors", "gone.parquet"]) == 2
    assert "gone.parquet can't be read: no such file" in capsys.readouterr().err


def test_a_model_without_an_item_table(data: SequenceDataModule, tmp_path: Path) -> None:
    quiet_trainer(tmp_path).test(model := Markov(), data, verbose=False)
    vectors, whose = item_vectors(model, data, None)
    assert vectors is None and whose.startswith("none: the model has no vectors")
    model = SASRec(embedding_dim=8)
    model.build(data.spec)
    vectors, whose = item_vectors(model, data, None)
    assert vectors is not None and whose == "the item table of SASRec"
    trained = (data.item_counts > 0).nonzero()[:, 0]
    assert vectors[trained].norm(dim=1).allclose(torch.ones(len(trained)))
