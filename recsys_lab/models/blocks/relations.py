"""How far apart two events lie, in positions or in time, as something to add to the logits of attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys_lab.contracts import Batch
from recsys_lab.models.blocks.target_fields import target_time_at_each_position
from recsys_lab.words import RecsysLabError

LOG_BUCKET = 0.301
"""Width of a bucket of log seconds, as in HSTU (Zhai et al. 2024): each is 1.35 times as long as the one before."""


def intervals(batch: Batch, to_next: bool = False) -> Tensor:
    """(B, L, L) float32 seconds between the event of a row t and that of a column s; 0 where s is later.

    Args:
        to_next: from s to the event *after* t, whose time is `batch.query_time` for the last event: a model that asks
            for it reads the time of the prediction.
    """
    now = target_time_at_each_position(batch) if to_next else batch.timestamps
    return (now.unsqueeze(2) - batch.timestamps.unsqueeze(1)).clamp_min(0).float()


def hidden_future(length: int, device: torch.device) -> Tensor:
    """(L, L) float32: minus infinity where the column is a later event, else 0."""
    return torch.full((length, length), float("-inf"), device=device).triu(1)


class _Lookup(torch.autograd.Function):
    """table[:, index], whose backward pass counts instead of adding one number at a time."""

    @staticmethod
    def forward(ctx, table: Tensor, index: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(index)
        ctx.size = table.shape[1]
        return torch.stack([head[index] for head in table], dim=1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (index,) = ctx.saved_tensors
        flat = index.flatten()
        rows = [torch.bincount(flat, part.flatten(), ctx.size) for part in grad.unbind(1)]
        return torch.stack(rows).to(grad.dtype), None


class TimeBuckets(nn.Module):
    """A learned number for each head and each bucket of intervals, whose widths grow with their length.

    Args:
        num_buckets: the last one holds all that is longer.
        num_heads: H.
    """

    def __init__(self, num_buckets: int, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_heads, num_buckets + 1))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, seconds: Tensor) -> Tensor:
        """(B, L, L) -> (B, H, L, L)."""
        out: Tensor = _Lookup.apply(self.weight, self.buckets(seconds))
        return out

    def buckets(self, seconds: Tensor) -> Tensor:
        """The bucket of each interval, int64."""
        return (seconds.clamp_min(1).log() / LOG_BUCKET).long().clamp_max(self.weight.shape[1] - 1)


class TimeDecay(nn.Module):
    """-rate x log(1 + interval / unit): a matrix that falls with time, with one learned rate for each head.

    Args:
        num_heads: H.
        unit: in seconds.
    """

    def __init__(self, num_heads: int, unit: float) -> None:
        super().__init__()
        self.weight, self.unit = nn.Parameter(torch.full((num_heads,), 0.1)), unit

    def forward(self, seconds: Tensor) -> Tensor:
        """(B, L, L) -> (B, H, L, L)."""
        return -self.weight[:, None, None] * torch.log1p(seconds / self.unit).unsqueeze(1)


class RelativePositions(nn.Module):
    """A learned number for each head and each distance in events.

    Args:
        max_length: events of the longest window.
        num_heads: H.
    """

    def __init__(self, max_length: int, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_heads, max_length))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, length: int) -> Tensor:
        """-> (1, H, L, L); at later events it means nothing.

        Raises:
            RecsysLabError: for windows that are longer than those that it was trained for.
        """
        if length > self.weight.shape[1]:
            most = self.weight.shape[1]
            raise RecsysLabError(
                f"the model was trained on windows of {most} events, and a window holds {length}: "
                f"--data.max_length {most}"
            )
        place = torch.arange(length, device=self.weight.device)
        distance = (place[:, None] - place).clamp_min(0)  # (L, L)
        return self.weight[:, distance].unsqueeze(0)
