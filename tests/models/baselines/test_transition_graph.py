"""TransitionGraph equals a loop over dicts, from the definitions alone; its vectors are the user's; bad settings."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import slow_references as slow
import torch
from small_data import made_events, prepared
from test_against_references import counted, test_scores

import recsys_lab.models.baselines.row_table as row_table
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models.baselines import Markov, TransitionGraph
from recsys_lab.words import RecsysLabError


def rings_of(edges: dict[int, Counter[int]], item: int, number: int) -> list[dict[int, int]]:
    """Ring by ring: item -> on how many shortest ways it is reached."""
    found: list[dict[int, int]] = []
    ways, known = {item: 1}, set[int]()
    for ring in range(number):
        after: Counter[int] = Counter()
        for before, count in ways.items():
            for follower, times in edges[before].items():
                if follower not in known:
                    after[follower] += count * times
        ways = dict(after)
        found.append(ways)
        known |= set(ways) | ({item} if ring == 0 else set())
    return found


def in_order(
    edges: dict[int, Counter[int]],
    history: list[int],
    budgets: list[list[int]],
    weight: float,
    vectors: np.ndarray | None,
) -> list[set[int]]:
    """Items that are tied, the best first; what no ring holds is not in it."""
    best: list[tuple[float, int, int]] = []  # minus s, tier, item
    rest: dict[int, tuple[int, float]] = {}
    chosen: set[int] = set()
    tier = 0
    for back, of_source in enumerate(budgets, start=1):
        if back > len(history):
            break
        source = history[-back]
        for ring, budget in zip(rings_of(edges, source, len(of_source)), of_source, strict=True):
            most = max((math.log1p(count) for count in ring.values()), default=1.0)
            worth = {}
            for item, count in ring.items():
                similar = 0.0
                if vectors is not None:
                    a, b = vectors[source], vectors[item]
                    similar = float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)
                worth[item] = round(similar + weight * math.log1p(count) / most, 5)
            new = {item: value for item, value in worth.items() if item not in chosen}
            least = sorted(new.values(), reverse=True)[:budget][-1:] or [math.inf]
            for item, value in new.items():
                if value >= least[0]:
                    best.append((tier, -value, item))
                    chosen.add(item)
                    rest.pop(item, None)
                elif item not in rest:
                    rest[item] = (tier, -value)
            tier += 1
    behind = [(tier + place, value, item) for item, (place, value) in rest.items()]
    groups: dict[tuple[int, float], set[int]] = defaultdict(set)
    for place, value, item in [*best, *behind]:
        groups[place, value].add(item)
    return [groups[key] for key in sorted(groups)]


@pytest.fixture(scope="module", params=["dense", "sparse"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    sparse = request.param == "sparse"
    frame = made_events(num_users=30, num_items=60, seed=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_table, "DENSE_SHARE", 1.1 if sparse else 0.0)
        yield SequenceDataModule(str(prepared(tmp_path_factory.mktemp("graph") / "set", frame).path), eval_batch_size=7)


def vectors_file(data: SequenceDataModule, folder: Path) -> tuple[str, np.ndarray]:
    """Two items have none. The second is (V, 5), zeros for them."""
    made = np.random.default_rng(1).normal(size=(data.spec.num_rows, 5)).astype(np.float32)
    made[[0, 3, 7]] = 0.0
    kept = [i for i in range(1, data.spec.num_rows) if i not in (3, 7)]
    raw = data.processed.item_ids_raw
    frame = pl.DataFrame({"item_id": [raw[i - 1] for i in kept], "vector": [made[i].tolist() for i in kept]})
    frame.write_parquet(folder / "vectors.parquet")
    return str(folder / "vectors.parquet"), made


@pytest.mark.parametrize("budgets", [([7, 2, 1], []), ([5, 1], [3, 1]), ([1, 1, 1], [2, 2, 2]), ([30], [])])
@pytest.mark.parametrize("with_vectors", [False, True])
def test_equals_a_loop_over_dicts(
    data: SequenceDataModule, budgets: tuple[list[int], list[int]], with_vectors: bool, tmp_path: Path
) -> None:
    file, vectors = vectors_file(data, tmp_path) if with_vectors else (None, None)
    model = counted(TransitionGraph(budgets[0], budgets[1], vectors=file), data)
    edges: dict[int, Counter[int]] = defaultdict(Counter)
    for history in slow.training_histories(data):
        for a, b in zip(history, history[1:], strict=False):
            edges[a][b] += 1
    scores, reached = test_scores(model, data), 0
    for row, (_, history) in zip(scores, slow.test_cases(data), strict=True):
        expected = in_order(edges, history, [b for b in budgets if b], 0.5, vectors)
        values = np.unique(np.round(row[1:][row[1:] > 0], 4))[::-1]
        got = [set((np.flatnonzero(np.abs(row[1:] - value) < 2e-4) + 1).tolist()) for value in values]
        assert got == expected
        assert (row[1:] > 0).sum() == sum(map(len, expected)), "all others are tied behind them"
        reached += len(expected)
    assert reached > 30


def test_a_history_of_one_item_and_an_item_without_transitions(data: SequenceDataModule) -> None:
    model = counted(TransitionGraph([2], [2]), data)
    (batch, *_) = data.test_dataloader()
    query = model.query(batch)
    assert query.shape == (len(batch), 2) and (query[:, 0] > 0).all()
    one = model.score(torch.tensor([[int(query[0, 0]), 0], [0, 0]]))
    assert one[0].max() > 0 and (one[1] == 0).all()


def test_one_ring_alone_is_the_order_of_markov(data: SequenceDataModule) -> None:
    """Without back-off, whatever the budget."""
    markov = test_scores(counted(Markov(0.0), data), data)[:, 1:]
    ring = test_scores(counted(TransitionGraph([10]), data), data)[:, 1:]
    for one, other in zip(markov, ring, strict=True):
        assert (np.unique(one, return_inverse=True)[1] == np.unique(np.round(other, 5), return_inverse=True)[1]).all()


def test_counts_alone_change_nothing_by_their_weight(data: SequenceDataModule) -> None:
    one, other = (test_scores(counted(TransitionGraph(count_weight=w), data), data)[:, 1:] for w in (0.5, 0.2))
    assert (np.argsort(one, kind="stable") == np.argsort(other, kind="stable")).all() and not (one == other).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"last": []}, "last must hold one to 3 budgets"),
        ({"last": [1, 2, 3, 4]}, "last must hold one to 3"),
        ({"second_last": [0]}, "second_last"),
        ({"count_weight": 2.0}, "count_weight must be at .*most 1"),
    ],
)
def test_settings_that_can_not_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        TransitionGraph(**settings)
