"""LRURec: linear recurrent units, which train in parallel as attention does and predict from a state as an RNN does.

    h_t      = lambda h_{t-1} + gamma (B x_t + b)      lambda complex, one for each of 2 D channels, |lambda| < 1
    y_t      = norm(Re(C h_t + c) + x_t)
    block(x) = norm(linear(GELU(linear(y))) + y)

Paper: Yue et al. 2024, "Linear Recurrent Units for Sequential Recommendation".

What differs from the paper: complex numbers are pairs of real ones, and the scan is another one (`blocks/scan.py`), so
that the model exports; weights start as torch's layers do (the paper: normal with standard deviation 0.02, of which the
imaginary parts here have one).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scan import rotating_scan
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule

SLOWEST, FASTEST = 0.99, 0.8
"""|lambda| lies between them at first; its square is uniform between their squares."""


class LinearRecurrentUnit(nn.Module):
    """One block: the recurrence, a feed-forward layer, and a norm after each.

    Args:
        dim: D. dropout: on what is added to the residual stream, and inside the feed-forward layer.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        width = 2 * dim
        size = (torch.rand(width) * (SLOWEST**2 - FASTEST**2) + FASTEST**2).sqrt()  # |lambda|
        self.log_nu = nn.Parameter((-size.log()).log())  # |lambda| = exp(-exp(log_nu)) stays below 1
        self.log_theta = nn.Parameter((torch.rand(width) * 2 * math.pi).log())
        self.log_gamma = nn.Parameter(0.5 * (1 - size**2).log())
        self.enter = nn.Linear(dim, 2 * width)  # B and b: real parts, then imaginary ones
        self.leave = nn.Linear(2 * width, dim)  # Re(C h + c): C's real part, then minus its imaginary one
        self.norm, self.feed_forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.expand, self.contract = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, L, D), and the state (B, 4 D) that it goes on from -> (B, L, D), and the states (B, L, 4 D)."""
        size, angle = torch.exp(-torch.exp(self.log_nu)), torch.exp(self.log_theta)
        real, imaginary = size * torch.cos(angle), size * torch.sin(angle)  # (2 D,) each
        x_real, x_imaginary = self._enters(x)
        if before is not None:
            h_real, h_imaginary = before.unsqueeze(1).chunk(2, dim=2)
            first_real = x_real[:, :1] + real * h_real - imaginary * h_imaginary
            first_imaginary = x_imaginary[:, :1] + real * h_imaginary + imaginary * h_real
            x_real = torch.cat([first_real, x_real[:, 1:]], dim=1)
            x_imaginary = torch.cat([first_imaginary, x_imaginary[:, 1:]], dim=1)
        states = torch.cat(rotating_scan(real, imaginary, x_real, x_imaginary), dim=2)  # (B, L, 4 D)
        x = self.norm(self.dropout(self.leave(states)) + x)
        inner = self.contract(self.dropout(F.gelu(self.expand(x))))
        return self.feed_forward_norm(self.dropout(inner) + x), states

    def _enters(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """gamma (B x + b): real and imaginary part, (B, L, 2 D) each."""
        gamma = torch.exp(self.log_gamma).repeat(2)
        real, imaginary = (self.enter(x).float() * gamma).chunk(2, dim=2)
        return real, imaginary

    def left_at_last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, L): what is left of each event in the last state, |lambda^n gamma (B x + b)| with n events after it, its
        mean over the channels."""
        real, imaginary = self._enters(x)
        after = lengths[:, None] - 1 - torch.arange(x.shape[1], device=x.device)  # (B, L), negative at padding
        kept = torch.exp(-torch.exp(self.log_nu) * after.clamp_min(0).unsqueeze(2))  # |lambda|^n
        return (torch.hypot(real, imaginary) * kept).mean(dim=2) * (after >= 0)


class LRURec(NextItemModule):
    """LRURec under any loss.

    Args:
        embedding_dim: D.
        num_layers: blocks.
        dropout: on the inputs and in each block.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(self, embedding_dim: Size = 64, num_layers: Depth = 2, dropout: DropShare = 0.2, **base: Any) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        self.embedding = EventEmbedding(spec, s.embedding_dim, target_fields=self.uses_target_fields)
        self.drop, self.norm = Dropout(s.dropout), nn.LayerNorm(s.embedding_dim)
        self.blocks = nn.ModuleList(LinearRecurrentUnit(s.embedding_dim, s.dropout) for _ in range(s.num_layers))
        self.scorer = TiedScorer(self.embedding.items, bias=True)

    def encode(self, batch: Batch) -> Tensor:
        x = self.norm(self.drop(self.embedding(batch)))  # (B, L, D)
        for block in self.blocks:
            x, _ = block(x)
        return x

    def event_weights(self, batch: Batch) -> EventWeights:
        x = self.norm(self.drop(self.embedding(batch)))
        *earlier, last = self.blocks
        for block in earlier:
            x, _ = block(x)
        assert isinstance(last, LinearRecurrentUnit)
        return EventWeights.shares(last.left_at_last(x, batch.lengths), "what is left in the state of the last block")

    def start(self, rows: int) -> State:
        """Memory: of each block h, real and imaginary parts."""
        zeros = torch.zeros(rows, 4 * self.settings.embedding_dim, device=self.device)
        return State(query=None, memory=[zeros for _ in self.blocks])

    def step(self, state: State, event: Batch) -> State:
        x, memory = self.norm(self.embedding(event)), []
        for block, before in zip(self.blocks, state.memory, strict=True):
            x, states = block(x, before)
            memory.append(states.squeeze(1))
        return State(query=x.squeeze(1), memory=memory)
