"""Probabilities of clicks on chosen items, from a history and a list: `Predictor.score` of a model of clicks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.data.batches.shown_dataset import seen_before
from recsys_lab.models.tasks.click_through import ClickThrough
from recsys_lab.serve.histories import typed
from recsys_lab.words import PAD_ID, RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.serve.predictor import Predictor


def click_scores(
    predictor: Predictor, histories: Any, items: Sequence[Any], shown: Mapping[str, Any] | None = None, **asked: Any
) -> pl.DataFrame:
    """The probability that each user clicks on each item, were it shown.

    Args:
        items: raw ids, the same for every user.
        shown: fields of the shown items, by name: a value for each item. What is not given is what the task's `served`
            says, or missing.
        asked: `times`, `fields` and `query_time` of `Predictor.recommend`.

    Returns:
        A frame: `user`, `item_id`, `score` (the probability), `source`: `model`. A user without a known event has an
        empty history.

    Raises:
        RecsysLabError: for an item or a field that the model does not know.
    """
    model: Any = predictor.model
    task, device = task_of(model), model.device
    ids = torch.tensor([predictor.item_ids.row(raw) for raw in items], dtype=torch.int64, device=device)
    trained = torch.where(task.trained[ids], ids, PAD_ID)
    fields = shown_fields(predictor, len(items), dict(shown or {}))
    questions = predictor.questions(histories, **asked)
    users = len(questions.histories)
    found = torch.zeros(users, len(items), dtype=torch.float64)
    for rows, batch in questions.batches(np.arange(users), predictor.spec.max_length, predictor.batch_size, device):
        found[torch.from_numpy(rows)] = _probabilities(model, _with_list(batch, ids, trained, fields)).cpu()
    empty = np.flatnonzero(questions.histories.known == 0)
    if len(empty):
        found[torch.from_numpy(empty)] = _probabilities(
            model, _with_list(_nothing(predictor, device), ids, trained, fields)
        ).cpu()
    everybody = np.arange(users)
    return pl.DataFrame(
        {
            "user": questions.histories.users.gather(np.repeat(everybody, len(items))),
            "item_id": predictor.item_ids.at(np.tile([predictor.item_ids.row(raw) for raw in items], users)),
            "score": found.numpy().ravel(),
            "source": ["model"] * (users * len(items)),
        }
    )


def task_of(model: Any) -> ClickThrough:
    """The task of clicks that a model has, alone or beside the next item.

    Raises:
        RecsysLabError: when it has none.
    """
    for task in getattr(model.task, "each", [model.task]):
        if isinstance(task, ClickThrough):
            return task
    raise RecsysLabError(f"this model's task is {type(model.task).__name__}, which predicts no clicks: score asks it")


def shown_fields(predictor: Predictor, number: int, given: dict[str, Any]) -> dict[str, Tensor]:
    """(C, ...) of each field of shown items that the model is fed."""
    known = {one.name: one for one in predictor.fields.of("shown")}
    served: Mapping[str, Any] = task_of(predictor.model).served
    for name, values in given.items():
        if name not in known:
            listed = ", ".join(known) or "none"
            raise RecsysLabError(f"shown: {name!r} is no field of shown items that the model is fed; known: {listed}")
        if len(values) != number:
            raise RecsysLabError(f"shown[{name!r}] has {len(values)} values, and there are {number} items")
    found = {}
    for name, field in known.items():
        values = given.get(name, [served.get(name)] * number)
        found[name] = field.tensor(typed(field, list(values))).to(predictor.model.device)
    return found


def _with_list(batch: Batch, ids: Tensor, trained: Tensor, fields: dict[str, Tensor]) -> Batch:
    rows = len(batch)
    return replace(
        batch,
        shown_ids=trained.expand(rows, -1),
        shown_before=seen_before(batch, ids.expand(rows, -1)),
        shown={name: values.expand(rows, *values.shape) for name, values in fields.items()},
    )


def _nothing(predictor: Predictor, device: Any) -> Batch:
    """One row with the history of a user who had no event yet."""
    one = torch.zeros(1, 1, dtype=torch.int64, device=device)
    events = predictor.reader.read([[predictor.item_ids.at(np.array([1]))[0]]], None, None)
    fields = {
        name: column.take(np.zeros((1, 1), int), np.zeros((1, 1), bool))
        for name, column in events.events.fields.items()
    }
    users = {
        name: column.take(np.zeros(1, int), np.ones(1, bool)) for name, column in events.events.user_fields.items()
    }
    return Batch(
        item_ids=one,
        target_ids=one[0],
        valid_mask=one == 0,
        timestamps=one,
        lengths=one[0] + 1,
        user_index=one[0] - 1,
        event={name: column.to(device) for name, column in fields.items()},
        user={name: column.to(device) for name, column in users.items()},
        query_time=one[0],
    )


def _probabilities(model: Any, batch: Batch) -> Tensor:
    with torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
        found: Tensor = task_of(model).probabilities(model.evaluation_state(batch), batch)
        return found
