"""Labels for anybody: what a model of the task `SequenceLabels`, alone or with others, says of histories of raw ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch

from recsys_lab.contracts import Label, Task
from recsys_lab.models.tasks import MultiTask, SequenceLabels
from recsys_lab.serve.predictor import Predictor
from recsys_lab.words import RecsysLabError


def predict_labels(predictor: Predictor, histories: Any, field: str | None = None, **asked: Any) -> pl.DataFrame:
    """The label of each user's next event; of a model of `of: event`, that of the newest event, whose own label is not
    looked at.

    Args:
        predictor: of the run.
        histories: as for `Predictor.recommend`.
        field: which label, where the model predicts several.
        asked: `times`, `fields` and `query_time` of `Predictor.recommend`.

    Returns:
        Of classes a frame of `user`, `label` and `probability`, a row for each class, the most likely first. Of numbers
        a frame of `user` and `value`. A user of whom no event is known has nulls.

    Raises:
        RecsysLabError: where the model predicts no such label; and as `Predictor.recommend`.
    """
    task = _task_of(predictor.model.task, field)
    label = task.label
    assert label is not None
    if task.samples.with_target_event:
        predictor.reader.late = (task.field,)
    questions = predictor.questions(histories, **asked)
    width = len(label.values) if task.is_class else 1
    found = torch.full((len(questions.histories), width), torch.nan, dtype=torch.float64)
    users, device = np.arange(len(found)), predictor.model.device
    for rows, batch in questions.batches(users, predictor.spec.max_length, predictor.batch_size, device):
        query = predictor.query(batch)
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            output = task.head(query.float()).double().cpu()
        found[torch.from_numpy(rows)] = output.softmax(1) if task.is_class else output * label.std + label.mean
    return _frame(questions.histories.users, found, label, task.is_class)


def _frame(users: pl.Series, found: torch.Tensor, label: Label, is_class: bool) -> pl.DataFrame:
    if not is_class:
        return pl.DataFrame({"user": users, "value": found[:, 0].numpy()}).with_columns(pl.col("value").fill_nan(None))
    probability, place = found.sort(dim=1, descending=True, stable=True)
    owner = np.repeat(np.arange(len(found)), found.shape[1])
    frame = pl.DataFrame(
        {
            "user": users.gather(owner),
            "label": pl.Series(label.values).gather(place.flatten().numpy()),
            "probability": probability.flatten().numpy(),
        }
    )
    return frame.with_columns(pl.col("probability").fill_nan(None))


def _task_of(task: Task, field: str | None) -> SequenceLabels:
    there = [one for one in (task.each if isinstance(task, MultiTask) else [task]) if isinstance(one, SequenceLabels)]
    if not there:
        raise RecsysLabError(f"this model's task is {type(task).__name__}, which predicts no labels: recommend asks it")
    named = [one for one in there if field in (None, one.field)]
    if len(named) != 1:
        known = ", ".join(one.field for one in there)
        raise RecsysLabError(f"field={field!r}: the model predicts {known}; name one of them")
    return named[0]
