"""Loaders: the part of `SequenceDataModule` that makes what Lightning asks for."""

from __future__ import annotations

import logging
from abc import abstractmethod
from functools import cached_property
from typing import Any, Literal

import lightning as L
import numpy as np
import torch

from recsys_lab.contracts import Samples
from recsys_lab.data.batches.gather import Batches, Events, ExcludeSeen, WindowDataset, WindowLoader
from recsys_lab.data.batches.joined import JoinedBatches, JoinedDataset, JoinedEvaluation
from recsys_lab.data.batches.samplers import EvaluationBatches, TrainBatches
from recsys_lab.data.batches.shard_batches import ShardBatches, ShardEvaluation
from recsys_lab.data.batches.shown_dataset import ShownDataset
from recsys_lab.data.batches.windows import Queries, Windows, evaluation_windows
from recsys_lab.data.fitting.stored_values import impression_parts
from recsys_lab.data.impressions import Impressions
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.shards.sharded_dataset import ShardedDataset
from recsys_lab.data.split.split_rule import SplitResult, Targets
from recsys_lab.words import RecsysLabError, number_of

log = logging.getLogger("recsys_lab")


class Loaders(L.LightningDataModule):
    """What the loaders read is made by `SequenceDataModule`."""

    @property
    @abstractmethod
    def processed(self) -> ProcessedDataset: ...

    @property
    @abstractmethod
    def item_counts(self) -> torch.Tensor: ...

    @property
    @abstractmethod
    def events(self) -> Events: ...

    @property
    @abstractmethod
    def train_windows(self) -> Windows: ...

    @property
    @abstractmethod
    def split_result(self) -> SplitResult: ...

    max_length: int
    batch_size: int
    eval_batch_size: int
    length_bucketing: bool
    exclude_seen: ExcludeSeen
    num_workers: int
    seed: int
    retrained: bool
    batch_tokens: int | None
    bucket_batches: int
    window_within: str
    shuffle_shards: int
    samples: Samples

    @property
    @abstractmethod
    def impressions_given(self) -> Impressions | None: ...

    def train_dataloader(self) -> WindowLoader:
        shown = self.impressions("train") if self.impressions_given else None
        settings = (self.batch_size, self.length_bucketing, self.seed, self.batch_tokens, self.bucket_batches)
        if shown is not None and not self._joins:
            return self._loader(shown, TrainBatches(shown.windows.lengths, *settings))
        windows = WindowDataset(self.events, self.train_windows)
        if shown is None:
            return self._loader(windows, self._train_batches(windows.windows, *settings))
        return self._loader(
            JoinedDataset(windows, shown), JoinedBatches(windows.windows.lengths, len(shown), *settings)
        )

    def _train_batches(self, windows: Windows, *settings: Any) -> TrainBatches:
        if not isinstance(self.processed, ShardedDataset):
            return TrainBatches(windows.lengths, *settings)
        shard = self.processed.shard_of[windows.user_index]
        return ShardBatches(
            windows.lengths, *settings, shard=shard, workers=self.num_workers, at_once=self.shuffle_shards
        )

    def _evaluation_batches(self, windows: Windows, group: np.ndarray | None = None) -> EvaluationBatches:
        if not isinstance(self.processed, ShardedDataset):
            return EvaluationBatches(windows.lengths, self.eval_batch_size, group)
        shard = self.processed.shard_of[windows.user_index]
        return ShardEvaluation(windows.lengths, self.eval_batch_size, shard, self.num_workers)

    def val_dataloader(self) -> WindowLoader | list[WindowLoader]:
        if not self.retrained:
            return self._held_out("val")
        if self.trainer is not None and self.trainer.state.fn == "validate":
            raise RecsysLabError(
                "this model was trained on the validation part too (data.retrained): there is nothing to validate on. "
                "Validate the model of the first fit: --data.retrained false --ckpt_path .../checkpoints/first_fit.ckpt"
            )
        return []

    def test_dataloader(self) -> WindowLoader:
        return self._held_out("test")

    def impressions(self, part: str) -> ShownDataset:
        """The samples of click-through. part: train, val or test."""
        assert self.impressions_given is not None
        found = self.impressions_given.dataset(self, part)
        if found.num_without_history:
            said = number_of(found.num_without_history, "impression")
            log.info("%s: %s of %s without an earlier event: an empty history", part, said, f"{len(found):,}")
        return found

    @property
    def click_rate(self) -> float:
        """Of what the training part shows."""
        assert self.impressions_given is not None
        return self.impressions_given.click_rate(self)

    @cached_property
    def impression_parts(self) -> np.ndarray:
        """(I,) int8, the part of each impression: see `stored_values.impression_parts`."""
        return impression_parts(self.processed, self.events.offsets, self.split_result)

    @cached_property
    def trained_items(self) -> np.ndarray:
        """(V,) bool: items with a training event, or shown in an impression that trains. Of the others a model knows
        nothing, not even that they are not these."""
        arrays = self.processed.arrays
        found: np.ndarray = self.item_counts.numpy() > 0
        trains = np.repeat(self.impression_parts == 0, np.diff(np.asarray(arrays["shown/offsets"])))
        found[np.asarray(arrays["shown/item_ids"])[trains]] = True
        return found

    def _held_out(self, part: Literal["val", "test"]) -> WindowLoader:
        if self.impressions_given is None:
            return self._loader(*self._evaluated(getattr(self.split_result, part)))
        shown = self.impressions(part)
        shown_batches = EvaluationBatches(shown.sizes, self.eval_batch_size)
        if not self._joins:
            return self._loader(shown, shown_batches)
        windows, batches = self._evaluated(getattr(self.split_result, part))
        return self._loader(JoinedDataset(windows, shown), JoinedEvaluation(batches, shown_batches))

    @property
    def _joins(self) -> bool:
        """A task learns from windows and from what was shown."""
        return self.samples.windows and self.samples.shown

    def predict_dataloader(self) -> WindowLoader:
        """One sample per user: the newest window of the whole history, to recommend what comes next."""
        offsets = self.events.offsets
        users = np.flatnonzero(np.diff(offsets) > 0)
        windows = evaluation_windows(offsets[:-1], users, offsets[1:][users], self.max_length, self._session_start)
        return self._loader(
            WindowDataset(self.events, windows, "predict", self.exclude_seen),
            self._evaluation_batches(windows),
        )

    def _evaluated(self, targets: Targets) -> tuple[WindowDataset, EvaluationBatches]:
        user, stop, held = targets.user_index, targets.position, None
        if targets.query is not None:
            held = Queries.of(targets.query, targets.position)
            user, stop = user[held.first[:-1]], targets.query[held.first[:-1]]
        windows = evaluation_windows(self.events.offsets[:-1], user, stop, self.max_length, self._session_start)
        if self.samples.with_target_event:
            windows = windows.through_target(self.max_length)
        dataset = WindowDataset(self.events, windows, "evaluate", self.exclude_seen, find_prefixes=True, queries=held)
        # a user's windows that begin with the same event are prefixes of one another, and encoded once
        return dataset, self._evaluation_batches(windows, windows.start)

    @property
    def _session_start(self) -> np.ndarray | None:
        """Where windows stop; None: nowhere."""
        return self.events.rules.session_start if self.window_within == "session" else None

    def _loader(self, dataset: WindowDataset | JoinedDataset, batches: Batches) -> WindowLoader:
        return WindowLoader(
            dataset,
            sampler=batches,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
