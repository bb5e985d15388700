"""UserState: what a predictor knows of one user, an event at a time. The events are what is kept; what the model goes
on from is a cache, which another model makes anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys_lab.contracts import Batch, State
from recsys_lab.data.batches.gather import Events
from recsys_lab.serve.histories import Histories, seconds_of
from recsys_lab.serve.questions import Questions
from recsys_lab.words import ITEM_ID, PAD_ID, TIMESTAMP, RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.serve.predictor import Predictor


@dataclass(frozen=True)
class Event:
    """item: raw id. seconds: since 1970; None = not given. fields: raw values by name. row: of the item in the model's
    table; `PAD_ID` where it does not know it."""

    item: Any
    seconds: int | None
    fields: Mapping[str, Any]
    row: int = PAD_ID


@dataclass(frozen=True)
class UserState:
    """user: as the caller names it. user_fields: raw values by key (`user.age`).

    log: events, shared by the states of one user. number: how many of them are this state's. known: how many of these
    have an item that the model knows.
    memory: what the model goes on from, with the query of all known events; None = the newest window is encoded.
    model: that `memory` is of.
    """

    user: Any
    user_fields: Mapping[str, Any]
    log: list[Event]
    number: int
    known: int
    memory: State | None
    model: Any

    @property
    def events(self) -> list[Event]:
        return self.log[: self.number]


def start(predictor: Predictor, user: Any, user_fields: Mapping[str, Any]) -> UserState:
    """See `Predictor.start`."""
    predictor.reader.check_names(user_fields, "user")
    model = predictor.model
    waits = model.uses_query_time or bool(model.uses_target_fields)  # what is asked changes the state itself
    waits |= predictor.reader.encodes_sessions  # what an event means depends on the one before
    memory = None if waits else model.start(1)
    return UserState(user, dict(user_fields), [], 0, 0, memory, model)


def step(predictor: Predictor, state: UserState, event: Any) -> UserState:
    """See `Predictor.step`."""
    state = of_model(predictor, state)
    one = _event(predictor, state, event)
    row = int(predictor.item_ids.rows([one.item], "events")[0])
    batch = None if row == PAD_ID or state.memory is None else _batch(predictor, state, one)  # may refuse its fields
    log = state.log if len(state.log) == state.number else state.events  # another event followed that state before
    log.append(replace(one, row=row))
    state = replace(state, log=log, number=state.number + 1)
    if row == PAD_ID:
        return state
    memory = state.memory
    if batch is not None and memory is not None:
        with torch.inference_mode():
            memory = predictor.model.step(memory, batch)
    return replace(state, known=state.known + 1, memory=memory)


def of_model(predictor: Predictor, state: UserState) -> UserState:
    """The state as this predictor's model has it: made anew from the events, where another one's made it."""
    if state.model is predictor.model:
        return state
    own = start(predictor, state.user, state.user_fields)
    for event in state.events:
        own = step(predictor, own, event)
    return own


def questions(predictor: Predictor, state: UserState, **asked: Any) -> tuple[Questions, Tensor | None]:
    """The user's events as `recommend` takes them, and what the scores depend on, where it is there already."""
    events = state.events
    # what the scores depend on is there: only the items are looked at
    if state.memory is not None and not asked and not predictor.rules.need_events:
        rows = np.array([event.row for event in events if event.row != PAD_ID], dtype=np.int32)
        flat = Events(rows, np.arange(len(rows)), np.array([0, len(rows)]))
        read = Histories(pl.Series([state.user]), flat, np.array([len(events)]), has_times=False)
        return Questions(read, None, {}), state.memory.query
    has_times = bool(events) and events[0].seconds is not None
    fields: dict[str, Any] = {
        key: [[event.fields.get(key) for event in events]] for key in predictor.reader.names("event")
    }
    found = predictor.questions(
        {state.user: [event.item for event in events]},
        times=[[event.seconds for event in events]] if has_times else None,
        fields=fields | {key: [value] for key, value in state.user_fields.items()},
        **asked,
    )
    return found, None if state.memory is None else state.memory.query


def _event(predictor: Predictor, state: UserState, event: Any) -> Event:
    """What the caller gave: an item's id, or a mapping with `item_id`, `timestamp` and fields."""
    if isinstance(event, Event):
        return event
    given = dict(event) if isinstance(event, Mapping) else {ITEM_ID: event}
    if ITEM_ID not in given:
        raise RecsysLabError(f"an event is an item's id, or a dict with {ITEM_ID!r}: this one has {', '.join(given)}")
    item, time = given.pop(ITEM_ID), given.pop(TIMESTAMP, None)
    predictor.reader.check_names(given, "event", "event")
    seconds = None if time is None else int(seconds_of(pl.Series([time]), TIMESTAMP)[0])
    before = state.log[state.number - 1] if state.number else None
    if before is not None and (before.seconds is None) != (seconds is None):
        raise RecsysLabError(f"events of one user have a {TIMESTAMP} each, or none has: user {state.user!r} has both")
    if before is not None and seconds is not None and before.seconds is not None and seconds < before.seconds:
        raise RecsysLabError(
            f"{TIMESTAMP} {seconds} of user {state.user!r} is before its last event: events go forward"
        )
    return Event(item, seconds, given)


def _batch(predictor: Predictor, state: UserState, event: Event) -> Batch:
    """The window of one event, at its place in the user's history."""
    fields: dict[str, Any] = {key: [[value]] for key, value in event.fields.items()}
    fields |= {key: [value] for key, value in state.user_fields.items()}
    read = predictor.reader.read([[event.item]], None, fields)
    asked = Questions.of(read, predictor.fields)
    ((_, batch),) = asked.batches(np.arange(1), 1, 1, predictor.model.device)
    seconds = event.seconds if predictor.spec.has_timestamps else None
    seconds = state.known * predictor.reader.gap if seconds is None else seconds
    return replace(batch, timestamps=torch.full_like(batch.timestamps, seconds))
