"""How long an epoch is on a number of processes, from the lengths of its windows: nothing is gathered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_lab.data.batches.samplers import TrainBatches


@dataclass(frozen=True)
class EpochSize:
    """Of one process.

    steps: batches of an epoch. positions: of all of them, padding included. largest: positions of the largest batch.
    """

    steps: int
    positions: int
    largest: int

    def times(self, factor: float) -> EpochSize:
        """Of a log with so many times the users."""
        return EpochSize(max(round(self.steps * factor), 1), round(self.positions * factor), self.largest)


def epoch_size(batches: TrainBatches, world: int) -> EpochSize:
    """Of the first process of `world`."""
    found = batches.of_process(0, world)
    positions = [len(batch) * int(batches.lengths[batch].max()) for batch in found]
    return EpochSize(len(found), sum(positions), max(positions))


def evaluation_size(loader: Any) -> EpochSize:
    """Of a loader of validation or test; positions are 0 where its samples are no windows alone."""
    batches, lengths = list(loader.sampler), getattr(getattr(loader.dataset, "windows", None), "lengths", None)
    if lengths is None or not batches or not isinstance(batches[0], list):
        return EpochSize(len(batches), 0, 0)
    positions = [len(batch) * int(lengths[batch].max()) for batch in batches]
    return EpochSize(len(batches), sum(positions), max(positions))


def drawn_lengths(users: int, events: int, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    """(users,) int64 lengths of histories with `events` in all, each at least 3, log-normal: most are short and a few
    are long, as in the public logs.

    Args:
        spread: standard deviation of the logarithm.
    """
    share = np.exp(spread * np.random.default_rng(seed).standard_normal(users))
    return np.maximum(np.rint(share * (events / share.sum())).astype(np.int64), 3)
