"""Index windows -> `Batch`; `samplers.py` says which windows go into which batch.

A batch is gathered with a handful of vectorised index operations for all its rows at once; there is no per-sample
Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from recsys_lab.contracts import Batch
from recsys_lab.data import histories
from recsys_lab.data.batches.event_rules import Rules
from recsys_lab.data.batches.field_columns import FieldColumn, view
from recsys_lab.data.batches.samplers import TrainBatches
from recsys_lab.data.batches.windows import Queries, Windows
from recsys_lab.words import EVENT_TYPE

ExcludeSeen = Literal["history", "window", "session", "none"]


class Events:
    """The flat event arrays of a processed data set, as the gather below wants them.

    Args:
        item_ids: (E,) int32. timestamps: (E,) int64. offsets: (U + 1,) int64.
        fields: name -> what the batches hold of each event field.
        query_fields: names of those that are known of the event to predict.
        user_fields: name -> the same of each field of the users.
        rules: which events may be targets, how much they count, and what ranking leaves out.
        labels: name -> the values of each event field that is to be predicted.
        late: names of `fields` of which the event before tells at each position: labels of the event itself.
    """

    def __init__(
        self,
        item_ids: np.ndarray,
        timestamps: np.ndarray,
        offsets: np.ndarray,
        fields: Mapping[str, FieldColumn] | None = None,
        query_fields: Sequence[str] = (),
        user_fields: Mapping[str, FieldColumn] | None = None,
        rules: Rules | None = None,
        labels: Mapping[str, FieldColumn] | None = None,
        late: Sequence[str] = (),
    ) -> None:
        # np.asarray of a memory map is a view of the same pages; indexing an np.memmap costs microseconds each time
        self.item_ids, self.timestamps = view(item_ids), view(timestamps)
        self.offsets, self.fields = np.asarray(offsets), dict(fields or {})
        self.query_fields, self.user_fields = tuple(query_fields), dict(user_fields or {})
        self.rules, self.labels, self.late = rules or Rules(), dict(labels or {}), frozenset(late)

    def of_inputs(self, position: np.ndarray, valid: np.ndarray) -> dict[str, torch.Tensor]:
        """Fields of the events of windows. position, valid: (B, L)."""
        found = {name: column.take(position, valid) for name, column in self.fields.items() if name not in self.late}
        if self.late:
            has_earlier = valid & (np.arange(valid.shape[1]) > 0)
            before = np.where(has_earlier, position - 1, 0)
            found |= {name: self.fields[name].take(before, has_earlier) for name in self.fields if name in self.late}
        return found

    def labels_of(self, position: np.ndarray, is_target: np.ndarray) -> dict[str, torch.Tensor]:
        """Fields that are to be predicted of these events."""
        return {name: column.take(position, is_target) for name, column in self.labels.items()}

    def of_targets(self, position: np.ndarray, is_target: np.ndarray) -> dict[str, torch.Tensor]:
        """Fields of events to predict that are known when the question is asked."""
        return {name: self.fields[name].take(position, is_target) for name in self.query_fields}

    def asked(self, rows: int) -> dict[str, torch.Tensor]:
        """What a prediction knows of the event to come: its type, where only one may be a target."""
        return {} if self.rules.asked is None else {EVENT_TYPE: self.rules.asked.expand(rows)}

    @cached_property
    def first_occurrence(self) -> np.ndarray:
        """(E,) bool: True where an event is the first of its (user, item) pair.

        The distinct items of any history prefix are then those events whose flag is set: no sorting per batch.
        """
        if not isinstance(self.item_ids, np.ndarray):
            return self.item_ids.derived("first_occurrence", "bool", _first_occurrence)
        return histories.is_first_occurrence(self.item_ids, self.offsets)

    def had_before(self, user: np.ndarray, position: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """(N,), (N,), (N, K) item ids -> (N, K) bool: is it among the events of `user[n]` before `position[n]`?"""
        if not isinstance(self.item_ids, np.ndarray):
            found: np.ndarray = self.item_ids.had_before(user, position, asked)
            return found
        return histories.had_before(self.item_ids, self.offsets, user, position, asked)


class WindowDataset(Dataset[Batch]):
    """Windows as training samples (targets at every counted position) or as evaluation samples (one target each).

    Args:
        events: the flat arrays.
        windows: W windows over them.
        mode: `train`, with the time of the window's last target as `query_time`; `evaluate` gives batches with (B,)
            targets, `query_time` and the seen items; `predict` the same with `PAD_ID` as target, no `Batch.target`
            and the time of the last event as `query_time`: the future is not known.
        exclude_seen: not for `train`: what ranking leaves out: all of the `history`, those in the `window`, those in
            the `session` of the last event, `none`.
        find_prefixes: for `evaluate`: set `prefix_of` where windows of one user begin with the same event.
        queries: for `evaluate`: several targets for each window, (B, T) in its batches. The time of the prediction and
            the fields of the event to predict are those of the first.
    """

    def __init__(
        self,
        events: Events,
        windows: Windows,
        mode: Literal["train", "evaluate", "predict"] = "train",
        exclude_seen: ExcludeSeen = "history",
        find_prefixes: bool = False,
        queries: Queries | None = None,
    ) -> None:
        self.events, self.windows, self.mode, self.exclude_seen = events, windows, mode, exclude_seen
        self.find_prefixes, self.queries = find_prefixes, queries
        by_flag = mode != "train" and exclude_seen == "history" and events.rules.hides is None
        self._is_first = events.first_occurrence if by_flag else None

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | list[int] | np.ndarray) -> Batch:
        return self.__getitems__(index if isinstance(index, list | np.ndarray) else [index])

    def __getitems__(self, indices: list[int] | np.ndarray) -> Batch:
        """The batch of the windows with these indices; rows in the order asked for."""
        rows = np.asarray(indices, dtype=np.int64)
        events, start, stop = self.events, self.windows.start[rows], self.windows.stop[rows]
        lengths = stop - start + self.windows.includes_target  # not of all windows: there may be millions
        column = np.arange(int(lengths.max()))
        valid = column < lengths[:, None]  # (B, L)
        position = np.where(valid, start[:, None] + column, 0)  # (B, L); position 0 is read and masked at padding
        batch: dict[str, Any] = {
            "item_ids": _long(events.item_ids[position] * valid),
            "valid_mask": torch.from_numpy(valid),
            "timestamps": _long(events.timestamps[position] * valid),
            "event": events.of_inputs(position, valid),
            "lengths": _long(lengths),
            "user_index": _long(user := self.windows.user_index[rows]),
            "user": {name: column.take(user, valid[:, 0]) for name, column in events.user_fields.items()},
        }
        if self.mode == "train":
            after = 0 if self.windows.includes_target else 1
            counted = valid & (position + after >= self.windows.first_target[rows][:, None])
            target = np.where(counted, position + after, 0)  # (B, L)
            if events.rules.is_target is not None:
                counted &= events.rules.is_target[target]
                target *= counted
            if events.rules.weights is not None:
                batch["target_weights"] = torch.from_numpy(events.rules.weights[target] * counted)
            batch["target_ids"] = _long(events.item_ids[target] * counted)
            batch["target"] = events.of_targets(target, counted)
            batch["target_labels"] = events.labels_of(target, counted)
            batch["target_positions"] = torch.from_numpy(np.flatnonzero(counted))
            return Batch(**batch, query_time=_long(events.timestamps[stop]))
        seen_ids, seen_offsets = self._seen(rows)
        known = self.mode == "evaluate"
        target, mask = (stop, None) if self.queries is None else self.queries.targets(rows)
        target_ids = events.item_ids[target] if known else np.zeros_like(stop)
        is_target = np.ones(len(stop), dtype=bool) if mask is None else mask
        return Batch(
            target_ids=_long(target_ids if mask is None else target_ids * mask),
            target_mask=None if mask is None else torch.from_numpy(mask),
            target=events.of_targets(stop, np.ones(len(stop), dtype=bool)) if known else events.asked(len(stop)),
            query_time=_long(events.timestamps[stop if known else stop - 1]),
            seen_ids=_long(seen_ids),
            seen_offsets=_long(seen_offsets),
            target_event=_long(target) if known else None,
            target_labels=events.labels_of(target, is_target) if known else {},
            prefix_of=prefix_of(start, lengths) if self.find_prefixes else None,
            **batch,
        )

    def _seen(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """CSR of the distinct items that ranking leaves out for each row."""
        rules, stop = self.events.rules, self.windows.stop[rows]
        if self.exclude_seen == "none":
            row, items = np.zeros((2, 0), dtype=np.int64)
        else:
            row, position = _ragged(self._seen_from(rows), stop)
            if rules.hides is not None:
                keep = rules.hides[position]
                row, position = row[keep], position[keep]
            row, items = self._distinct(row, position)
        if rules.live is not None:
            now = self.events.timestamps[stop if self.mode == "evaluate" else stop - 1]
            row, items = rules.live.left_out(row, items, now)
        return items, np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))])

    def _seen_from(self, rows: np.ndarray) -> np.ndarray:
        """(B,) position of the first event whose item is left out."""
        if self.exclude_seen == "history":
            first: np.ndarray = self.events.offsets[:-1][self.windows.user_index[rows]]
            return first
        if self.exclude_seen == "session":
            assert self.events.rules.session_start is not None
            return self.events.rules.session_start[self.windows.stop[rows] - 1]
        return self.windows.start[rows]

    def _distinct(self, row: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(S,) rows and positions -> rows, ascending, and the items of each, once."""
        if self._is_first is not None:
            keep = self._is_first[position]
            return row[keep], self.events.item_ids[position[keep]].astype(np.int64)
        width = int(self.events.item_ids.max(initial=0)) + 1
        return np.divmod(np.unique(row * width + self.events.item_ids[position]), width)


Batches = DistributedSampler[Any]
"""Samplers that yield whole batches: those of `samplers.py` and `joined.py`."""


class WindowLoader(DataLoader[Any]):
    """A DataLoader whose sampler yields whole batches, and that can go on in the middle of an epoch.

    It has a random generator of its own: PyTorch's loader draws from the global one at each epoch otherwise, and what
    a user draws beside it would depend on the loader.
    """

    def __init__(self, dataset: Dataset[Batch], sampler: Batches, **kwargs: Any) -> None:
        # Lightning makes the loader of a prediction anew, from arguments it remembers under DataLoader's names
        super().__init__(dataset, sampler=sampler, **{**kwargs, "batch_size": None, "generator": torch.Generator()})
        self._done = 0
        self.limit: float = math.inf  # batches that the Trainer takes in an epoch, where it says so

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self._done = getattr(self.sampler, "skip", 0)
        for batch in super().__iter__():
            self._done += 1
            yield batch
        self._done = 0

    def end_epoch(self) -> None:
        """What is left of this epoch is not wanted."""
        if isinstance(self.sampler, TrainBatches):
            self._done, self.sampler.epoch, self.sampler.began_with = 0, self.sampler.epoch + 1, None

    def state_dict(self) -> dict[str, Any]:
        """Batches that this epoch has given, the epoch, and what the batches depend on beside it. After the last batch
        that the Trainer takes it is the start of the next epoch."""
        if not isinstance(self.sampler, TrainBatches):
            return {"batches_done": self._done, "epoch": 0}
        over = self._done >= min(len(self), self.limit)
        done, epoch = (0, self.sampler.epoch + 1) if over else (self._done, self.sampler.epoch)
        return {"batches_done": done, "epoch": epoch, "batches_from": self.sampler.settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there.

        Raises:
            RecsysLabError: when other batches are made here than where the state was written.
        """
        if isinstance(self.sampler, TrainBatches):
            done, self.sampler.epoch = state["batches_done"], state["epoch"]
            self.sampler.check_settings(state.get("batches_from", {}), inside=done > 0)
            self.sampler.skip = done if done < min(len(self), self.limit) else 0


def _first_occurrence(shard: Mapping[str, np.ndarray]) -> np.ndarray:
    return histories.is_first_occurrence(shard["item_ids"], shard["offsets"])


def prefix_of(start: np.ndarray, lengths: np.ndarray) -> torch.Tensor | None:
    """(B,) first events and (B,) lengths of windows -> `Batch.prefix_of`; None where each begins at its own event."""
    first, group = np.unique(start, return_inverse=True)  # an event belongs to one user: so does a group
    if len(first) == len(start):
        return None
    by_length = np.argsort(lengths, kind="stable")
    longest = np.empty(len(first), dtype=np.int64)
    longest[group[by_length]] = by_length  # the last one written stays: the longest of its group
    return torch.from_numpy(longest[group])


def _ragged(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, position) of every integer in each [start[row], stop[row])."""
    length = stop - start
    row = np.repeat(np.arange(len(start)), length)
    return row, np.arange(len(row)) + np.repeat(start - (np.cumsum(length) - length), length)


def _long(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64, copy=False))
