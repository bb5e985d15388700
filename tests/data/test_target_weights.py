"""Weights of targets: by type, by a column, by age."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shop_with_types import HOUR, made_shop, of, types_of

from recsys_lab.contracts import Batch
from recsys_lab.data.event_types import TargetWeights
from recsys_lab.losses import CrossEntropy
from recsys_lab.models.tasks.next_item import NextItem
from recsys_lab.words import RecsysLabError


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shop(tmp_path_factory.mktemp("data"))


def test_weights_by_hand(shop: Path) -> None:
    weights = TargetWeights(column="worth", half_life="2h", types={"buy": 3.0, "cart": 0.0})
    data = of(shop, weights=weights)
    times, stop = np.asarray(data.processed.timestamps), data.split_result.train_stop
    newest = max(times[s - 1] for s in stop)
    worth = np.asarray(data.processed.field_array("worth"))
    seen = 0
    for windows in data.train_dataloader().sampler:
        batch = data.train_dataloader().dataset[windows]
        start = torch.from_numpy(data.train_windows.start[windows])
        assert batch.target_weights is not None and batch.target_weights.shape == batch.target_ids.shape
        assert torch.equal(batch.target_weights > 0, batch.target_ids != 0)
        for row, column in (batch.target_ids != 0).nonzero().tolist():
            p = int(start[row]) + column + 1
            factor = {"buy": 3.0, "view": 1.0}[types_of(data, [p])[0]]
            expected = factor * (1.0 if np.isnan(worth[p]) else worth[p]) * 0.5 ** ((newest - times[p]) / (2 * HOUR))
            assert float(batch.target_weights[row, column]) == pytest.approx(expected, rel=1e-5)
            seen += 1
    assert seen


def test_the_loss_is_the_weighted_mean() -> None:
    batch = Batch(
        item_ids=torch.tensor([[1, 2, 3]]),
        target_ids=torch.tensor([[2, 0, 1]]),
        valid_mask=torch.ones(1, 3, dtype=torch.bool),
        timestamps=torch.zeros(1, 3, dtype=torch.int64),
        lengths=torch.tensor([3]),
        user_index=torch.tensor([0]),
        target_weights=torch.tensor([[2.0, 0.0, 0.5]]),
    )
    from loss_scorers import TableScorer

    from recsys_lab.contracts import State

    state, scorer = State(None, torch.randn(1, 3, 4)), TableScorer.random(5, 4)
    mean, total = NextItem().loss(state, batch, scorer, None)
    each = [CrossEntropy()(state.history[0, [p]], batch.target_ids[0, [p]], scorer) for p in (0, 2)]  # type: ignore[index]
    torch.testing.assert_close(mean, (2 * each[0] + 0.5 * each[1]) / 2.5)
    assert float(total) == 2.5
    plain = dataclasses.replace(batch, target_weights=None)
    assert NextItem().loss(state, plain, scorer, None)[1] == 2


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"column": "worh"}, "--data.weights.column: 'worh' is no field of the data; numbers of the events: worth"),
        ({"column": "session_id"}, "'session_id' is categorical, of the events.*--fields session_id=numeric, if"),
        ({"types": {"bye": 1.0}}, "--data.weights.types: no event is of type 'bye'"),
        ({"types": {"buy": 0.0, "view": 0.0, "cart": 0.0}}, "every event of the training part has the weight 0"),
    ],
)
def test_weights_that_can_not_be(weights: dict[str, Any], text: str, shop: Path) -> None:
    with pytest.raises(RecsysLabError, match=text):
        assert of(shop, weights=TargetWeights(**weights)).rules


@pytest.mark.parametrize("given", [{"half_life": "soon"}, {"types": {"buy": -1.0}}, {}])
def test_weights_are_checked_when_they_are_made(given: dict[str, Any]) -> None:
    with pytest.raises(RecsysLabError, match="half_life|types"):
        TargetWeights(**given)
