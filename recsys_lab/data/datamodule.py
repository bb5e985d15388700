"""SequenceDataModule: a prepared data set, a split and a window length -> the loaders that Lightning asks for. Glue
only."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch

from recsys_lab.arguments import Count, Positive, Range, Seed
from recsys_lab.config import Configurable
from recsys_lab.contracts import DataSpec, Samples
from recsys_lab.data.availability import Available
from recsys_lab.data.batches.event_rules import Rules
from recsys_lab.data.batches.gather import Events, ExcludeSeen
from recsys_lab.data.batches.samplers import MEGA_BATCHES
from recsys_lab.data.batches.shown_dataset import ShownDataset
from recsys_lab.data.batches.windows import TrainingMode, Windows, training_windows, windows_in_sessions
from recsys_lab.data.event_types import TargetWeights
from recsys_lab.data.fitting.field_tensors import events_of, item_tensors, shown_of
from recsys_lab.data.fitting.fit_fields import FieldChoice, Numerics, choose_fields, fit_fields
from recsys_lab.data.fitting.fitted_fields import FittedFields
from recsys_lab.data.fitting.label_fields import fit_labels
from recsys_lab.data.impressions import Impressions
from recsys_lab.data.loaders import Loaders
from recsys_lab.data.locate import DATA_DIR, DATASET, Cache, locate, prepare_frames
from recsys_lab.data.prepare.pipeline import PrepareSettings
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.frames import FrameSource
from recsys_lab.data.rules_of import rules_of
from recsys_lab.data.sessions import SAME_SESSION
from recsys_lab.data.split.leave_one_out import LeaveOneOut, Split, SplitResult
from recsys_lab.data.split.split_rule import without_repeated_targets
from recsys_lab.data.split.target_types import apply_split
from recsys_lab.data.told import Told
from recsys_lab.data.training_counts import counted, training_positions
from recsys_lab.data.training_settings import evaluation_settings, sees_targets, training_hash, training_settings
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

Length = Annotated[int, Range(at_least=1, at_most=1_000_000)]


class SequenceDataModule(Configurable, Told, Loaders):
    """Next-item samples of one data set.

    Args:
        dataset: a known source (`ml-100k`, `synthetic`, ...: prepared on first use), the name of a set prepared into
            `data_dir`, or the path of a prepared folder.
        data_dir: where raw files and prepared sets lie.
        prepare: how a known source is filtered and ordered; None = the source's own defaults.
        split: which events train and which are predicted; None = leave-one-out.
        max_length: L, the events that a model sees at once.
        stride: targets counted per training window; None = `max_length` (see `windows.py`).
        training_mode: `all_positions`, or `last_position` where each prefix is a sample of its own.
        max_windows_per_user: train on each user's newest windows only; None = on all.
        batch_size: training windows per process and step; not looked at with `batch_tokens`.
        eval_batch_size: evaluation targets per process and step.
        length_bucketing: batches of windows of similar length.
        exclude_seen: what ranking leaves out: the user's whole `history`, the `window`, the last `session`, or
            `none`.
        num_workers: processes that assemble batches; 0 is fastest on small machines.
        seed: order of the batches; None = the seed of `seed_everything`.
        retrained: the validation part trains too: the data of a model that was trained once more before its test, with
            nothing left to validate on (`fit --run.retrain true` sets it).
        batch_tokens: instead of `batch_size`: as many windows of similar length as fit into this many positions
            (padding included) per process and step; at least `max_length`. None = count windows. It changes what a
            step averages over: see `TrainBatches`.
        bucket_batches: length bucketing sorts within shuffled blocks of so many batches; fewer mix lengths more, and
            where histories are short and uneven (Amazon) leave more padding: 50 leave 8 % of it there, 100 leave 4 %.
        fields: what a model is fed beside items and times: names as `recsys-lab prepare` lists them (`price`,
            `item.genre`, `user.age`), or `all`. None = `event_type`, where the data has it.
        numerics: how numbers are scaled before they are standardised: `standard` (as they are), `log1p` or `quantile`;
            one for all, or by name: `{price: log1p}`.
        target_types: event types that are predicted, in training and in evaluation; all others are input. None = all.
        exclude_seen_types: `exclude_seen` leaves out items of events of these types alone. None = of all.
        weights: how much an event counts in the loss as a target; None = all alike.
        sessions: what a session is: a categorical field of the events, or the pause that ends one, such as `30m`.
        window_within: windows reach back in the user's `history`, or stop where the `session` of their last event
            begins.
        shown: `Impressions`: samples are what users were shown, as click-through learns from. None = windows of events.
        available: candidates are items that can be had at the time of the question: from their `first_event` on,
            between their first and last `events`, or as two fields of the items say. None = always.
        cache_dir: of a `dataset` at an address (s3://...): where copies of its shards lie; None = `data_dir`/cache.
        cache_gb: the most that they take, in 10^9 bytes.
        shuffle_shards: of a data set in shards: so many are shuffled together, see `ShardBatches`.
    """

    def __init__(
        self,
        dataset: str = DATASET,
        data_dir: str = DATA_DIR,
        prepare: PrepareSettings | None = None,
        split: Split | None = None,
        max_length: Length = 50,
        stride: Count | None = None,
        training_mode: TrainingMode = "all_positions",
        max_windows_per_user: Count | None = None,
        batch_size: Count = 128,
        eval_batch_size: Count = 512,
        length_bucketing: bool = True,
        exclude_seen: ExcludeSeen = "history",
        num_workers: Annotated[int, Range(at_least=0, at_most=1024)] = 0,
        seed: Seed | None = None,
        retrained: bool = False,
        batch_tokens: Count | None = None,
        bucket_batches: Count = MEGA_BATCHES,
        fields: FieldChoice = None,
        numerics: Numerics = "standard",
        target_types: list[str] | None = None,
        exclude_seen_types: list[str] | None = None,
        weights: TargetWeights | None = None,
        sessions: str | None = None,
        window_within: Literal["history", "session"] = "history",
        available: Available = None,
        shown: Impressions | None = None,
        cache_dir: str | None = None,
        cache_gb: Positive = 20.0,
        shuffle_shards: Count = 4,
    ) -> None:
        super().__init__()
        if batch_tokens is not None and batch_tokens < max_length:
            raise RecsysLabError(
                f"batch_tokens must hold a whole window: at least max_length ({max_length}), got {batch_tokens}"
            )
        self.dataset, self.data_dir, self.prepare_settings = dataset, Path(data_dir), prepare
        self.split = split if split is not None else LeaveOneOut()
        self.max_length, self.stride, self.training_mode = max_length, stride, training_mode
        self.max_windows_per_user = max_windows_per_user
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.length_bucketing, self.exclude_seen, self.num_workers = length_bucketing, exclude_seen, num_workers
        self.batch_tokens, self.bucket_batches = batch_tokens, bucket_batches
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.retrained, self.fields, self.numerics = retrained, fields, numerics
        self.target_types, self.exclude_seen_types, self.weights = target_types, exclude_seen_types, weights
        self.sessions, self.window_within, self.available = sessions, window_within, available
        self.shown, self.shuffle_shards = shown, shuffle_shards
        self.cache = Cache(Path(cache_dir) if cache_dir else self.data_dir / "cache", cache_gb)
        self.samples = Samples()
        if sessions is None and (window_within == "session" or exclude_seen == "session"):
            name = "window_within" if window_within == "session" else "exclude_seen"
            raise RecsysLabError(f"--data.{name} session needs --data.sessions: a field of the events or a pause (30m)")

    @classmethod
    def from_frames(
        cls,
        events: Any,
        items: Any = None,
        users: Any = None,
        impressions: Any = None,
        *,
        name: str = "",
        columns: Columns | None = None,
        data_dir: str | Path = "data",
        prepare: PrepareSettings | None = None,
        replace: bool = False,
        **settings: Any,
    ) -> SequenceDataModule:
        """The samples of frames in memory, which are checked and prepared into `data_dir/<name>`.

        Args:
            events: polars or pandas frame with a row per event: `user_id`, `item_id`, `timestamp`, ...
            items: frame with a row per item: `item_id` and its fields.
            users: frame with a row per user: `user_id` and its fields.
            impressions: frame with a row per shown item: `impression_id`, user, item, time and `label`.
            name: of the data set. Default: a name made of the content and the settings, so that the same frames are
                prepared once.
            columns: which column means what, where they are named otherwise.
            data_dir: where the prepared set goes.
            prepare: filters and order; None = all events are kept.
            replace: replace a set of this name that was prepared otherwise, instead of an error.
            settings: the other arguments of `SequenceDataModule`.

        Raises:
            RecsysLabError: for what is wrong with the frames, naming row and column; for a name that is taken.
        """
        source = FrameSource(events, items, users, columns=columns or Columns(), name=name, impressions=impressions)
        folder = prepare_frames(source, name, Path(data_dir), prepare or PrepareSettings(), replace)
        return cls(dataset=folder.name, data_dir=str(data_dir), **settings)

    # -- data ----------------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Runs on one process: downloads and prepares what is missing."""
        locate(self.dataset, self.data_dir, self.prepare_settings, self.cache)

    def setup(self, stage: str | None = None) -> None:
        if self.impressions_given is not None:
            self.impressions_given.check(self.processed)
            self.impressions_given.warn_of(self.split, self.split_result)
        for reason, count in self.split_result.dropped.items():
            log.info("%s: %d %s", self.split.describe(), count, reason)
        if self.split.warning is not None:
            log.warning("%s: %s", self.split.describe(), self.split.warning)

    @cached_property
    def processed(self) -> ProcessedDataset:
        return locate(self.dataset, self.data_dir, self.prepare_settings, self.cache)

    @property
    def _offsets(self) -> np.ndarray:
        return np.asarray(self.processed.offsets)

    @cached_property
    def fitted_fields(self) -> FittedFields:
        """What a model is fed beside items and times, as the training part knows it."""
        own, extra = self.processed.fields, SAME_SESSION
        known = own if self.sessions is None else {extra.key: extra, **own}
        keys = choose_fields(known, self.fields, getattr(self.split, "column", None))
        given = [key for key in keys if key in own]
        fitted = fit_fields(self.processed, given, self.split_result, lambda: self.item_counts.numpy(), self.numerics)
        return fitted if len(given) == len(keys) else FittedFields((*fitted, extra))

    @cached_property
    def fitted_labels(self) -> FittedFields:
        """The fields that a task predicts, as the training part knows them."""
        return fit_labels(self)

    @cached_property
    def events(self) -> Events:
        late = self.samples.with_target_event
        stop = self.split_result.train_stop
        return events_of(self.processed, self.fitted_fields, stop, self.rules, self.fitted_labels, late)

    @cached_property
    def rules(self) -> Rules:
        """Which events may be targets, how much they count, and what ranking leaves out."""
        return rules_of(self)

    @property
    def item_fields(self) -> dict[str, torch.Tensor]:
        """(V, ...) of each field of the items, by name, as `contracts.Field` says; row 0 is padding. Made when asked
        for: a model keeps them."""
        return item_tensors(self.processed, self.fitted_fields, self.split_result.train_stop)

    def shown_dataset(self, trains: bool = True) -> ShownDataset:
        """What users were shown, as samples: before anything of theirs is held out, or after.

        Raises:
            RecsysLabError: when the data has no impressions.
        """
        return shown_of(self.processed, self.fitted_fields, self.split_result, self.events, self.max_length, trains)

    @cached_property
    def split_result(self) -> SplitResult:
        """The parts as they are used: with `retrained` the training part holds the validation part, which is empty."""
        if not self.retrained:
            return self._split_with_validation
        final = self._split_with_validation.final
        if final is None:
            raise RecsysLabError(f"{type(self.split).__name__} does not say what trains when validation trains too")
        return final

    @cached_property
    def _split_with_validation(self) -> SplitResult:
        return without_repeated_targets(
            apply_split(self.split, self.processed, self.target_types), self.processed.item_ids
        )

    @cached_property
    def train_windows(self) -> Windows:
        stop = self.split_result.train_stop
        cut = (self.max_length, self.stride, self.training_mode, self.max_windows_per_user)
        if self.window_within == "session":
            assert self.rules.session_start is not None
            windows = windows_in_sessions(self.events.offsets, stop, self.rules.session_start, *cut)
        else:
            windows = training_windows(self.events.offsets[:-1], stop, *cut)
        windows = windows if self.rules.is_target is None else windows.with_targets(self.rules.is_target)
        return windows.through_target(self.max_length) if self.samples.with_target_event else windows

    @cached_property
    def train_positions(self) -> np.ndarray:
        """(E_train,) flat positions of the training events, users back to back."""
        return training_positions(self._offsets, self.split_result.train_stop)

    @cached_property
    def item_counts(self) -> torch.Tensor:
        """(V,) int64: training events of each item; 0 for padding and for cold items, which are never scored."""
        data, stop = self.processed, self.split_result.train_stop
        return torch.from_numpy(counted(data, "item_counts", stop))

    @property
    def learned_counts(self) -> torch.Tensor:
        """(V,) int64: `item_counts`, and 1 for items that the training part shows and that have no event in it."""
        return self.item_counts.maximum(torch.from_numpy(self.trained_items).long())

    @cached_property
    def spec(self) -> DataSpec:
        data, stop = self.processed, self.split_result.train_stop
        training = training_settings(self, self._split_with_validation)
        return DataSpec(
            dataset=data.name,
            num_items=data.num_items,
            num_users=data.num_users,
            max_length=self.max_length,
            has_timestamps=data.has_timestamps,
            mean_gap_seconds=counted(data, "mean_gap", stop) if data.has_timestamps else 1.0,
            data_hash=data.data_hash,
            vocabulary_hash=data.vocabulary_hash,
            split=self.split.describe(),
            fields=self.fitted_fields.fields,
            training_hash=training_hash(training),
            training=training,
            labels=tuple(one.as_label() for one in self.fitted_labels),
        )

    def sees_targets(self, trained: dict[str, Any], stage: str) -> bool:
        """Whether a model with the `DataSpec.training` of a checkpoint knows events at or after targets of `stage`."""
        return sees_targets(trained, self, stage)

    def evaluation_settings(self) -> dict[str, Any]:
        """What must agree for two runs' test numbers to be comparable. `val_targets` are those that chose the epoch,
        also where they trained afterwards (`retrained`)."""
        return evaluation_settings(self, self._split_with_validation.val)
