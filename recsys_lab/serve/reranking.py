"""Reranking: `recommend --rerank`: which of the functions of `rerank.py` lists go through, and with what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from recsys_lab.arguments import Count, Natural, Share, check_fields
from recsys_lab.words import ITEM_ID, RecsysLabError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

    from recsys_lab.serve.predictor import Predictor


@dataclass(frozen=True)
class Reranking:
    """Lists in another order, or without what is too much of one kind: docs/lists.md.

    Args:
        rerank: `mmr` takes less of the same, `quota` at most so many of each category, `popularity_cap` at most so
            many of the most popular items.
        by: column of the items in the run's data: the categories of `quota`, or what `mmr` compares. Default of `mmr`:
            the model's own vectors.
        weight: of `mmr`: from 0, which changes nothing, to 1.
        at_most: items of each category, or of the most popular ones.
        among: each list is chosen from so many of the best items.
    """

    rerank: Literal["none", "mmr", "quota", "popularity_cap"] = "none"
    by: str | None = None
    weight: Share = 0.3
    at_most: Natural | None = None
    among: Count = 100

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rerank == "none" and (self.by is not None or self.at_most is not None):
            name = "by" if self.by is not None else "at_most"
            raise RecsysLabError(f"--{name} is of re-ranked lists: --rerank mmr, quota or popularity_cap")
        if self.rerank in ("quota", "popularity_cap") and self.at_most is None:
            raise RecsysLabError(f"--rerank {self.rerank} needs --at_most NUMBER")
        if self.rerank == "quota" and self.by is None:
            raise RecsysLabError("--rerank quota needs --by COLUMN: the categories of the items")

    def length(self, k: int) -> int:
        """Of the lists that are asked of the model, for lists of k."""
        return k if self.rerank == "none" else max(k, self.among)

    def way(self, predictor: Predictor, k: int, data_dir: str | None = None) -> Callable[[pl.DataFrame], pl.DataFrame]:
        """What makes lists of k of longer ones.

        Args:
            data_dir: of the run's data, where `by` is a column of its items.

        Raises:
            RecsysLabError: where the column can't be had.
        """
        if self.rerank == "none":
            return lambda lists: lists
        from recsys_lab.serve import run_data  # the options of `recommend` stand in this file, and need no torch
        from recsys_lab.serve.item_facts import item_frame
        from recsys_lab.serve.rerank import mmr, popularity_cap, quota

        known = item_frame(predictor)
        if self.rerank == "popularity_cap":
            return lambda lists: popularity_cap(lists, k, known, int(self.at_most or 0))
        if self.by is None:
            if "vector" not in known.columns:
                raise RecsysLabError("--rerank mmr: this model has no vectors of the items: --by COLUMN")
            return lambda lists: mmr(lists, k, known, "vector", self.weight)
        table, why = run_data.item_table(predictor.loaded.folder, predictor.spec, data_dir)
        if table is None:
            raise RecsysLabError(f"--by {self.by}: {why}")
        if self.by not in table.columns or self.by == ITEM_ID:
            there = [name for name in table.columns if name != ITEM_ID]
            hint = did_you_mean(self.by, there)
            raise RecsysLabError(f"--by {self.by}: the items have {', '.join(there) or 'no other column'}.{hint}")
        items = table.select(ITEM_ID, self.by)
        if self.rerank == "quota":
            return lambda lists: quota(lists, k, items, int(self.at_most or 0), self.by)
        return lambda lists: mmr(lists, k, items, self.by, self.weight)
