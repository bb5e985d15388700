"""Told: the part of `SequenceDataModule` that changes after it was made, as a task or a checkpoint says; and what a
checkpoint is told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from recsys_lab.contracts import Samples
from recsys_lab.data.fitting.earlier_rows import earlier_rows
from recsys_lab.data.fitting.fitted_fields import FittedFields
from recsys_lab.data.fitting.vocabulary import Vocabulary, read_vocabulary
from recsys_lab.data.impressions import Impressions, check_served
from recsys_lab.data.rules_of import list_rules
from recsys_lab.words import RecsysLabError


class Told:
    """What follows from what is told is made anew when it is next asked for."""

    samples: Samples
    shown: Impressions | None

    def give(self: Any, samples: Samples) -> None:
        """What a task asks for, from here on.

        Raises:
            RecsysLabError: when this is told to give what users were shown, and the task learns from windows.
        """
        if self.shown is not None and not samples.shown:
            raise RecsysLabError("shown is for ClickThrough, which learns from what users were shown: leave it out")
        if samples != self.samples:
            self.samples = samples
            for name in ("fitted_labels", "rules", "events", "train_windows", "spec", "_vocabulary"):
                self.__dict__.pop(name, None)

    @property
    def impressions_given(self) -> Impressions | None:
        """Which impressions are the samples; None = windows of events are."""
        return self.shown or (Impressions() if self.samples.shown else None)

    def check_served(self: Any, served: Sequence[tuple[str, Any]]) -> None:
        """Raises RecsysLabError for a value that no shown item of the training part has. served: of `Samples`."""
        for name, value in served:
            check_served(self.fitted_fields[f"shown.{name}"], value)

    def vocabulary(self: Any) -> dict[str, Any]:
        """The raw item ids, how often each trained and the fitted fields as plain data and tensors, for a checkpoint:
        `read_vocabulary` reads them. No user is in it."""
        return self._vocabulary

    @cached_property
    def _vocabulary(self: Any) -> dict[str, Any]:
        fitted = self.fitted_fields, self.item_counts, self.fitted_labels, list_rules(self)
        return Vocabulary(self.processed.item_ids_raw, *fitted).as_dict()

    def earlier_rows(self: Any, held: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Table -> the row in the tables of a checkpoint that each row here is; see `earlier_rows`.

        Args:
            held: the vocabulary of the checkpoint.
        """
        return earlier_rows(read_vocabulary(self._vocabulary), read_vocabulary(held))

    def take_vocabulary(self: Any, held: dict[str, Any]) -> None:
        """The fields as they were fitted elsewhere, for a model whose tables have their rows.

        Args:
            held: of a checkpoint (see `vocabulary`); its fields must be those that this data module is asked for, else
                nothing is taken.
        """
        vocabulary = read_vocabulary(held)
        fitted, own = vocabulary.fields, self.fitted_fields
        asked = [one.key for one in vocabulary.labels] == list(self.samples.labels)
        if asked and vocabulary.labels.hash != self.fitted_labels.hash:
            self._take("fitted_labels", vocabulary.labels)
        if fitted.hash == own.hash or [(f.key, f.kind) for f in fitted] != [(f.key, f.kind) for f in own]:
            return
        self._take("fitted_fields", fitted)

    def _take(self: Any, name: str, fitted: FittedFields) -> None:
        for derived in ("events", "spec", "_vocabulary"):
            self.__dict__.pop(derived, None)
        self.__dict__[name] = fitted
