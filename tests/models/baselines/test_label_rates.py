"""Baselines of labels, by hand on four users; and the line for what they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_data import prepared

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models.baselines import ItemMajorityLabel, MajorityLabel, PreviousLabel
from recsys_lab.models.tasks import NextItem, SequenceLabels
from recsys_lab.words import ArgumentError, RecsysLabError

EVENTS = [  # user, item, type, seconds: the last two of each user are for validation and test
    ("a", [1, 2, 1, 2, 1, 1], "xxyxxy", [1, 2, 3, None, 5, 6]),
    ("b", [2, 2, 1, 2, 2], "yxyyx", [7, 8, 9, 10, 11]),
    ("c", [1, 1, 2], "yxx", [1, 1, 1]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        (user, item, 100 * place, kind, number)
        for user, items, kinds, numbers in EVENTS
        for place, (item, kind, number) in enumerate(zip(items, kinds, numbers, strict=True))
    ]
    names = ["user_id", "item_id", "timestamp", "event_type", "seconds"]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("seconds").cast(pl.Float64))
    return prepared(tmp_path_factory.mktemp("rates") / "d", frame).path


def counted(cls: Any, folder: Path, task: SequenceLabels, **settings: Any) -> tuple[Any, Any]:
    """The model, and one batch of the test: a row for each user."""
    data = SequenceDataModule(str(folder), fields=[], max_length=9)
    data.give(task.samples)
    model = cls(task=task, **settings)
    model._build(data.spec)
    model.count(data)
    (batch,) = list(data.test_dataloader())
    return model, batch


# training targets, all events but a user's first and last two: a: (1 x) 2 x, 1 y, 2 x; b: (2 y) 2 x, 1 y; none of c
def test_majority(folder: Path) -> None:
    model, batch = counted(MajorityLabel, folder, SequenceLabels("event_type"), prior=0)
    torch.testing.assert_close(model.query(batch).exp(), torch.tensor([[3 / 5, 2 / 5]]).expand(3, 2))


def test_what_followed_the_last_label(folder: Path) -> None:
    """x was followed by x, y, and in b y; y by x twice."""
    for of in ("next", "event"):
        model, batch = counted(PreviousLabel, folder, SequenceLabels("event_type", of), prior=0)  # type: ignore[arg-type]
        after = {"x": [1 / 3, 2 / 3], "y": [1.0, 0.0]}
        expected = torch.tensor([after[kinds[-2]] for _, _, kinds, _ in EVENTS])
        torch.testing.assert_close(model.query(batch).exp(), expected)


def test_the_rates_of_the_item(folder: Path) -> None:
    """Of the event itself: 2 came with x three times, 1 with y twice. Of the next: after 1 x twice, after 2 y, y, x."""
    model, batch = counted(ItemMajorityLabel, folder, SequenceLabels("event_type", "event"), prior=0)
    own = {1: [0.0, 1.0], 2: [1.0, 0.0]}
    expected = torch.tensor([own[items[-1]] for _, items, _, _ in EVENTS])
    torch.testing.assert_close(model.query(batch).exp(), expected)
    model, batch = counted(ItemMajorityLabel, folder, SequenceLabels("event_type"), prior=0)
    after = {1: [1.0, 0.0], 2: [1 / 3, 2 / 3]}
    expected = torch.tensor([after[items[-2]] for _, items, _, _ in EVENTS])
    torch.testing.assert_close(model.query(batch).exp(), expected)


def test_a_prior_draws_to_the_rates_of_all(folder: Path) -> None:
    model, batch = counted(ItemMajorityLabel, folder, SequenceLabels("event_type", "event"), prior=10)
    overall = np.array([4 / 7, 3 / 7])  # (3 + 1) / (5 + 2)
    expected = (np.array([0, 2]) + 10 * overall) / 12
    np.testing.assert_allclose(model.query(batch)[0].exp().numpy(), expected, rtol=1e-5)


def test_numbers(folder: Path) -> None:
    task = SequenceLabels("seconds")
    model, batch = counted(PreviousLabel, folder, task)
    found = model.task.evaluate(_state(model, batch), batch, None)["output"]
    np.testing.assert_allclose(found.numpy(), [5, 10, 1], rtol=1e-5)
    model, batch = counted(MajorityLabel, folder, task, prior=0)
    found = model.task.evaluate(_state(model, batch), batch, None)["output"]
    np.testing.assert_allclose(found.numpy(), [(2 + 3 + 8 + 9) / 4] * 3, rtol=1e-5)
    model, batch = counted(ItemMajorityLabel, folder, SequenceLabels("seconds", "event"), prior=0)
    found = model.task.evaluate(_state(model, batch), batch, None)["output"]
    np.testing.assert_allclose(found.numpy(), [(3 + 9) / 2, (2 + 8) / 2, (2 + 8) / 2], rtol=1e-5)


def _state(model: Any, batch: Any) -> Any:
    from recsys_lab.contracts import State

    return State(model.query(batch))


def test_they_rank_nothing_and_take_no_other_task(folder: Path) -> None:
    with pytest.raises(ArgumentError, match="MajorityLabel: task must be SequenceLabels, not NextItem"):
        MajorityLabel(task=NextItem())
    model, batch = counted(MajorityLabel, folder, SequenceLabels("event_type"))
    with pytest.raises(RecsysLabError, match="MajorityLabel predicts labels, and ranks no items"):
        model.score(model.query(batch))
