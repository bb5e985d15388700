"""NextItNet: a stack of dilated causal convolutions with residual connections.

    block(x) = x + ReLU(norm(conv of dilation 2 l (ReLU(norm(conv of dilation l (x))))))

Paper: Yuan et al. 2019, "A Simple Convolutional Generative Network for Next Item Recommendation", its block (b).

What differs from the paper: scores are those of the tied item table after a linear layer (the paper: a softmax layer of
its own), and dropout on the inputs is a setting, which the paper has not.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size, Sizes
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.causal_conv import CausalConv
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule


class NextItNet(NextItemModule):
    """NextItNet under any loss.

    Args:
        embedding_dim: D.
        kernel: events that a convolution reads.
        dilations: of the first convolution of each block; that of the second is twice as wide.
        repeats: how often the list of blocks is repeated.
        dropout: on the inputs.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 64,
        kernel: Size = 3,
        dilations: Sizes = (1, 4),
        repeats: Depth = 2,
        dropout: DropShare = 0.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim = s.embedding_dim
        self.embedding = EventEmbedding(spec, dim, std=dim**-0.5, target_fields=self.uses_target_fields)
        self.drop = Dropout(s.dropout)
        each = [dilation for dilation in [*s.dilations] * s.repeats for dilation in (dilation, 2 * dilation)]
        self.convolutions = nn.ModuleList(CausalConv(dim, dim, s.kernel, dilation) for dilation in each)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in each)
        self.project = nn.Linear(dim, dim)
        self.scorer = TiedScorer(self.embedding.items)

    def encode(self, batch: Batch) -> Tensor:
        return self._through(self.drop(self.embedding(batch)))[0]  # (B, L, D)

    def start(self, rows: int) -> State:
        """Memory: of each convolution the newest inputs that it still reaches."""
        return State(query=None, memory=[conv.start(rows) for conv in self._convolutions()])

    def step(self, state: State, event: Batch) -> State:
        x, memory = self._through(self.embedding(event), state.memory)
        return State(query=x.squeeze(1), memory=memory)

    def _convolutions(self) -> list[CausalConv]:
        return [conv for conv in self.convolutions if isinstance(conv, CausalConv)]

    def _through(self, x: Tensor, memory: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """(B, L, D) -> (B, L, D). With `memory` L = 1; -> also what to go on from."""
        after: list[Tensor] = []
        inner = x
        for number, convolution in enumerate(self._convolutions()):
            if memory is None:
                inner = convolution(inner)
            else:
                inner, kept = convolution.step(memory[number], inner)
                after.append(kept)
            inner = F.relu(self.norms[number](inner))
            if number % 2:  # the second of a block
                x = inner = x + inner
        hidden: Tensor = self.project(x)
        return hidden, after
