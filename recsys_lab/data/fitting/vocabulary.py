"""Vocabulary: the raw ids of the items, how often each trained, and the fitted fields, which a checkpoint holds, so
that a predictor needs nothing else. No user is in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from torch import Tensor

from recsys_lab.data.fitting.fitted_fields import NO_FIELDS, FittedFields
from recsys_lab.data.fitting.packed_values import pack, unpack
from recsys_lab.words import RecsysLabError

VERSION = 1


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What tables of a model's rows mean."""

    item_ids: pl.Series
    """(num_items,) raw ids, int64 or strings: entry i - 1 belongs to item i."""
    fields: FittedFields
    item_counts: Tensor | None = None
    """(V,) int64 training events of each item: which items are candidates, and which are popular. None in checkpoints
    that were written before it was kept."""
    labels: FittedFields = NO_FIELDS
    """What the rows of a label's head mean."""
    lists: dict[str, Any] | None = None
    """What lists leave out (`rules_of.list_rules`); None in checkpoints that were written before it was kept."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data and tensors, which `torch.load(..., weights_only=True)` reads."""
        counts = {} if self.item_counts is None else {"item_counts": self.item_counts}
        labels = {"labels": self.labels.as_dict()} if len(self.labels) else {}
        lists = {} if self.lists is None else {"lists": self.lists}
        own = {"version": VERSION, "item_ids": pack(self.item_ids), "fields": self.fields.as_dict()}
        return {**own, **counts, **labels, **lists}


def read_vocabulary(held: dict[str, Any]) -> Vocabulary:
    """The inverse of `Vocabulary.as_dict`.

    Raises:
        RecsysLabError: when it was written by a newer version, or is not what was written.
    """
    if held.get("version", 0) > VERSION:
        raise RecsysLabError(
            f"this checkpoint's vocabulary has format {held['version']}, this recsys_lab reads up to {VERSION}"
        )
    try:
        labels = FittedFields.from_dict(held["labels"]) if "labels" in held else NO_FIELDS
        fields = FittedFields.from_dict(held["fields"])
        found = Vocabulary(unpack(held["item_ids"]), fields, held.get("item_counts"), labels, held.get("lists"))
        if found.item_counts is not None and found.item_counts.shape != (len(found.item_ids) + 1,):
            raise ValueError(f"{len(found.item_ids)} items, and counts of shape {tuple(found.item_counts.shape)}")
        return found
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RecsysLabError(
            f"the vocabulary of this checkpoint is damaged ({type(error).__name__}: {error})"
        ) from error
