"""Mamba4Rec: a selective state space: a linear recurrence whose decay and whose inputs each event chooses.

    x, z     = linear(u), x = SiLU(causal convolution of x)
    d, B, C  = linear(x), d = softplus(linear(d))
    h_t      = exp(d_t A) h_{t-1} + d_t B_t x_t          A < 0, one for each of 2 D channels and N states
    y_t      = linear((C_t h_t + D x_t) * SiLU(z_t))
    block(u) = ff(norm(y)), ff(v) = norm(linear(GELU(linear(v))) + v)

Paper: Liu et al. 2024, "Mamba4Rec: Towards Efficient Sequential Recommendation with Selective State Space Models"; the
state space is that of Gu & Dao 2023, "Mamba".

What differs from the paper: plain torch in place of its fused kernel; 16 states (Mamba's number; the paper: 32).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.causal_conv import CausalConv
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scan import linear_scan
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.module import last_position

SHORTEST, LONGEST = 1e-3, 1e-1
"""Steps d at first lie between them, evenly in their logarithm."""


class SelectiveStateSpace(nn.Module):
    """Args: dim: D. states: N of each channel. kernel: events that the convolution reads. expand: channels over D."""

    def __init__(self, dim: int, states: int, kernel: int, expand: int) -> None:
        super().__init__()
        width, rank = expand * dim, math.ceil(dim / 16)
        self.parts = (rank, states, states)
        self.enter = nn.Linear(dim, 2 * width, bias=False)
        self.convolve = CausalConv(width, width, kernel, groups=width)
        self.choose = nn.Linear(width, sum(self.parts), bias=False)
        self.step_size = nn.Linear(rank, width)
        steps = torch.exp(torch.rand(width) * math.log(LONGEST / SHORTEST) + math.log(SHORTEST))
        self.step_size.bias.data = steps + torch.log(-torch.expm1(-steps))  # softplus brings the steps back
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(width, 1))  # (width, N), A = -exp
        self.skip = nn.Parameter(torch.ones(width))  # the formulas' D
        self.leave = nn.Linear(width, dim, bias=False)

    def start(self, rows: int) -> tuple[Tensor, Tensor]:
        """What the convolution reaches, and h."""
        return self.convolve.start(rows), self.skip.new_zeros(rows, *self.log_decay.shape)

    def forward(self, u: Tensor, memory: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Any]:
        """(B, L, D) -> (B, L, D). With `memory`, of `start` or of the last call, L = 1; -> also what to go on from."""
        x, z = self.enter(u).chunk(2, dim=2)  # (B, L, width) each
        before, state = (None, None) if memory is None else memory
        if before is None:
            x = self.convolve(x)
        else:
            x, before = self.convolve.step(before, x)
        x = F.silu(x).float()
        decay, enters, c = self._chosen(x)
        decay = torch.exp(decay)
        h = linear_scan(decay, enters) if state is None else decay * state.unsqueeze(1) + enters
        y = (h @ c.unsqueeze(3)).squeeze(3) + self.skip * x  # (B, L, width)
        out: Tensor = self.leave(y * F.silu(z))
        return out, (before, h[:, -1])

    def _chosen(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, width) -> d A, d B x, (B, L, width, N) each, and C (B, L, N)."""
        step, b, c = self.choose(x).float().split(self.parts, dim=2)  # (B, L, rank), (B, L, N) twice
        step = F.softplus(self.step_size(step).float())  # (B, L, width)
        enters = (step * x).unsqueeze(3) * b.unsqueeze(2)
        return step.unsqueeze(3) * -torch.exp(self.log_decay), enters, c

    def left_at_last(self, u: Tensor, lengths: Tensor) -> Tensor:
        """(B, L): what each event adds to C h at each row's last event, as a size, its mean over the channels."""
        x = F.silu(self.convolve(self.enter(u).chunk(2, dim=2)[0])).float()
        log_decay, enters, c = self._chosen(x)
        valid = (torch.arange(u.shape[1], device=u.device) < lengths[:, None])[:, :, None, None]  # (B, L, 1, 1)
        log_decay = log_decay * valid
        later = log_decay.flip(1).cumsum(dim=1).flip(1) - log_decay  # of the events after it
        left = enters * torch.exp(later) * last_position(c, lengths)[:, None, None]  # (B, L, width, N)
        return (left * valid).sum(dim=3).abs().mean(dim=2)


class Mamba4Rec(NextItemModule):
    """Mamba4Rec under any loss.

    Args:
        embedding_dim: D.
        num_layers: blocks; with more than one, each is added to what it was given.
        states: N, numbers that each channel remembers.
        kernel: events that the convolution reads.
        expand: channels over D.
        dropout: on the inputs and in each block.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 64,
        num_layers: Depth = 1,
        states: Size = 16,
        kernel: Size = 4,
        expand: Size = 2,
        dropout: DropShare = 0.2,
        **base: Any,
    ) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim, each = s.embedding_dim, range(s.num_layers)
        self.embedding = EventEmbedding(spec, dim, target_fields=self.uses_target_fields)
        self.drop, self.norm = Dropout(s.dropout), nn.LayerNorm(dim)
        self.spaces = nn.ModuleList(SelectiveStateSpace(dim, s.states, s.kernel, s.expand) for _ in each)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in each)
        self.expands = nn.ModuleList(nn.Linear(dim, 4 * dim) for _ in each)
        self.contracts = nn.ModuleList(nn.Linear(4 * dim, dim) for _ in each)
        self.feed_forward_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in each)
        self.scorer = TiedScorer(self.embedding.items)

    def encode(self, batch: Batch) -> Tensor:
        return self._through(self.norm(self.drop(self.embedding(batch))), [None] * len(self.spaces))[0]  # (B, L, D)

    def event_weights(self, batch: Batch) -> EventWeights:
        x = self.norm(self.drop(self.embedding(batch)))
        before, space = self._through(x, [None] * (len(self.spaces) - 1))[0], self.spaces[-1]
        assert isinstance(space, SelectiveStateSpace)
        return EventWeights.shares(
            space.left_at_last(before, batch.lengths), "what is left in the state of the last block"
        )

    def start(self, rows: int) -> State:
        return State(
            query=None, memory=[space.start(rows) for space in self.spaces if isinstance(space, SelectiveStateSpace)]
        )

    def step(self, state: State, event: Batch) -> State:
        x, memory = self._through(self.norm(self.embedding(event)), state.memory)
        return State(query=x.squeeze(1), memory=memory)

    def _through(self, x: Tensor, memory: list[Any]) -> tuple[Tensor, list[Any]]:
        """(B, L, D), and what as many blocks go on from -> what these make of it, and what to go on from."""
        after = []
        for number, (space, before) in enumerate(zip(self.spaces, memory, strict=False)):
            y, went_on = space(x, before)
            after.append(went_on)
            x = self.norms[number](self.drop(y) + x if len(self.spaces) > 1 else self.drop(y))
            inner = self.contracts[number](self.drop(F.gelu(self.expands[number](x))))
            x = self.feed_forward_norms[number](self.drop(inner) + x)
        return x, after
