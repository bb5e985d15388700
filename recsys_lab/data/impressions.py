"""Impressions: the samples of click-through. What users were shown, in place of windows with a next item."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.arguments import Positive
from recsys_lab.config import Configurable
from recsys_lab.data.batches.shown_dataset import Shown, ShownDataset
from recsys_lab.data.fields.stored import check_named
from recsys_lab.data.fitting.field_tensors import field_columns
from recsys_lab.data.fitting.fitted_fields import FittedField
from recsys_lab.data.split.split_rule import SplitResult
from recsys_lab.words import RecsysLabError, number_of

log = logging.getLogger("recsys_lab")

MOST_VALUES = 10
"""Of a field that may be the label once more, or that are named."""
PARTS = {"train": 0, "val": 1, "test": 2}


def check_served(field: FittedField, value: Any) -> None:
    """Raises RecsysLabError for a raw value that is none of the training part's. field: of shown items."""
    option = f"--model.task.served {field.name}"
    try:
        given = pl.Series([value])
        field.tensor(given)
    except (RecsysLabError, TypeError, pl.exceptions.PolarsError) as error:
        raise RecsysLabError(f"{option}: {value!r} can't be a value of the {field.kind} {field.key}") from error
    if value is not None and field.kind == "categorical" and not field.rows(given)[0]:
        known = field.values.cast(pl.String).to_list()
        more = f" and {len(known) - MOST_VALUES} more" if len(known) > MOST_VALUES else ""
        raise RecsysLabError(
            f"{option}: no shown item of the training part has {field.key} {value}; known: "
            f"{', '.join(known[:MOST_VALUES])}{more}"
        )


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
        if np.isnan(labels).all():
            raise RecsysLabError(f"{data.name!r}: no shown item has a label: 1 says that it was clicked, 0 that not")
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

    def warn_of(self, split: Any, result: SplitResult) -> None:
        """Says that a split which does not cut by time lets clicks of the same days, of other users, train."""
        if result.cut_time is None:
            log.warning(
                "%s gives each user a cut of its own: lists train that are later than others' tests, and what they "
                "say of an item is no forecast. --data.split GlobalTemporal cuts by time",
                split.describe(),
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
        which = np.flatnonzero(module.impression_parts == PARTS[part])
        if not len(which):
            raise RecsysLabError(
                f"no impression of {data.name!r} is in the {part} part of {module.split.describe()}: --data.split "
                "GlobalTemporal, with another --data.split.quantile where it is that already, cuts by time"
            )
        self._check_fields(data, [one.key for one in fitted.of("shown")])
        columns = field_columns(data, fitted.of("shown"), split.train_stop)
        shown = Shown.of(data.arrays, columns, self._weights(data))
        return ShownDataset(module.events, shown, which, module.max_length, True, module.trained_items)

    def click_rate(self, module: Any) -> float:
        """Among the items that the training part shows, each as often as it counts; NaN where no label is known."""
        arrays, weights = module.processed.arrays, self._weights(module.processed)
        labels = np.asarray(arrays["shown/labels"], dtype=np.float64)
        trains = np.repeat(module.impression_parts == PARTS["train"], np.diff(np.asarray(arrays["shown/offsets"])))
        counted = trains & ~np.isnan(labels)
        weight = counted if weights is None else weights * counted
        return float(np.nansum(labels * weight) / weight.sum()) if counted.any() else float("nan")

    def _weights(self, data: Any) -> np.ndarray | None:
        """(N,) of each shown item; None = 1 each."""
        if self.propensity is None:
            return None
        return np.minimum(1 / self._chances(data), self.max_weight).astype(np.float32)

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
