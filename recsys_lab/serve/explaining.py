"""Why an item stands in somebody's list: what each event of the history, and each field, adds to its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch

from recsys_lab.contracts import Batch
from recsys_lab.diagnose.explain.asked_model import AskedModel, event_embedding
from recsys_lab.diagnose.explain.attribution import (
    CAPTUM,
    METHODS,
    Attribution,
    Method,
    attribute,
    fields_left_out,
    has_captum,
)
from recsys_lab.serve.histories import USER_FIELD, Histories
from recsys_lab.serve.predictor import Predictor
from recsys_lab.words import RecsysLabError

DEFAULT: tuple[Method, ...] = ("attention", "integrated_gradients", "leave_one_out")


@torch.inference_mode(False)
@torch.enable_grad()
def explain(
    predictor: Predictor,
    history: Any,
    *,
    item: Any = None,
    methods: Method | Sequence[Method] | None = None,
    titles: pl.DataFrame | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """Explains one item for one user.

    Args:
        predictor: of a trained encoder.
        history: raw item ids, oldest first, also as the only list of a list; or a frame of one user's events, as
            `Predictor.recommend` takes it.
        item: the id of the item; None = the first that the user is recommended.
        methods: of `METHODS`, one or several; None = `DEFAULT`, without integrated gradients where captum is not
            installed.
        titles: a frame of `item_id` and `title`, for names beside the ids: `recsys_lab.serve.run_data.titles` reads
            those of a run's data.
        asked: `times`, `fields`, `query_time` and `target_fields` of `Predictor.recommend`. Beside a flat history,
            `times` and each of `fields` may be flat, too.

    Returns:
        Plain data, ready for JSON:

        - `user` (None where plain item ids were given), `model`; `item`: its `item_id`, `title`, `score`, `rank` among
          all candidates, those of the history too, `probability` among them, `log_probability`, and `expected`: what
          that is with stand-ins for all events.
        - `events`, the newest first: `ago` (1 = the newest), `item_id`, `title`, `timestamp`, and for each method what
          the event adds: nats of log-probability, or of `attention` a share. `parts`: of integrated gradients, by part.
        - `methods`: for each one asked `note`, and of integrated gradients `gap` and `steps`; `events` is false where
          the model has nothing to say by it.
        - `fields`: `leave_one_out` and `integrated_gradients` of the item's id and of each field, over all events.
        - `notes`: what was left out.

    Raises:
        RecsysLabError: for a model that counts or does not rank, an empty history or one without any known item, an
            item that the model does not know or can't score, and a method that is not installed or not known.
    """
    chosen = _checked(methods)
    if titles is not None and (missing := {"item_id", "title"} - set(titles.columns)):
        raise RecsysLabError(f"titles has no column {min(missing)!r}: it is a frame of item_id and title")
    predictor.model.check_ranks()
    event_embedding(predictor.model)
    histories = history if hasattr(history, "columns") else _only_one(history)
    if histories is not history:  # it is one flat list, and so may be what goes with it
        fields = asked.get("fields") or {}
        of_events = {name: _only_one(values) for name, values in fields.items() if not name.startswith(USER_FIELD)}
        asked |= {"fields": {**fields, **of_events}} if of_events else {}
        asked |= {"times": _only_one(asked["times"])} if asked.get("times") is not None else {}
    batch, read = _batch(predictor, histories, asked)
    first = item is None
    if item is None:
        lists = predictor.recommend(histories, 1, **asked)
        item = lists["item_id"][0]
        if item is None:
            raise RecsysLabError(f"nothing is recommended, so there is nothing to explain: {lists['note'][0]}")
    target = predictor.item_ids.row(item)
    if not predictor.can_be_scored[target]:
        raise RecsysLabError(f"the item {item!r} has no training event: the model has learned no score of it")
    model = AskedModel(predictor.model, batch, target, predictor.loaded.item_counts, predictor.is_trained)
    found = {method: attribute(model, method) for method in chosen}
    names = {} if titles is None else dict(zip(titles["item_id"].to_list(), titles["title"].to_list(), strict=True))
    raw = predictor.item_ids.at(np.array([target]))[0]
    return {
        "user": read.users[0] if hasattr(history, "columns") else None,
        "model": type(predictor.model).__name__,
        "item": {"item_id": raw, "title": names.get(raw), "is_first_of_list": first, **_standing(model)},
        "events": _events(predictor, batch, found, names, read.has_times),
        "methods": {method: _about(one) for method, one in found.items()},
        "fields": _fields(model, found),
        "notes": _notes(read, model, methods),
    }


def _only_one(history: Any) -> Any:
    """Histories of one user: `recommend` takes a list of them, so that is understood here too."""
    lists = (list, tuple, np.ndarray, pl.Series)
    return history if isinstance(history, list | tuple) and history and isinstance(history[0], lists) else [history]


def _checked(methods: Method | Sequence[Method] | None) -> list[Method]:
    if methods is None:
        return [method for method in DEFAULT if method != "integrated_gradients" or has_captum()]
    methods = [methods] if isinstance(methods, str) else methods
    for method in methods:
        if method not in METHODS:
            raise RecsysLabError(f"methods: {method!r} is none of them: {', '.join(METHODS)}")
    if not methods:
        raise RecsysLabError(f"methods is empty: name some of {', '.join(METHODS)}")
    return list(dict.fromkeys(methods))


def _batch(predictor: Predictor, histories: Any, asked: dict[str, Any]) -> tuple[Batch, Histories]:
    """The window of the only user, and what was read."""
    questions = predictor.questions(histories, **asked)
    read = questions.histories
    if len(read) > 1:
        raise RecsysLabError(f"an explanation is of one user, and there are {len(read)} in the history")
    if not len(read) or not read.given[0]:
        raise RecsysLabError("the history is empty, and an explanation is of its events: give at least one item")
    if not read.known[0]:
        given = int(read.given[0])
        first = predictor.item_ids.raw[0]
        raise RecsysLabError(
            f"none of the history's {given:,} events is of an item that the model knows ({first!r}, ..)"
        )
    ((_, batch),) = questions.batches(np.arange(1), predictor.spec.max_length, 1, predictor.model.device)
    return batch, read


def _standing(asked: AskedModel) -> dict[str, Any]:
    """How the item stands among the candidates."""
    model = asked.model
    with torch.no_grad():
        scores = model.score(model.query(asked.batch))[0]
    own = scores[asked.item]
    above = int((scores[asked.is_candidate] > own).sum())
    return {
        "score": float(own),
        "rank": above + 1,
        "probability": float(np.exp(asked.whole)),
        "log_probability": asked.whole,
        "expected": asked.nothing,
    }


def _events(
    predictor: Predictor, batch: Batch, found: dict[Method, Attribution], names: dict[Any, str], has_times: bool
) -> list[dict[str, Any]]:
    ids = predictor.item_ids.at(batch.item_ids[0].numpy(force=True)).to_list()
    times, rows = batch.timestamps[0].tolist(), []
    parts = next((one.parts for one in found.values() if one.parts), {})
    for place in reversed(range(len(ids))):
        row: dict[str, Any] = {"ago": len(ids) - place, "item_id": ids[place], "title": names.get(ids[place])}
        row["timestamp"] = times[place] if has_times else None
        row |= {name: float(one.events[place]) for name, one in found.items() if one.events is not None}
        if parts:
            row["parts"] = {name: float(values[place]) for name, values in parts.items()}
        rows.append(row)
    return rows


def _about(one: Attribution) -> dict[str, Any]:
    about: dict[str, Any] = {"events": one.events is not None, "note": one.note}
    if one.events is not None:
        about["sum"] = float(one.events.sum())
    return about if one.gap is None else about | {"gap": one.gap, "steps": one.steps}


def _fields(asked: AskedModel, found: dict[Method, Attribution]) -> dict[str, dict[str, float]]:
    fields = {}
    if left_out := fields_left_out(asked):
        fields["leave_one_out"] = left_out
    for name, one in found.items():
        if one.parts:
            fields[name] = {part: float(values.sum()) for part, values in one.parts.items()}
    return {name: fields[name] for name in METHODS if name in fields}


def _notes(read: Histories, asked: AskedModel, methods: Any) -> list[str]:
    notes = []
    given, known = int(read.given[0]), int(read.known[0])
    if known < given:
        notes.append(f"{given - known:,} of the {given:,} events are of items that the model does not know")
    if asked.length < known:
        notes.append(f"the model sees the newest {asked.length:,} of {known:,} events")
    if methods is None and not has_captum():
        notes.append(CAPTUM)
    return notes
