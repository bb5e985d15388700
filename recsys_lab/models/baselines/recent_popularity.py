"""RecentPopularity: the items with the most events at the end of the training part.

Ji et al. 2020, "A Re-visit of the Popularity Baseline in Recommender Systems": popularity as of now, not of all time.

*What differs from the paper*: there the window ends at each query; here it ends with the training part, the same for
every query (`uses_query_time = False`). Under a global temporal split these are the newest events that may be known.
Under leave-one-out, whose training part ends with the whole data, most targets are older than the window: one more face
of that split's leak.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from recsys_lab.arguments import Positive, Range
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.baselines.training_part import TrainingPart
from recsys_lab.words import RecsysLabError


class RecentPopularity(CountingModel):
    """score(i) = number of events of item i in the last window of the training part.

    Args:
        share: the window is this share of the training events, the newest ones (with all that tie with the oldest of
            them). In data without time there is no order across users: then it is this share of each user's training
            events, rounded up.
        window_seconds: the window is so many seconds up to the last training event, instead of a share.

    Raises:
        RecsysLabError: for a window that is not positive, or in seconds where the data has no time.
    """

    counts: Tensor

    def __init__(
        self, share: Annotated[float, Range(above=0, at_most=1)] = 0.1, window_seconds: Positive | None = None
    ) -> None:
        super().__init__()
        self.share, self.window_seconds = share, window_seconds

    def build(self, spec: DataSpec) -> None:
        if self.window_seconds is not None and not spec.has_timestamps:
            raise RecsysLabError(f"{spec.dataset} has no timestamps: give RecentPopularity a share, not window_seconds")
        self.register_buffer("counts", torch.zeros(spec.num_rows))

    def count(self, datamodule: Any) -> None:
        part = TrainingPart.of(datamodule)
        recent = part.item_ids[self._is_recent(part, datamodule.spec.has_timestamps)]
        counts = np.bincount(recent, minlength=part.num_rows).astype(np.float32)
        self.counts = torch.from_numpy(counts).to(self.device)

    def query(self, batch: Batch) -> Tensor:
        return self.counts.new_zeros(len(batch), 1)

    def score(self, query: Tensor) -> Tensor:
        return self.counts.expand(len(query), -1)  # (rows, V)

    def _is_recent(self, part: TrainingPart, has_timestamps: bool) -> np.ndarray:
        """(E,) bool."""
        times = part.timestamps
        if self.window_seconds is not None:
            return times > times.max() - self.window_seconds
        if has_timestamps:
            oldest = min(int(np.floor((1 - self.share) * len(times))), len(times) - 1)
            return times >= np.partition(times, oldest)[oldest]
        stop = np.cumsum(part.lengths)
        from_end = np.repeat(stop, part.lengths) - np.arange(len(times))  # 1 = the user's newest training event
        return from_end <= np.ceil(self.share * np.repeat(part.lengths, part.lengths))
