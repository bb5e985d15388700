"""Which windows go into which batch, on one and on several processes.

Batches hold windows of similar length, so almost nothing of a batch is padding. docs/batches.md has the numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DistributedSampler

from recsys_lab.words import RecsysLabError, number_of

log = logging.getLogger("recsys_lab")

MEGA_BATCHES = 100
"""Length bucketing sorts within a shuffled block of this many batches: enough for under 5 % padding on the data sets we
measured, also where nearly all histories are short; few enough that which windows meet in one batch stays random."""

BUCKET_STEP = 1.03
"""With a token budget, windows whose lengths differ by less than this factor count as equally long: they are shuffled
among the batches, at most 3 % of which is padding for it."""


MAX_PADDING = 0.08
"""With a token budget, a batch is closed before its shorter windows make more than this share of it padding; over an
epoch that leaves under 5 % at 6,400 tokens on the data sets we measured."""


class TrainBatches(DistributedSampler[Any]):
    """Shuffled batches of window indices for one process; over all processes each window comes exactly once per epoch.

    All processes get the same number of batches (a step is collective), at most one row apart in size. The number is
    the same in every epoch.

    A batch is a number of windows, or what fits into a budget of positions:

    - `batch_size` windows: a step of short windows averages its loss over few targets, one of long windows over many,
      and both move the weights alike.
    - `batch_tokens` positions, padding included: many short windows or few long ones. Each step then averages over
      about the same number of targets, so a target of a short history weighs as much as one of a long history; there
      are fewer steps per epoch, and memory does not depend on which lengths meet.

    It is a `DistributedSampler` only so that Lightning leaves it alone: it shards by itself, whether or not the Trainer
    was told `use_distributed_sampler=False`.

    Args:
        lengths: (W,) inputs of each window, for bucketing.
        batch_size: windows per process and batch.
        bucketing: put windows of similar length together.
        seed: with the epoch, decides the order; nothing else does.
        batch_tokens: positions per process and batch, instead of `batch_size`. Only where too few windows are left at
            the end to give each process one are they joined to the batch before: one row more.
        bucket_batches: with `batch_size`: sort by length within shuffled blocks of so many batches. More leave less
            padding, fewer mix the windows more.

    Raises:
        RecsysLabError: when the longest window does not fit into `batch_tokens`; when there are fewer windows than
            processes.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        bucketing: bool = True,
        seed: int = 0,
        batch_tokens: int | None = None,
        bucket_batches: int = MEGA_BATCHES,
    ) -> None:
        self.bucket_batches = bucket_batches
        self.lengths, self.batch_size, self.bucketing, self.seed = lengths, batch_size, bucketing, seed
        self.batch_tokens = batch_tokens
        longest = int(lengths.max(initial=1))
        if batch_tokens is not None and batch_tokens < longest:
            raise RecsysLabError(f"batch_tokens {batch_tokens} can't hold a window of {longest} events")
        self.epoch = 0
        self.skip = 0  # batches of this epoch that a resumed run has done already
        self.began_with: int | None = None  # processes that began this epoch, where others finish it
        self._bounds: dict[int, np.ndarray] = {}  # of the token budget, for each number of processes

    def __len__(self) -> int:
        return self.num_batches(rank_and_world()[1])

    def num_batches(self, world: int) -> int:
        """Of each of `world` processes in an epoch."""
        world = self.began_with or world
        if len(self.lengths) < world:
            raise RecsysLabError(
                f"{number_of(len(self.lengths), 'training window')} can't be shared by {world} processes: use "
                "fewer devices"
            )
        if self.batch_tokens is not None:
            return len(self._token_bounds(world)) - 1
        return _num_batches(len(self.lengths), self.batch_size * world, world)

    def __iter__(self) -> Iterator[list[int]]:
        rank, world = rank_and_world()
        skip, self.skip = self.skip, 0
        for batch in self.of_process(rank, world)[skip:]:
            yield batch.tolist()

    def of_process(self, rank: int, world: int) -> list[np.ndarray]:
        """The epoch's batches of one of `world` processes. An epoch that others began keeps its batches; they are
        shared out anew."""
        return [batch[rank::world] for batch in self.global_batches(self.began_with or world)]

    def settings(self) -> dict[str, Any]:
        """What the batches of an epoch depend on, beside the epoch."""
        by_tokens = self.batch_tokens is not None
        return {
            "data.seed": self.seed,
            "data.batch_size": None if by_tokens else self.batch_size,
            "data.batch_tokens": self.batch_tokens,
            "data.length_bucketing": self.bucketing,
            "data.bucket_batches": self.bucket_batches if self.bucketing and not by_tokens else None,
            "training windows": len(self.lengths),
            "processes": self.began_with or rank_and_world()[1],
        }

    def check_settings(self, before: dict[str, Any], inside: bool) -> None:
        """Raises RecsysLabError where a run goes on with other settings than it had `before`. Only the number of
        processes may change, and it is said then that the numbers do, too. Where they are to finish an epoch, `inside`
        which they are, each of its batches must have a row for each of them."""
        now = self.settings()
        was, (rank, world) = before.get("processes"), rank_and_world()
        self.began_with = None
        if was not in (None, world):
            if inside and type(self) is TrainBatches and min(map(len, self.global_batches(was))) >= world:
                self.began_with, inside = was, False
            if not inside and rank == 0:
                log.warning(
                    "the run had %s and goes on with %d: no window is left out or comes twice, but from here on its "
                    "numbers are not bit by bit those of a run that was not stopped",
                    number_of(was, "process", "processes"),
                    world,
                )
        for name, value in before.items():
            if now.get(name) != value and (inside or name != "processes"):
                back = f"set {name} to {value} again" if name.startswith("data.") else f"it needs {value} again"
                raise RecsysLabError(
                    f"this run can't go on: its checkpoint was written with {name} {value}, and now it is "
                    f"{now.get(name)}: other batches. To go on, {back}; or start a new run"
                )

    def global_batches(self, world: int) -> list[np.ndarray]:
        """The epoch's batches before they are shared out among `world` processes."""
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        if self.batch_tokens is not None:
            order = order[np.argsort(-self._rounded[order], kind="stable")]
            batches = np.split(order, self._token_bounds(world)[1:-1])
            return [batches[i] for i in generator.permutation(len(batches))]
        size = self.batch_size * world
        if self.bucketing:
            block = size * self.bucket_batches
            parts = [order[i : i + block] for i in range(0, len(order), block)]
            order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])
        count = self.num_batches(world)
        batches = [order[i * size : (i + 1) * size] for i in range(count - 1)] + [order[(count - 1) * size :]]
        return [batches[i] for i in generator.permutation(count)] if self.bucketing else batches

    @cached_property
    def _rounded(self) -> np.ndarray:
        """(W,) int32 lengths, rounded up to the next of a ladder with steps of `BUCKET_STEP`: what a window counts for.

        An epoch's batches are cut from the windows in the order of these numbers, so that windows of one number can be
        shuffled while the cuts, and with them the number of batches, stay those of every epoch.
        """
        longest = int(self.lengths.max(initial=1))
        if not self.bucketing:
            return np.full(len(self.lengths), longest, dtype=np.int32)
        ladder = [longest]
        while ladder[-1] > 1:
            ladder.append(min(ladder[-1] - 1, int(ladder[-1] / BUCKET_STEP)))
        ascending = np.array(ladder[::-1], dtype=np.int32)
        return ascending[np.searchsorted(ascending, self.lengths)]

    def _token_bounds(self, world: int) -> np.ndarray:
        """(batches + 1,) where to cut the windows, longest first: each batch takes what fits beside its first one."""
        if world not in self._bounds:
            assert self.batch_tokens is not None
            descending, bounds = np.sort(self._rounded)[::-1].astype(np.int64), [0]
            while (start := bounds[-1]) < len(descending):
                longest = descending[start]
                lengths = descending[start : start + self.batch_tokens // longest * world]
                full = np.cumsum(lengths) >= (1 - MAX_PADDING) * longest * np.arange(1, len(lengths) + 1)
                bounds.append(
                    min(start + max(int(full.sum()), world), len(descending))
                )  # `full`: True .. True False ..
            if len(bounds) > 2 and bounds[-1] - bounds[-2] < world:
                if bounds[-1] - bounds[-3] < 2 * world:
                    del bounds[-2]
                else:
                    bounds[-2] = bounds[-1] - world
            self._bounds[world] = np.array(bounds)
        return self._bounds[world]


class EvaluationBatches(DistributedSampler[Any]):
    """Batches of evaluation samples for one process: no sample twice, none dropped.

    Samples of one group come in one batch, whole groups are shared out among processes. Groups are sorted by their
    longest sample, longest first, so that batches hold little padding and memory peaks at once; process r takes the
    groups r, r + world, ... of that order. (`DistributedSampler`: see `TrainBatches`.)

    Args:
        lengths: (N,) inputs of each sample.
        batch_size: samples per process and batch; only a group that is larger by itself makes a larger batch.
        group: (N,) any integers: equal ones are kept together; None = each sample by itself.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, group: np.ndarray | None = None) -> None:
        group = np.arange(len(lengths)) if group is None else np.unique(group, return_inverse=True)[1]
        size = np.bincount(group)
        longest = np.zeros(len(size), dtype=np.int64)
        np.maximum.at(longest, group, lengths)
        place = np.empty(len(size), dtype=np.int64)  # of each group in the order
        place[np.lexsort((size, -longest))] = np.arange(len(size))
        self.order = np.lexsort((-lengths, place[group]))  # (N,) samples
        self.place = place[group][self.order]  # (N,) of their groups, ascending
        self.batch_size = batch_size
        self.epoch = 0

    def _mine(self) -> list[np.ndarray]:
        """This process's batches."""
        rank, world = rank_and_world()
        mine = self.place % world == rank
        samples, place = self.order[mine], self.place[mine]
        ends = np.flatnonzero(np.diff(place, append=-1)) + 1  # where a group of mine ends
        batches, start = [], 0
        while start < len(samples):
            fits = np.searchsorted(ends, start + self.batch_size, side="right") - 1
            stop = ends[max(fits, np.searchsorted(ends, start, side="right"))]  # at least one group
            batches.append(samples[start:stop])
            start = stop
        return batches

    def __len__(self) -> int:
        return len(self._mine())

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._mine():
            yield batch.tolist()


def _num_batches(samples: int, size: int, world: int) -> int:
    """A last batch too small to give each process a row is joined to the one before it."""
    full, rest = divmod(samples, size)
    return full + (rest >= world)


def rank_and_world() -> tuple[int, int]:
    """Of this process, among all that train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
