"""Measure: what is computed from evaluation scores beside the ranks, in the same scoring pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.config import Configurable
from recsys_lab.ops.ranks import Ranks, Ties
from recsys_lab.ops.top_items import candidate_scores, top_items
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class EvaluationSetting:
    """What holds for a whole evaluation."""

    datamodule: Any
    stage: str  # val or test
    cutoffs: tuple[int, ...]
    ties: Ties
    is_candidate: Tensor  # (V,) bool, on the model's device


@dataclass(frozen=True)
class ScoredRows:
    """Some rows of a batch with the scores of all items."""

    scores: Tensor  # (B, V) float32, finite; not to be changed
    target_event: Tensor  # (B,) int64 position of the target's event in the data; by it gathered rows are sorted
    target_ids: Tensor  # (B,)
    seen_ids: Tensor  # (S,) items that ranking leaves out
    seen_offsets: Tensor  # (B + 1,) row b owns seen_ids[seen_offsets[b]:seen_offsets[b + 1]]
    ranks: Ranks
    is_candidate: Tensor  # (V,) bool
    is_first: bool = True  # the targets are the first of their queries, each the only one unless a query has several
    lists: Tensor | None = None  # (B, K) best items, where the item table is divided: `scores` is then (B, 0)

    @cached_property
    def candidate_scores(self) -> Tensor:
        """(B, V) float32: the scores, -inf where an item is no candidate of its row. Not to be changed."""
        return candidate_scores(self.scores, self.is_candidate, self.seen_ids, self.seen_offsets)

    def top(self, k: int) -> Tensor:
        """(B, k) items that ranking leaves in, best first; `PAD_ID` where fewer are left. Where the item table is
        divided, k is at most the largest cutoff."""
        if self.lists is not None:
            return self.lists[:, :k]
        return top_items(self.scores, self.is_candidate, self.seen_ids, self.seen_offsets, k)[0]

    def reachable(self) -> ScoredRows:
        """The rows whose target is a candidate."""
        return self.select(~self.ranks.is_miss)

    def select(self, keep: Tensor) -> ScoredRows:
        """The rows where `keep` (B,) is True."""
        if keep.all():
            return self
        lengths = self.seen_offsets.diff()
        return ScoredRows(
            self.scores[keep],
            self.target_event[keep],
            self.target_ids[keep],
            self.seen_ids[torch.repeat_interleave(keep, lengths)],
            F.pad(lengths[keep].cumsum(0), (1, 0)),
            self.ranks.select(keep),
            self.is_candidate,
            self.is_first,
            None if self.lists is None else self.lists[keep],
        )


class Measure(Configurable, ABC):
    """Collects from scored blocks and says its numbers at the end. `RankingEvaluation(measures=[...])` runs it in
    `trainer.test` and in a `trainer.validate` of its own, not in the validation inside `fit`. It gets one row for each
    query: where a query has several targets, the first of them, which is its next item.

    The numbers must not depend on how the rows are shared among processes: sum counts (`sum_over_processes`), or gather
    rows and sort them (`gather_rows`).
    """

    needs_scores: bool = True
    """Reads scores of the rows. False where `rows.top(k)` is enough: it then works with a divided item table, too."""

    @abstractmethod
    def start(self, setting: EvaluationSetting) -> None:
        """Before the first block; forgets an earlier evaluation."""

    @abstractmethod
    def add(self, rows: ScoredRows) -> None:
        """One block of rows of this process."""

    @abstractmethod
    def finish(self) -> dict[str, float]:
        """Metrics over the rows of all processes; every process calls it, some may have had no rows. Names carry no
        stage: `coverage@10`."""


def numbers_of(measure: Measure, known: Mapping[str, float]) -> dict[str, float]:
    """What a measure found.

    Args:
        known: metrics that are there already.

    Raises:
        RecsysLabError: naming the measure, for anything but numbers by name, and for a name that is there already.
    """
    found: Any = measure.finish()
    name = type(measure).__name__
    if not isinstance(found, Mapping):
        raise RecsysLabError(f"{name}.finish gives {type(found).__name__}, and not numbers by name: {{'x@10': 0.5}}")
    for key, value in found.items():
        if not isinstance(value, int | float | np.number):
            raise RecsysLabError(f"{name}.finish gives {type(value).__name__} for {key!r}, and not a number")
        if key in known:
            raise RecsysLabError(f"{name}.finish gives {key!r}, a metric that is there already: choose another name")
    return dict(found)
