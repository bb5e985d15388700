"""RNN: the plain recurrent network, the simplest model that reads a whole history in order.

Paper: Elman 1990, "Finding Structure in Time". `encoders/lstm.py` is the same network of LSTM cells.

What differs from the paper: gradients go through the whole window (the paper: through one step), several layers and
dropout, a linear layer that brings a wider state back to D, and tied output scores.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule


class RNN(NextItemModule):
    """A recurrent network of Elman's cells (tanh) under any loss.

    Args:
        embedding_dim: D, width of the item table.
        hidden_dim: width of the recurrent state; None = D.
        num_layers: stacked layers.
        dropout: on the inputs, between layers and on the states.
        item_bias: learn a bias per item.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    network: type[nn.RNN | nn.LSTM] = nn.RNN

    def __init__(
        self,
        embedding_dim: Size = 64,
        hidden_dim: Size | None = None,
        num_layers: Depth = 1,
        dropout: DropShare = 0.2,
        item_bias: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim, width = s.embedding_dim, s.hidden_dim or s.embedding_dim
        self.embedding = EventEmbedding(spec, dim, std=dim**-0.5, target_fields=self.uses_target_fields)
        self.drop = Dropout(s.dropout)
        between = s.dropout if s.num_layers > 1 else 0.0
        self.rnn = self.network(
            input_size=dim, hidden_size=width, num_layers=s.num_layers, batch_first=True, dropout=between
        )
        self.project = nn.Linear(width, dim) if width != dim else nn.Identity()
        self.scorer = TiedScorer(self.embedding.items, bias=s.item_bias)

    def encode(self, batch: Batch) -> Tensor:
        states, _ = self._states(self.drop(self.embedding(batch)), None)
        hidden: Tensor = self.project(self.drop(states))  # (B, L, D)
        return hidden

    def start(self, rows: int) -> State:
        return State(query=None, memory=self._zeros(rows))

    def step(self, state: State, event: Batch) -> State:
        states, memory = self._states(self.embedding(event), state.memory)
        return State(query=self.project(states).squeeze(1), memory=memory)

    def _states(self, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """(B, L, D) -> (B, L, hidden_dim), and what to go on from; right padding comes after all that counts."""
        with torch.autocast("cpu", enabled=False):  # most CPUs have no bfloat16 LSTM
            states, memory = self.rnn(x, memory)
        return states, memory

    def _zeros(self, rows: int) -> Any:
        return torch.zeros(self.rnn.num_layers, rows, self.rnn.hidden_size, device=self.device)
