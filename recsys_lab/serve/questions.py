"""Questions: histories, and what is known of the events to predict; as the batches that a model is asked with."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.data.batches.event_rules import Live
from recsys_lab.data.batches.gather import ExcludeSeen, WindowDataset
from recsys_lab.data.batches.samplers import EvaluationBatches
from recsys_lab.data.batches.windows import evaluation_windows
from recsys_lab.data.fitting.fitted_fields import FittedFields
from recsys_lab.serve.histories import Histories, seconds_of, typed
from recsys_lab.serve.list_rules import without_unavailable
from recsys_lab.words import EVENT_TYPE, RecsysLabError, did_you_mean

if TYPE_CHECKING:
    from recsys_lab.serve.predictor import Predictor


@dataclass(frozen=True)
class Questions:
    """stops_at_sessions: windows reach back to where the session of the last event begins, and no further.
    seconds: (U,) when the lists are wanted; None = at the time of each last event. target: fields of the events to
    predict, (U, ...) each."""

    histories: Histories
    seconds: Tensor | None
    target: dict[str, Tensor]
    stops_at_sessions: bool = False

    @classmethod
    def of(
        cls,
        histories: Histories,
        fields: FittedFields,
        query_time: Any = None,
        target_fields: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> Questions:
        """See `Predictor.recommend`. training: `DataSpec.training` of the model: the one type of event that it was
        trained to predict is what it is asked for, and windows stop where its own did."""
        users, seconds, target = len(histories), None, {}
        if query_time is not None:
            is_one = isinstance(query_time, str) or not hasattr(query_time, "__len__")
            given = pl.Series([query_time] * users if is_one else list(query_time))
            _check_number("query_time", len(given), users)
            seconds = torch.from_numpy(seconds_of(given, "query_time"))
            _check_before(histories, seconds.numpy())
        known = {one.name: one for one in fields.of("event") if one.known_at == "query"}
        training, wanted = training or {}, dict(target_fields or {})
        types = training.get("target_types") or []
        if len(types) == 1 and EVENT_TYPE in known:
            wanted.setdefault(EVENT_TYPE, types * users)
        for name, values in wanted.items():
            if name not in known:
                listed = ", ".join(known) or "none"
                raise RecsysLabError(f"target_fields: {name!r} is not known of the event to predict; known: {listed}")
            target[name] = known[name].tensor(typed(known[name], values))
            _check_number(f"target_fields[{name!r}]", len(target[name]), users)
        return cls(histories, seconds, target, "window_within" in training)

    def batches(
        self, users: np.ndarray, max_length: int, batch_size: int, device: Any
    ) -> Iterator[tuple[np.ndarray, Batch]]:
        """The newest windows of those of `users` (n,) who have a known event: their places in `users`, and the batch,
        with their whole histories as seen items, which some models read. Users are of nobody that was trained on:
        `user_index` is -1."""
        for places, batch, _ in self.batches_of_lists(users, max_length, batch_size, device):
            yield places, batch

    def batches_of_lists(
        self,
        users: np.ndarray,
        max_length: int,
        batch_size: int,
        device: Any,
        hides: ExcludeSeen = "history",
        by_types: bool = False,
        live: Live | None = None,
    ) -> Iterator[tuple[np.ndarray, Batch, Batch]]:
        """As `batches`, and each batch once more, with what lists leave out as its seen items.

        Args:
            hides, by_types, live: what lists leave out: items of the user's events, of these alone whose type says so,
                and those that are not to be had when the list is wanted.
        """
        events = whole = self.histories.events
        if events.rules.hides is not None:
            whole = copy.copy(events)
            whole.rules = replace(events.rules, hides=None)
        some = np.flatnonzero(self.histories.known[users] > 0)
        who = users[some]
        start = events.rules.session_start if self.stops_at_sessions else None
        windows = evaluation_windows(events.offsets[:-1], who, events.offsets[1:][who], max_length, start)
        of_model = WindowDataset(whole, windows, "predict", "history")
        is_whole = hides == "history" and (not by_types or whole is events)
        of_lists = of_model if is_whole else WindowDataset(events if by_types else whole, windows, "predict", hides)
        for rows in [[0]] if len(who) == 1 else EvaluationBatches(windows.lengths, batch_size):
            batch, chosen = of_model[rows], torch.from_numpy(who[rows])
            batch = replace(
                batch,
                user_index=torch.full_like(batch.user_index, -1),
                query_time=batch.query_time if self.seconds is None else self.seconds[chosen],
                target={name: values[chosen] for name, values in self.target.items()},
            )
            shown = batch
            if not is_whole:
                other = of_lists[rows]
                shown = replace(batch, seen_ids=other.seen_ids, seen_offsets=other.seen_offsets)
            if live is not None:
                shown = without_unavailable(shown, live, self.moments(who[rows], batch.query_time))
            moved = batch if batch.item_ids.device == device else batch.to(device)
            yield some[rows], moved, moved if shown is batch else shown.to(device)

    def moments(self, users: np.ndarray, last: Tensor | None = None) -> np.ndarray:
        """(n,) users -> (n,) when their lists are wanted: as it was asked; else at the time of the last event; now,
        where nobody knows that."""
        if self.seconds is not None:
            return self.seconds.numpy()[users]
        if last is not None and self.histories.has_times:
            return last.numpy(force=True)
        return np.full(len(users), int(time.time()))


def target_values(given: Sequence[str], predictor: Predictor) -> dict[str, str]:
    """`NAME=VALUE` of the event to predict, as a command line has them -> name -> value.

    Raises:
        RecsysLabError: for what is not written so, for a field that the model does not read, and for a category that it
            was not trained with: in a word that somebody typed it is a slip.
    """
    found, read = {}, predictor.model.uses_target_fields
    known = {one.name: one for one in predictor.fields.of("event")}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise RecsysLabError(f"--target_fields {word}: write NAME=VALUE, with commas between several")
        if name not in read:
            listed = ", ".join(read) or "no field"
            way = "" if read else ". --model.target_fields of fit makes it read one: docs/behaviours.md"
            raise RecsysLabError(f"--target_fields {word}: of the event to predict the model reads {listed}{way}")
        one = known[name]
        if one.kind == "categorical" and not one.rows(pl.Series([value]))[0]:
            meant = did_you_mean(value, one.values.cast(pl.String).to_list())
            raise RecsysLabError(f"--target_fields {word}: the model was not trained with this value of {name}.{meant}")
        found[name] = value
    return found


def _check_before(histories: Histories, seconds: np.ndarray) -> None:
    """Raises RecsysLabError for an event after the question: what a model would answer from it is no forecast."""
    offsets = histories.events.offsets
    some = np.flatnonzero(np.diff(offsets) > 0)
    newest = np.asarray(histories.events.timestamps)[offsets[1:][some] - 1]
    late = np.flatnonzero(newest > seconds[some])
    if len(late):
        user = some[late[0]]
        raise RecsysLabError(
            f"user {histories.users[int(user)]} has an event at {newest[late[0]]}, after the query_time "
            f"{seconds[user]}: leave out what comes after the question"
        )


def _check_number(what: str, given: int, users: int) -> None:
    if given != users:
        raise RecsysLabError(f"{what} has {given} values, and there are {users} users: one, or one of each")


def reads_times(predictor: Predictor) -> bool:
    """Whether the scores of its model depend on when events were: found by asking it twice."""
    row = int(predictor.is_trained.nonzero()[0])
    history = predictor.item_ids.at(np.array([row, row, row])).to_list()
    names = predictor.model.uses_target_fields
    target = {f.name: f.tensor(typed(f, [None])) for f in predictor.fields.of("event") if f.name in names}
    queries = []
    for times in ([0, 1, 2], [0, 10**6, 10**8]):
        asked = Questions(predictor.reader.read([history], [times]), None, target)
        ((_, batch),) = asked.batches(np.arange(1), predictor.spec.max_length, 1, predictor.model.device)
        queries.append(predictor.query(batch))
    return not torch.equal(*queries)
