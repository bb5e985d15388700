"""RepeatLast: what the user had comes again, the newest first.

It is the row to beat where users repeat themselves (music, sessions). With `exclude_seen: history` or `window` all that
it recommends is hidden and every other item is tied: it then ranks at chance, and says so.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.baselines.counting import CountingModel

log = logging.getLogger("recsys_lab")


class RepeatLast(CountingModel):
    """score(i) = 1 / (events since the last occurrence of item i in the window), 0 for items that are not in it."""

    def build(self, spec: DataSpec) -> None:
        self.num_rows = spec.num_rows

    def count(self, datamodule: Any) -> None:
        if datamodule.exclude_seen != "none":
            log.warning(
                "RepeatLast recommends seen items only, and exclude_seen: %s hides them: it ranks at chance",
                datamodule.exclude_seen,
            )

    def query(self, batch: Batch) -> Tensor:
        """-> (B, L) item ids, newest first, `PAD_ID` on the right."""
        return newest_first(batch)

    def score(self, query: Tensor) -> Tensor:
        step = torch.arange(1, query.shape[1] + 1, device=query.device)
        worth = (1.0 / step).expand(query.shape)  # (rows, L)
        scores = torch.zeros(len(query), self.num_rows, device=query.device)
        return scores.scatter_reduce_(1, query, worth, "amax")  # (rows, V); column 0 gathers the padding


def newest_first(batch: Batch) -> Tensor:
    """(B, L) -> (B, L): the window in reverse order, padding still on the right."""
    column = batch.lengths[:, None] - 1 - torch.arange(batch.item_ids.shape[1], device=batch.lengths.device)  # (B, L)
    return batch.item_ids.gather(1, column.clamp(min=0)) * (column >= 0)
