"""HSTU: attention without softmax, between gated linear layers; its logits know how far apart events lie.

    U, V, Q, K = SiLU(linear(norm(x)))
    A          = SiLU(Q K^T + bias of distance and time) / max_length, 0 at later events
    block(x)   = x + linear(norm(A V) * U)

Paper: Zhai et al. 2024, "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations". The defaults are those of its public experiments on MovieLens-1M.

What differs from the paper: the time of the prediction is read only where `query_time` says so (its code always reads
it); `decay` is a bias of ours; the loss is a separate choice (its code: sampled softmax with 128 negatives).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Positive, Size, check_divides
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout, KeysAndValues, Positions
from recsys_lab.models.blocks.relations import RelativePositions, TimeBuckets, TimeDecay, intervals
from recsys_lab.models.blocks.scoring import CosineScorer
from recsys_lab.models.lightning import NextItemModule


class TransductionUnit(nn.Module):
    """One block.

    Args:
        dim: D. num_heads: H. dropout: on what the output layer reads.
        positions: a bias of distances in events. time: a bias of intervals.
        divisor: of the attention weights.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float,
        positions: nn.Module | None,
        time: nn.Module | None,
        divisor: int,
    ) -> None:
        super().__init__()
        self.num_heads, self.divisor = num_heads, divisor
        self.positions, self.time = positions, time
        self.uvqk = nn.Linear(dim, 4 * dim, bias=False)
        nn.init.normal_(self.uvqk.weight, std=0.02)
        self.out = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.out.weight)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, seconds: Tensor | None) -> Tensor:
        """(B, L, D), (B, L, L) -> (B, L, D)."""
        gate, value, query, key = self._parts(x)
        weights = F.silu(self._logits(query, key, seconds)).tril() / self.divisor  # (B, H, L, L)
        return self._out(x, gate, weights @ value)

    def weights_at_last(self, x: Tensor, lengths: Tensor, seconds: Tensor | None) -> Tensor:
        """(B, H, L): how each row's last event weighs the events, which may be below 0; 0 at padding."""
        _, _, query, key = self._parts(x)
        weights = F.silu(self._logits(query, key, seconds)).tril()  # (B, H, L, L)
        return weights[torch.arange(len(x), device=x.device), :, lengths - 1]

    def step(self, x: Tensor, past: KeysAndValues | None, seconds: Tensor | None) -> tuple[Tensor, KeysAndValues]:
        """One more event (B, 1, D), and its intervals (B, 1, t) to those so far -> what `forward` gives at it, and keys
        and values with its own for the next one."""
        gate, value, query, key = self._parts(x)
        if past is not None:
            key, value = (torch.cat(pair, dim=2) for pair in zip(past, (key, value), strict=True))  # (B, H, t, D/H)
        weights = F.silu(self._logits(query, key, seconds)) / self.divisor  # (B, H, 1, t)
        return self._out(x, gate, weights @ value), (key, value)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """-> U (B, L, D), and V, Q, K, (B, H, L, D / H) each."""
        batch, length, dim = x.shape
        u, *vqk = F.silu(self.uvqk(F.layer_norm(x, (dim,), eps=1e-6))).chunk(4, dim=2)
        v, q, k = (part.view(batch, length, self.num_heads, -1).transpose(1, 2) for part in vqk)
        return u, v, q, k

    def _logits(self, query: Tensor, key: Tensor, seconds: Tensor | None) -> Tensor:
        """Of the newest Q of t events: (B, H, Q, t)."""
        logits = query @ key.transpose(2, 3)
        if self.positions is not None:
            logits = logits + self.positions(key.shape[2])[:, :, -query.shape[2] :]
        return logits if self.time is None else logits + self.time(seconds)

    def _out(self, x: Tensor, gate: Tensor, mixed: Tensor) -> Tensor:
        """(B, L, D) twice, (B, H, L, D / H) -> (B, L, D)."""
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        out: Tensor = self.out(self.dropout(gate * F.layer_norm(mixed, x.shape[2:], eps=1e-6)))
        return x + out


class HSTU(NextItemModule):
    """HSTU under any loss.

    Args:
        embedding_dim: D.
        num_layers: blocks.
        num_heads: attention heads; must divide D.
        dropout: on the inputs and in each block.
        bias: what is added to the logits: nothing (`none`), a number for each distance in events (`position`), that and
            one for each bucket of intervals (`time`, the paper's), or distances and a decay with time (`decay`).
        query_time: intervals are measured to the event that follows, at the end to the time of the prediction: it reads
            when the prediction is made, which is another task.
        num_buckets: of intervals.
        temperature: scores are cosines divided by it.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    query_time_of_each_target = True

    def __init__(
        self,
        embedding_dim: Size = 50,
        num_layers: Depth = 2,
        num_heads: Size = 1,
        dropout: DropShare = 0.2,
        bias: Literal["none", "position", "time", "decay"] = "time",
        query_time: bool = False,
        num_buckets: Size = 128,
        temperature: Positive = 0.05,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_divides(self, "embedding_dim", embedding_dim, "num_heads", num_heads)
        self.reads_time = bias in ("time", "decay")
        self.uses_query_time = query_time and self.reads_time
        self.scale = math.sqrt(embedding_dim)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        self.embedding = EventEmbedding(spec, s.embedding_dim, target_fields=self.uses_target_fields)
        self.positions = Positions(spec.max_length, s.embedding_dim)
        self.drop = Dropout(s.dropout)
        self.blocks = nn.ModuleList(self._block(spec) for _ in range(s.num_layers))
        self.scorer = CosineScorer(self.embedding.items, s.temperature)

    def _block(self, spec: DataSpec) -> TransductionUnit:
        s = self.settings
        positions = None if s.bias == "none" else RelativePositions(spec.max_length, s.num_heads)
        time: nn.Module | None = None
        if self.reads_time:
            buckets, decay = s.bias == "time", spec.mean_gap_seconds
            time = TimeBuckets(s.num_buckets, s.num_heads) if buckets else TimeDecay(s.num_heads, decay)
        return TransductionUnit(s.embedding_dim, s.num_heads, s.dropout, positions, time, spec.max_length)

    def encode(self, batch: Batch) -> Tensor:
        x, seconds = self._inputs(batch)
        for block in self.blocks:
            x = block(x, seconds)
        return F.normalize(x, dim=2)

    def event_weights(self, batch: Batch) -> EventWeights:
        (x, seconds), found = self._inputs(batch), []
        for block in self.blocks:
            assert isinstance(block, TransductionUnit)
            found.append(block.weights_at_last(x, batch.lengths, seconds))
            x = block(x, seconds)
        return EventWeights.of_attention(found)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """(B, L, D), and the intervals (B, L, L) where they are read."""
        x = self.embedding(batch) * self.scale
        x = self.drop(x + self.positions(batch.lengths, x.shape[1]))
        return x, intervals(batch, to_next=self.uses_query_time) if self.reads_time else None

    def start(self, rows: int) -> State | None:
        """Keys, values and times of earlier events are kept while the window is not full; nothing goes on where the
        states depend on the time of the event after them."""
        return None if self.uses_query_time else State(query=None, memory=(0, [None] * len(self.blocks), None))

    def step(self, state: State, event: Batch) -> State | None:
        place, past, times = state.memory
        if place == len(self.positions.weight):
            return None
        times = event.timestamps if times is None else torch.cat([times, event.timestamps], dim=1)  # (B, t)
        seconds = (times[:, -1:] - times).clamp_min(0).float().unsqueeze(1)  # (B, 1, t)
        x, kept = self.embedding(event) * self.scale + self.positions.weight[place], []  # (B, 1, D)
        for block, before in zip(self.blocks, past, strict=True):
            assert isinstance(block, TransductionUnit)
            x, own = block.step(x, before, seconds)
            kept.append(own)
        return State(query=F.normalize(x, dim=2).squeeze(1), memory=(place + 1, kept, times))
