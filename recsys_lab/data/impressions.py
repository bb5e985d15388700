"""Impressions: the samples of click-through. What users were shown, in place of windows with a next item."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.arguments import Positive
from recsys_lab.config import Configurable
from recsys_lab.data.batches.shown_dataset import Shown, ShownDataset
from recsys_lab.data.fields.stored import check_named
from recsys_lab.data.fitting.field_tensors import field_columns
from recsys_lab.data.fitting.stored_values import impression_parts
from recsys_lab.words import RecsysLabError, number_of

MOST_VALUES = 10
"""Of a field that may be the label once more."""
PARTS = {"train": 0, "val": 1, "test": 2}


class Impressions(Configurable):
    """Which impressions, and how much each shown item counts.

    Args:
        propensity: numeric field of the shown items, the chance with which the log's policy showed each: an item counts
            1 / propensity, in the loss and in the metrics (inverse-propensity weights). None = all count alike.
        max_weight: no item counts more than this many times a shown item of propensity 1.
    """

    def __init__(self, propensity: str | None = None, max_weight: Positive = 100.0) -> None:
        super().__init__()
        self.propensity, self.max_weight = propensity, max_weight

    def check(self, data: Any) -> None:
        """Raises RecsysLabError for data whose impressions can't be samples."""
        if not data.num_impressions:
            raise RecsysLabError(
                f"{data.name!r} has no impressions: prepare it with --impressions FILE, a row for each shown item"
            )
        if not data.has_timestamps or not np.asarray(data.arrays["shown/timestamps"]).any():
            raise RecsysLabError(
                f"{data.name!r}: without times nobody can tell which events came before an impression; events and "
                "impressions both need a column timestamp"
            )
        labels = np.asarray(data.arrays["shown/labels"])
        odd = ~(np.isnan(labels) | (labels == 0) | (labels == 1))
        if odd.any():
            raise RecsysLabError(
                f"{data.name!r}: {number_of(int(odd.sum()), 'shown item')} with a label other than 0 and 1, first "
                f"{labels[odd][0]:g}: prepare it again with 1 for clicked and 0 for not"
            )
        if self.propensity is not None:
            chances = self._chances(data)
            bad = ~((chances > 0) & (chances <= 1))
            if bad.any():
                raise RecsysLabError(
                    f"--data.shown.propensity {self.propensity}: {number_of(int(bad.sum()), 'shown item')} with a "
                    f"chance that is not above 0 and at most 1, first {chances[bad][0]:g}"
                )

    def dataset(self, module: Any, part: str) -> ShownDataset:
        """The samples of a `SequenceDataModule`.

        Args:
            part: train, val or test.

        Raises:
            RecsysLabError: when there is none, or the data can't have any.
        """
        data, split, fitted = module.processed, module.split_result, module.fitted_fields
        self.check(data)
        parts = impression_parts(data, module.events.offsets, split)
        which = np.flatnonzero(parts == PARTS[part])
        if not len(which):
            raise RecsysLabError(
                f"no impression of {data.name!r} is in the {part} part of {module.split.describe()}: --data.split "
                "GlobalTemporal, with another --data.split.quantile where it is that already, cuts by time"
            )
        self._check_fields(data, [one.key for one in fitted.of("shown")])
        columns = field_columns(data, fitted.of("shown"), split.train_stop)
        weights = None
        if self.propensity is not None:
            weights = np.minimum(1 / self._chances(data), self.max_weight).astype(np.float32)
        shown = Shown.of(data.arrays, columns, weights)
        return ShownDataset(module.events, shown, which, module.max_length, True, trained_items(module, parts))

    def _check_fields(self, data: Any, keys: list[str]) -> None:
        """Raises RecsysLabError for a field that is the label once more: it is known only after the list was shown."""
        labels = np.asarray(data.arrays["shown/labels"])
        known = ~np.isnan(labels)
        for key in keys:
            if data.fields[key].kind not in ("categorical", "numeric"):
                continue
            values, code = np.unique(np.asarray(data.field_array(key))[known], return_inverse=True)
            if not 2 <= len(values) <= MOST_VALUES:
                continue
            share = np.bincount(code, weights=labels[known]) / np.bincount(code)
            if np.isin(share, (0, 1)).all() and share.any():
                raise RecsysLabError(
                    f"--data.fields {key} says the label of each shown item: it is known only afterwards, so leave it "
                    "out"
                )

    def _chances(self, data: Any) -> np.ndarray:
        key = str(self.propensity)
        key = key if key.startswith("shown.") else f"shown.{key}"
        check_named(data.fields, key, "shown", "numeric", "--data.shown.propensity", "numbers of shown items: {known}")
        found: np.ndarray = np.asarray(data.field_array(key), dtype=np.float64)
        return found


def trained_items(module: Any, parts: np.ndarray) -> np.ndarray:
    """(V,) bool: items with a training event, or shown in an impression that trains. Of the others a model knows
    nothing, not even that they are not these."""
    data = module.processed
    found = module.item_counts.numpy() > 0
    trains = np.repeat(parts == 0, np.diff(np.asarray(data.arrays["shown/offsets"])))
    found[np.asarray(data.arrays["shown/item_ids"])[trains]] = True
    return found
