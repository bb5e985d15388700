"""Windows of events and what users were shown, side by side: the samples of a task that learns from both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from recsys_lab.contracts import Batch
from recsys_lab.data.batches.gather import WindowDataset
from recsys_lab.data.batches.samplers import EvaluationBatches, TrainBatches, rank_and_world
from recsys_lab.data.batches.shown_dataset import ShownDataset
from recsys_lab.words import RecsysLabError

Both = tuple[list[int], list[int]]
"""Which windows, and which impressions."""


class JoinedDataset(Dataset[Batch]):
    """A batch of windows with one of impressions as its `beside`; or one of either, where the other list is empty."""

    def __init__(self, windows: WindowDataset, shown: ShownDataset) -> None:
        self.windows, self.shown = windows, shown

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, both: Both) -> Batch:
        windows, shown = both
        if not windows:
            return self.shown[shown]
        batch = self.windows[windows]
        return replace(batch, beside=self.shown[shown]) if shown else batch


class JoinedBatches(TrainBatches):
    """The batches of the windows, as `TrainBatches` makes them, each with its part of the impressions: in an epoch each
    window comes once, and each impression. So there are as many steps as the windows make, and the number of
    impressions in a step follows.

    Args:
        lengths: (W,) of the windows.
        num_shown: impressions. `batch_size` does not count them.
        settings: the other arguments of `TrainBatches`.

    Raises:
        RecsysLabError: when a step, asked for its length, would have no impression.
    """

    def __init__(self, lengths: np.ndarray, num_shown: int, *settings: Any) -> None:
        super().__init__(lengths, *settings)
        self.num_shown = num_shown

    def __len__(self) -> int:
        steps, (_, world) = super().__len__(), rank_and_world()
        if self.num_shown < steps * world:
            raise RecsysLabError(
                f"{self.num_shown:,} impressions are too few for {steps:,} steps with windows beside them on "
                f"{world} processes: a larger --data.batch_size makes fewer steps, or train the tasks apart"
            )
        return steps

    def __iter__(self) -> Iterator[Both]:  # type: ignore[override]
        skip, (rank, world) = self.skip, rank_and_world()
        beside = self.shown_batches(len(self))[skip:]
        for windows, shown in zip(super().__iter__(), beside, strict=True):
            yield windows, shown[rank::world].tolist()

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"training impressions": self.num_shown}

    def shown_batches(self, steps: int) -> list[np.ndarray]:
        """The epoch's impressions in `steps` parts of equal number."""
        generator = np.random.default_rng([self.seed, self.epoch, 1])
        return np.array_split(generator.permutation(self.num_shown), steps)


class JoinedEvaluation(DistributedSampler[Any]):
    """The batches of the windows, then those of the impressions: each sample once, for its own task. (As a
    `DistributedSampler`: see `TrainBatches`.)"""

    def __init__(self, windows: EvaluationBatches, shown: EvaluationBatches) -> None:
        self.windows, self.shown, self.epoch = windows, shown, 0

    def __len__(self) -> int:
        return len(self.windows) + len(self.shown)

    def __iter__(self) -> Iterator[Both]:
        yield from ((batch, []) for batch in self.windows)
        yield from (([], batch) for batch in self.shown)
