"""Time as an input: one class for each way to see it, added to the vector of each event (`--model.inputs.time`).

The published models differ mostly in which of these they take: relative time and gaps as in Li et al. 2020, "Time
Interval Aware Self-Attention for Sequential Recommendation"; buckets that grow as powers of two and the time of the
prediction as in Zhai et al. 2024, "Actions Speak Louder than Words" (HSTU); hours and weekdays are the usual calendar.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from recsys_lab.arguments import Positive, Range
from recsys_lab.config import Configurable
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.blocks.target_fields import target_time_at_each_position
from recsys_lab.words import PAD_ID, RecsysLabError

Reference = Literal["last", "query"]
MISSING, FIRST_VALUE = 1, 2
"""Rows of a table, as those of a categorical field: 0 is padding."""
BUCKETS = 40
"""Powers of two of seconds: the last one begins after seventeen thousand years."""
HOUR, DAY = 3600, 86_400


def gap_before(batch: Batch) -> Tensor:
    """(B, L) int64 seconds since the event before it in the window; 0 for the first."""
    t = batch.timestamps
    return torch.diff(t, dim=1, prepend=t[:, :1]).clamp_min(0)


def time_until(batch: Batch, reference: Reference) -> Tensor:
    """(B, L) int64 seconds from each event to the window's `last` one, or to the time of the prediction (`query`),
    where the batch has it."""
    t = batch.timestamps
    end = t.gather(1, batch.lengths[:, None] - 1)  # (B, 1)
    if reference == "query" and batch.query_time is not None:
        end = batch.query_time[:, None]
    return (end - t).clamp_min(0)


def compressed(times: Sequence[Tensor], window: float, valid_mask: Tensor) -> Tensor:
    """n times (B, L) in seconds -> log(1 + time / window), (B, L, n) float32; 0 at padding."""
    stacked = torch.stack(list(times), dim=2).float() / window
    return torch.log1p(stacked) * valid_mask.unsqueeze(2)


class TimeFeature(Configurable, nn.Module, ABC):
    """What an event's vector says of its time. It is built when the sizes are known, as an encoder is."""

    causal: bool = True
    """False: reads the end of the window, so that its model trains on last positions only."""
    uses_query_time: bool = False
    """Reads at each position the time of the event that is predicted there: its model says so too."""
    of_one_event: bool = False
    """Needs no other event: a model that goes on from a state can have it."""

    def build(self, spec: DataSpec, embedding_dim: int, std: float) -> None:
        """std: of the vectors at first.

        Raises:
            RecsysLabError: for data without times.
        """
        if not spec.has_timestamps:
            raise RecsysLabError(
                f"--model.inputs.time: {type(self).__name__} reads the times of events, and {spec.dataset} has none"
            )
        self.make(spec, embedding_dim, std)

    @abstractmethod
    def make(self, spec: DataSpec, embedding_dim: int, std: float) -> None:
        """Creates the weights."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """-> (B, L, D), zeros at padding."""


class RelativeTime(TimeFeature):
    """How long before a reference an event was, t' = (t_ref - t) / T, as log(1 + t') times a learned vector.

    Every event reads the window's end, so the model trains on `--data.training_mode last_position`.

    Args:
        reference: the window's `last` event, or the time of the prediction (`query`), which is another task.
        window: T in seconds; None = the mean gap between events of the training data.
    """

    causal = False

    def __init__(self, reference: Reference = "last", window: Positive | None = None) -> None:
        super().__init__()
        self.reference, self.window = reference, window
        self.uses_query_time = reference == "query"

    def make(self, spec: DataSpec, embedding_dim: int, std: float) -> None:
        self.seconds = self.window or spec.mean_gap_seconds
        self.vector = nn.Linear(1, embedding_dim, bias=False)
        nn.init.normal_(self.vector.weight, std=std)

    def forward(self, batch: Batch) -> Tensor:
        times = compressed([time_until(batch, self.reference)], self.seconds, batch.valid_mask)
        found: Tensor = self.vector(times.to(self.vector.weight.dtype))
        return found


class Rows(TimeFeature):
    """A time as one of several rows of a table."""

    num_values: int

    def make(self, spec: DataSpec, embedding_dim: int, std: float) -> None:
        self.table = nn.Embedding(FIRST_VALUE + self.num_values, embedding_dim, padding_idx=PAD_ID)
        nn.init.normal_(self.table.weight, std=std)
        with torch.no_grad():
            self.table.weight[PAD_ID].zero_()

    @abstractmethod
    def values(self, batch: Batch) -> Tensor:
        """-> (B, L) int64 in 0..num_values - 1; -1 where it is not known. What stands at padding means nothing."""

    def forward(self, batch: Batch) -> Tensor:
        rows = self.values(batch) + FIRST_VALUE  # -1 becomes MISSING
        found: Tensor = self.table(rows * batch.valid_mask)
        return found


class GapBuckets(Rows):
    """The gap to the event before, in seconds, as the power of two that it lies in; not known for the window's first
    event."""

    num_values = BUCKETS

    def values(self, batch: Batch) -> Tensor:
        buckets = log_buckets(gap_before(batch))
        buckets[:, 0] = -1
        return buckets


class GapToQuery(Rows):
    """The gap from an event to the one that is predicted after it, as the power of two of seconds that it lies in.

    At a window's last event that is the time of the prediction; at an earlier one that of the next event, which is what
    it predicts in training. So it trains on all positions. It is another task: `uses_query_time`.
    """

    num_values = BUCKETS
    uses_query_time = True

    def values(self, batch: Batch) -> Tensor:
        return log_buckets((target_time_at_each_position(batch) - batch.timestamps).clamp_min(0))


class Calendar(Rows):
    """What the users' clocks and calendars say when an event happens.

    Args:
        utc_offset: of the users' clocks, in hours.
    """

    of_one_event = True

    def __init__(self, utc_offset: Annotated[float, Range(at_least=-14, at_most=14)] = 0.0) -> None:
        super().__init__()
        self.shift = round(utc_offset * HOUR)

    def local(self, batch: Batch) -> Tensor:
        """(B, L) int64 seconds, as the users' clocks count them."""
        return batch.timestamps + self.shift


class HourOfDay(Calendar):
    """The hour of the day."""

    num_values = 24

    def values(self, batch: Batch) -> Tensor:
        return self.local(batch).remainder(DAY) // HOUR


class DayOfWeek(Calendar):
    """The day of the week."""

    num_values = 7

    def values(self, batch: Batch) -> Tensor:
        return (self.local(batch) // DAY).remainder(7)  # 0 is a Thursday, as 1970 began


class PartOfCycle(Calendar):
    """Which part of a cycle that returns: the month of a year, the phase of a campaign.

    Cycles are counted from 1970-01-01, and their parts are equally long.

    Args:
        days: how long a cycle is.
        parts: of a cycle; each has a vector.
        utc_offset: of the users' clocks, in hours.
    """

    def __init__(
        self,
        days: Positive = 365.2425,
        parts: Annotated[int, Range(at_least=2)] = 12,
        utc_offset: Annotated[float, Range(at_least=-14, at_most=14)] = 0.0,
    ) -> None:
        super().__init__(utc_offset)
        self.cycle, self.num_values = round(days * DAY), parts
        if self.cycle < parts:
            raise RecsysLabError(f"PartOfCycle: {days:g} days have {self.cycle} seconds, fewer than {parts} parts")

    def values(self, batch: Batch) -> Tensor:
        return self.local(batch).remainder(self.cycle) * self.num_values // self.cycle


def log_buckets(seconds: Tensor) -> Tensor:
    """int64 -> floor(log2(1 + seconds)), at most BUCKETS - 1; exact, in whole numbers."""
    powers = 2 ** torch.arange(1, BUCKETS, device=seconds.device)
    return torch.bucketize(seconds + 1, powers, right=True)
