"""Popularity: every user gets the items with the most training events."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.baselines.counting import CountingModel


class Popularity(CountingModel):
    """score(i) = number of training events of item i, the same for every history."""

    counts: Tensor

    def build(self, spec: DataSpec) -> None:
        self.register_buffer("counts", torch.zeros(spec.num_rows))

    def count(self, datamodule: Any) -> None:
        self.counts = datamodule.item_counts.to(self.device, torch.float32)

    def query(self, batch: Batch) -> Tensor:
        return self.counts.new_zeros(len(batch), 1)  # nothing of the history matters

    def score(self, query: Tensor) -> Tensor:
        return self.counts.expand(len(query), -1)  # (rows, V)
