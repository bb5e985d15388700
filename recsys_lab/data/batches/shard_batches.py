"""Which windows go into which batch where events lie in shards: each worker of each process reads whole shards of its
own."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.data.batches.samplers import EvaluationBatches, TrainBatches, rank_and_world
from recsys_lab.words import RecsysLabError


def dealt(sizes: np.ndarray, streams: int) -> list[np.ndarray]:
    """(S,) windows of each shard -> the shards of each stream, the largest first to the stream that has the fewest
    windows so far. The same in every epoch: a process finds its shards in its cache again."""
    found: list[list[int]] = [[] for _ in range(streams)]
    load = np.zeros(streams, dtype=np.int64)
    for shard in np.argsort(-sizes, kind="stable"):
        least = int(load.argmin())
        found[least].append(int(shard))
        load[least] += sizes[shard]
    return [np.array(sorted(shards), dtype=np.int64) for shards in found]


class ShardBatches(TrainBatches):
    """As `TrainBatches` by `batch_size`, and each window exactly once per epoch over processes x workers; but a batch
    holds windows of `at_once` shards only.

    The shards are shared out among streams, one for each worker of each process. In each epoch a stream takes its
    shards in another order, `at_once` at a time, whose windows are shuffled together. All streams give the same number
    of batches, so that those of a stream with fewer windows are a little smaller. Worker w of a process gets the
    batches w, w + workers, ... of the process: those of its stream.

    Args:
        shard: (W,) of each window.
        workers: of the loader; 0 and 1 are one stream.
        at_once: shards that are shuffled together.
        others: as of `TrainBatches`.
    """

    def __init__(self, *others: Any, shard: np.ndarray, workers: int, at_once: int) -> None:
        super().__init__(*others)
        if self.batch_tokens is not None:
            raise RecsysLabError("data.batch_tokens can't be used with shards: use data.batch_size")
        self.shard, self.workers, self.at_once = shard, max(workers, 1), at_once
        self._order = np.argsort(shard, kind="stable")  # windows, shard by shard
        self._bounds_of_shards = np.searchsorted(shard[self._order], np.arange(int(shard.max(initial=0)) + 2))

    def streams(self, world: int) -> list[np.ndarray]:
        """The shards of each worker of each process, process by process.

        Raises:
            RecsysLabError: where there are fewer shards than streams.
        """
        sizes = np.diff(self._bounds_of_shards)
        if (filled := int((sizes > 0).sum())) < world * self.workers:
            raise RecsysLabError(
                f"{filled} shards can't be shared by {world} processes with {self.workers} workers: use fewer of them, "
                "or prepare with more --shards"
            )
        return dealt(sizes, world * self.workers)

    def num_batches(self, world: int) -> int:
        return self._of_stream(world) * self.workers

    def _of_stream(self, world: int) -> int:
        """Batches of each stream: as many as the fullest one needs."""
        sizes = np.diff(self._bounds_of_shards)
        loads = [int(sizes[shards].sum()) for shards in self.streams(world)]
        needed = -(-max(loads) // self.batch_size)
        if min(loads) < needed:
            raise RecsysLabError(
                f"the shards are too uneven for {world} processes with {self.workers} workers: one would have "
                f"{min(loads)} windows for {needed} batches; prepare with more --shards"
            )
        return needed

    def of_process(self, rank: int, world: int) -> list[np.ndarray]:
        streams = self.streams(world)[rank * self.workers : (rank + 1) * self.workers]
        found = [self._stream(shards, rank * self.workers + i, world) for i, shards in enumerate(streams)]
        return [batches[i] for i in range(len(found[0])) for batches in found]

    def global_batches(self, world: int) -> list[np.ndarray]:
        """The rows of all processes together, step by step."""
        return [np.concatenate(step) for step in zip(*(self.of_process(r, world) for r in range(world)), strict=True)]

    def _stream(self, shards: np.ndarray, stream: int, world: int) -> list[np.ndarray]:
        """Batches of windows, in the order in which they are given."""
        generator = np.random.default_rng([self.seed, self.epoch, stream])
        shards = generator.permutation(shards)
        count = self._of_stream(world)
        groups = [shards[first : first + self.at_once] for first in range(0, len(shards), self.at_once)]
        sizes = [
            sum(self._bounds_of_shards[one + 1] - self._bounds_of_shards[one] for one in group) for group in groups
        ]
        ends = np.cumsum(sizes)
        cuts = np.linspace(0, ends[-1], count + 1).round().astype(np.int64)  # no batch is two rows larger than another
        order = np.concatenate([self._shuffled(group, generator) for group in groups])
        batches = np.split(order, cuts[1:-1])
        if not self.bucketing:
            return batches
        mixed: list[np.ndarray] = []  # short and long batches alternate within a group
        bounds = np.searchsorted(cuts[:-1], np.append(0, ends))
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            mixed += [batches[i] for i in first + generator.permutation(last - first)]
        return mixed

    def _shuffled(self, group: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        windows = np.concatenate([self._order[slice(*self._bounds_of_shards[[one, one + 1]])] for one in group])
        windows = generator.permutation(windows)
        if not self.bucketing:
            return windows
        block = self.batch_size * self.bucket_batches
        parts = [windows[i : i + block] for i in range(0, len(windows), block)]
        return np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])

    def settings(self) -> dict[str, Any]:
        own = {"data.num_workers": self.workers, "data.shuffle_shards": self.at_once}
        return super().settings() | own | {"shards": len(self._bounds_of_shards) - 1}


class ShardEvaluation(EvaluationBatches):
    """As `EvaluationBatches`, shard by shard: a process takes the shards that it trains on.

    Args:
        lengths, batch_size: as of `EvaluationBatches`.
        shard: (N,) of each sample.
        workers: of the loader.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, shard: np.ndarray, workers: int) -> None:
        super().__init__(lengths[:0], batch_size)
        self.lengths, self.shard, self.workers = lengths, shard, max(workers, 1)

    def _mine(self) -> list[np.ndarray]:
        rank, world = rank_and_world()
        sizes = np.bincount(self.shard)
        order = np.lexsort((-self.lengths, self.shard))
        bounds = np.append(0, np.cumsum(sizes))
        batches = []
        for shard in dealt(sizes, world)[rank]:
            samples = order[bounds[shard] : bounds[shard + 1]]
            batches += [samples[i : i + self.batch_size] for i in range(0, len(samples), self.batch_size)]
        return batches
