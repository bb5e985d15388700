"""CausalConv: a convolution over time that sees the past only, over a whole window or one event at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv(nn.Conv1d):
    """A convolution over events: what comes out at position t depends on the events t - reach .. t.

    Args:
        width_in: of the events. width_out: of what comes out.
        kernel: how many events it reads.
        dilation: how far apart they lie.
        groups: see `nn.Conv1d`.
    """

    def __init__(self, width_in: int, width_out: int, kernel: int, dilation: int = 1, groups: int = 1) -> None:
        super().__init__(width_in, width_out, kernel, dilation=dilation, groups=groups)
        self.reach = (kernel - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, width_in) -> (B, L, width_out); zeros stand before the first event."""
        return self._over(F.pad(x, (0, 0, self.reach, 0)))

    def start(self, rows: int) -> Tensor:
        """The events before the first: (rows, reach, width_in) zeros."""
        return self.weight.new_zeros(rows, self.reach, self.in_channels)

    def step(self, before: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The newest `reach` events and one more (B, 1, width_in) -> what comes out at it, and the newest `reach`."""
        events = torch.cat([before, x], dim=1)  # (B, reach + 1, width_in)
        return self._over(events), events[:, 1:]

    def _over(self, events: Tensor) -> Tensor:
        out: Tensor = super().forward(events.transpose(1, 2)).transpose(1, 2)
        return out
