"""CategoryPopularity: popular items of the categories that the user chose so far.

It knows of an item without a training event what its category is, so it is the counted row beside models that score
cold items by their fields. No paper: a mixture of counts, of users over categories and of events over the items of a
category, each with the usual pseudo-counts.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional

from recsys_lab.arguments import Positive, Range
from recsys_lab.contracts import Batch, DataSpec, Field
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.words import PAD_ID, RecsysLabError

log = logging.getLogger("recsys_lab")


class CategoryPopularity(CountingModel):
    """score(j) = sum over the categories c of item j of  p(c | window) p(j | c),

        p(c | window) = (events of c in the window + prior * share of c among all training events) / (events + prior)
        p(j | c)      = (n_j + smoothing) / (the same, of all items of c)

    n_j = training events of j. An item or event of k categories counts 1 / k in each, one of none in none.

    Args:
        field: of the items, categorical or with several values (`item.genres`), among `--data.fields`. None = the first
            that there is; where there is none, all items are of one category.
        smoothing: events that every item is given, cold ones too.
        prior: events of the average user that every window is given.

    Raises:
        RecsysLabError: for a field that the data does not have.
    """

    categories: Tensor  # (V, W) codes; 0 = none
    chance: Tensor  # (V, W) p(j | c) of each of them
    share: Tensor  # (C,) of the training events

    def __init__(
        self,
        field: str | None = None,
        smoothing: Positive = 1.0,
        prior: Annotated[float, Range(at_least=0)] = 1.0,
    ) -> None:
        super().__init__()
        self.field, self.smoothing, self.prior = field, smoothing, prior

    def build(self, spec: DataSpec) -> None:
        self.of_items = self._field(spec)
        width = self.of_items.width if self.of_items is not None and self.of_items.kind == "multi" else 1
        size = 2 if self.of_items is None else self.of_items.size
        self.register_buffer("categories", torch.zeros(spec.num_rows, width, dtype=torch.int64))
        self.register_buffer("chance", torch.zeros(spec.num_rows, width))
        self.register_buffer("share", torch.zeros(size))

    def count(self, datamodule: Any) -> None:
        counts = datamodule.item_counts.to(self.device, torch.float64)
        if self.of_items is None:
            log.warning(
                "CategoryPopularity: no categorical field of the items is among --data.fields, so all items are of one "
                "category"
            )
            self.categories = torch.ones_like(self.categories)
        else:
            values = datamodule.item_fields[self.of_items.name].to(self.device)
            self.categories = values.reshape(len(values), -1)
        self.categories[PAD_ID] = 0
        is_one = self.categories > 0  # (V, W)
        part = is_one / is_one.sum(1, keepdim=True).clamp_min(1)  # of the item in each of its categories
        events, smooth = part * counts[:, None], part * (counts[:, None] + self.smoothing)
        all_smooth = self._summed(smooth)  # (C,)
        self.chance = (smooth / all_smooth[self.categories].clamp_min(self.smoothing) * is_one).float()
        self.share = (self._summed(events) / events.sum().clamp_min(1)).float()

    def query(self, batch: Batch) -> Tensor:
        """-> (B, C) p(c | window)."""
        codes = self.categories[batch.item_ids].flatten(1)  # (B, L W); padding has none
        is_one = self.categories[batch.item_ids] > 0  # (B, L, W)
        part = (is_one / is_one.sum(2, keepdim=True).clamp_min(1)).flatten(1).to(self.share.dtype)
        chosen = part.new_zeros(len(batch), len(self.share)).scatter_add_(1, codes, part)
        total = (chosen.sum(1, keepdim=True) + self.prior).clamp_min(torch.finfo(part.dtype).tiny)
        return (chosen + self.prior * self.share) / total

    def score(self, query: Tensor) -> Tensor:
        of_category = query.T.contiguous()  # (C, rows)
        scores: Tensor = functional.embedding_bag(
            self.categories, of_category, mode="sum", per_sample_weights=self.chance, padding_idx=0
        )
        return scores.T.contiguous()  # (rows, V)

    def _summed(self, values: Tensor) -> Tensor:
        """(V, W) of each item and category -> (C,)."""
        summed = values.new_zeros(len(self.share)).index_add_(0, self.categories.flatten(), values.flatten())
        summed[0] = 0.0
        return summed

    def _field(self, spec: DataSpec) -> Field | None:
        known = {field.name: field for field in spec.fields_of("item", "categorical", "multi")}
        if self.field is None:
            return next(iter(known.values()), None)
        found = known.get(self.field.removeprefix("item."))
        if found is None:
            there = ", ".join(f"item.{name}" for name in known) or "none"
            raise RecsysLabError(
                f"--model.field {self.field}: no categorical field of the items that --data.fields lets in; known: "
                f"{there}"
            )
        return found
