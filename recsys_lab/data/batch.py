"""Index windows -> `Batch`, and which windows go into which batch.

A batch is gathered with a handful of vectorised index operations for all its rows at once; there is no per-sample
Python. Batches hold windows of similar length, so almost nothing of a batch is padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from recsys_lab.data.windows import Windows
from recsys_lab.schema import Batch, RecsysLabError

ExcludeSeen = Literal["history", "window", "none"]

MEGA_BATCHES = 50
"""Length bucketing sorts within a shuffled block of this many batches: enough for under 5 % padding on the data sets we
measured, few enough that which windows meet in one batch stays random."""


class Events:
    """The flat event arrays of a processed data set, as the gather below wants them.

    Args:
        item_ids: (E,) int32. timestamps: (E,) int64. event_types: (E,) uint8 or None. offsets: (U + 1,) int64.
    """

    def __init__(
        self, item_ids: np.ndarray, timestamps: np.ndarray, event_types: np.ndarray | None, offsets: np.ndarray
    ) -> None:
        # np.asarray of a memory map is a view of the same pages; indexing an np.memmap costs microseconds each time
        self.item_ids, self.timestamps = np.asarray(item_ids), np.asarray(timestamps)
        self.event_types = None if event_types is None else np.asarray(event_types)
        self.offsets = np.asarray(offsets)

    def first_occurrence(self) -> np.ndarray:
        """(E,) bool: True where an event is the first of its (user, item) pair.

        The distinct items of any history prefix are then those events whose flag is set: no sorting per batch.
        """
        user = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        pair = user * (int(self.item_ids.max(initial=0)) + 1) + self.item_ids
        order = np.argsort(pair, kind="stable")
        new = np.empty(len(pair), dtype=bool)
        new[order] = np.concatenate([[True], np.diff(pair[order]) != 0])[: len(pair)]
        return new


class WindowDataset(Dataset[Batch]):
    """Windows as training samples (targets at every counted position) or as evaluation samples (one target each).

    Args:
        events: the flat arrays.
        windows: W windows over them.
        mode: `train`, with the time of the window's last target as `query_time`; `evaluate` gives batches with (B,)
            targets, `query_time` and the seen items; `predict` the same with `PAD_ID` as target and the time of the
            last event as `query_time`: the future is not known.
        exclude_seen: not for `train`: what ranking leaves out: all of the `history`, those in the `window`, `none`.
    """

    def __init__(
        self,
        events: Events,
        windows: Windows,
        mode: Literal["train", "evaluate", "predict"] = "train",
        exclude_seen: ExcludeSeen = "history",
    ) -> None:
        self.events, self.windows, self.mode, self.exclude_seen = events, windows, mode, exclude_seen
        self._is_first = events.first_occurrence() if mode != "train" and exclude_seen == "history" else None

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | list[int] | np.ndarray) -> Batch:
        return self.__getitems__(index if isinstance(index, list | np.ndarray) else [index])

    def __getitems__(self, indices: list[int] | np.ndarray) -> Batch:
        """The batch of the windows with these indices; rows in the order asked for."""
        rows = np.asarray(indices, dtype=np.int64)
        events, start = self.events, self.windows.start[rows]
        lengths = self.windows.stop[rows] - start
        column = np.arange(int(lengths.max()))
        valid = column < lengths[:, None]  # (B, L)
        position = np.where(valid, start[:, None] + column, 0)  # (B, L); position 0 is read and masked at padding
        stop = self.windows.stop[rows]
        batch: dict[str, Any] = {
            "item_ids": _long(events.item_ids[position] * valid),
            "valid_mask": torch.from_numpy(valid),
            "timestamps": _long(events.timestamps[position] * valid),
            "event_types": _long(
                events.event_types[position] * valid if events.event_types is not None else np.zeros_like(position)
            ),
            "lengths": _long(lengths),
            "user_index": _long(self.windows.user_index[rows]),
        }
        if self.mode == "train":
            counted = valid & (position + 1 >= self.windows.first_target[rows][:, None])
            batch["target_ids"] = _long(events.item_ids[np.where(counted, position + 1, 0)] * counted)
            return Batch(**batch, query_time=_long(events.timestamps[stop]))
        seen_ids, seen_offsets = self._seen(rows)
        known = self.mode == "evaluate"
        return Batch(
            target_ids=_long(events.item_ids[stop] if known else np.zeros_like(stop)),
            query_time=_long(events.timestamps[stop if known else stop - 1]),
            seen_ids=_long(seen_ids),
            seen_offsets=_long(seen_offsets),
            **batch,
        )

    def _seen(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """CSR of the distinct items that ranking leaves out for each row."""
        if self.exclude_seen == "none":
            return np.zeros(0, dtype=np.int64), np.zeros(len(rows) + 1, dtype=np.int64)
        stop = self.windows.stop[rows]
        whole = self.exclude_seen == "history"
        start = self.events.offsets[:-1][self.windows.user_index[rows]] if whole else self.windows.start[rows]
        row, position = _ragged(start, stop)
        if self._is_first is not None:
            keep = self._is_first[position]
            row, items = row[keep], self.events.item_ids[position[keep]].astype(np.int64)
        else:
            width = int(self.events.item_ids.max(initial=0)) + 1
            row, items = np.divmod(np.unique(row * width + self.events.item_ids[position]), width)
        return items, np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))])


class TrainBatches(DistributedSampler[Any]):
    """Shuffled batches of window indices for one process; over all processes each window comes exactly once per epoch.

    All processes get the same number of batches (a step is collective), at most one row apart in size.

    It is a `DistributedSampler` only so that Lightning leaves it alone: it shards by itself, whether or not the Trainer
    was told `use_distributed_sampler=False`.

    Args:
        lengths: (W,) inputs of each window, for bucketing.
        batch_size: windows per process and batch.
        bucketing: put windows of similar length together.
        seed: with the epoch, decides the order; nothing else does.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, bucketing: bool = True, seed: int = 0) -> None:
        self.lengths, self.batch_size, self.bucketing, self.seed = lengths, batch_size, bucketing, seed
        self.epoch = 0
        self.skip = 0  # batches of this epoch that a resumed run has done already

    def __len__(self) -> int:
        _, world = _rank_and_world()
        if len(self.lengths) < world:
            raise RecsysLabError(
                f"{len(self.lengths)} training window(s) can't be shared by {world} processes: use fewer devices"
            )
        return _num_batches(len(self.lengths), self.batch_size * world, world)

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = _rank_and_world()
        skip, self.skip = self.skip, 0
        for batch in self.global_batches(world)[skip:]:
            yield batch[rank::world].tolist()

    def global_batches(self, world: int) -> list[np.ndarray]:
        """The epoch's batches before they are shared out among `world` processes."""
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        size = self.batch_size * world
        if self.bucketing:
            block = size * MEGA_BATCHES
            parts = [order[i : i + block] for i in range(0, len(order), block)]
            order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])
        count = len(self)
        batches = [order[i * size : (i + 1) * size] for i in range(count - 1)] + [order[(count - 1) * size :]]
        return [batches[i] for i in generator.permutation(count)] if self.bucketing else batches


class EvaluationBatches(DistributedSampler[Any]):
    """Batches of evaluation samples for one process: no sample twice, none dropped, shares may differ by one sample.

    Samples are sorted by length, longest first, so that batches hold little padding and memory peaks at once; process r
    takes the samples r, r + world, ... of that order. (`DistributedSampler`: see `TrainBatches`.)
    """

    def __init__(self, lengths: np.ndarray, batch_size: int) -> None:
        self.order = np.argsort(-lengths, kind="stable")
        self.batch_size = batch_size
        self.epoch = 0

    def _mine(self) -> np.ndarray:
        rank, world = _rank_and_world()
        return self.order[rank::world]

    def __len__(self) -> int:
        return -(-len(self._mine()) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        mine = self._mine()
        for i in range(0, len(mine), self.batch_size):
            yield mine[i : i + self.batch_size].tolist()


class WindowLoader(DataLoader[Any]):
    """A DataLoader whose sampler yields whole batches, and that can go on in the middle of an epoch.

    It has a random generator of its own: PyTorch's loader draws from the global one at each epoch otherwise, and a
    resumed run would then see other dropout masks than the uninterrupted one.
    """

    def __init__(self, dataset: WindowDataset, sampler: TrainBatches | EvaluationBatches, **kwargs: Any) -> None:
        # Lightning makes the loader of a prediction anew, from arguments it remembers under DataLoader's names
        super().__init__(dataset, sampler=sampler, **{**kwargs, "batch_size": None, "generator": torch.Generator()})
        self._done = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self._done = getattr(self.sampler, "skip", 0)
        for batch in super().__iter__():
            self._done += 1
            yield batch
        self._done = 0

    def state_dict(self) -> dict[str, int]:
        return {"batches_done": self._done, "epoch": getattr(self.sampler, "epoch", 0)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if isinstance(self.sampler, TrainBatches):
            done = state["batches_done"]
            self.sampler.skip = done if done < len(self.sampler) else 0
            self.sampler.epoch = state["epoch"]


def _num_batches(samples: int, size: int, world: int) -> int:
    """A last batch too small to give each process a row is joined to the one before it."""
    full, rest = divmod(samples, size)
    return full + (rest >= world)


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _ragged(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, position) of every integer in each [start[row], stop[row])."""
    length = stop - start
    row = np.repeat(np.arange(len(start)), length)
    return row, np.arange(len(row)) + np.repeat(start - (np.cumsum(length) - length), length)


def _long(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64, copy=False))
