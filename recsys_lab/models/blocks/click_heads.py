"""Heads of click-through: what is known of the user and of each shown item -> one logit for each shown item.

`DotHead` is a product, `DeepHead` a network over user and item, and `TargetAttention` the head of DIN: Zhou et al.
2018, "Deep Interest Network for Click-Through Rate Prediction".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import DropShare, Size, Sizes
from recsys_lab.config import Configurable
from recsys_lab.models.blocks.layers import Dropout


class ClickHead(Configurable, nn.Module, ABC):
    """Sizes come with `build`, called once."""

    reads_history: bool = False
    """Looks at each event of the history, and not only at the state behind the last one."""

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def build(self, embedding_dim: int) -> None:
        """embedding_dim: D, of states and of the vectors of items."""

    @abstractmethod
    def forward(self, query: Tensor, shown: Tensor, history: Tensor | None, valid_mask: Tensor) -> Tensor:
        """Logits (B, C).

        Args:
            query: (B, D), the state after the user's last event.
            shown: (B, C, D), the vector of each shown item, its fields included.
            history: (B, L, D), a vector of each event, where `reads_history`.
            valid_mask: (B, L) bool, True = a real event.
        """


class DotHead(ClickHead):
    """<query, shown> + <w, shown>: what the user and the item have in common, and what the item is by itself."""

    def build(self, embedding_dim: int) -> None:
        self.alone = nn.Parameter(torch.zeros(embedding_dim))

    def forward(self, query: Tensor, shown: Tensor, history: Tensor | None, valid_mask: Tensor) -> Tensor:
        return torch.bmm(shown, (query + self.alone).unsqueeze(-1)).squeeze(-1)


class DeepHead(ClickHead):
    """network([query ; shown ; query * shown]).

    Args:
        hidden_dims: widths of the hidden layers.
        dropout: after each of them.
    """

    def __init__(self, hidden_dims: Sequence[Size] = (64, 32), dropout: DropShare = 0.1) -> None:
        super().__init__()
        self.hidden_dims, self.dropout = tuple(hidden_dims), dropout

    def build(self, embedding_dim: int) -> None:
        self.layers = Layers([3 * embedding_dim, *self.hidden_dims, 1], self.dropout)

    def forward(self, query: Tensor, shown: Tensor, history: Tensor | None, valid_mask: Tensor) -> Tensor:
        user = query.unsqueeze(1).expand_as(shown)
        found: Tensor = self.layers(torch.cat([user, shown, user * shown], dim=-1)).squeeze(-1)
        return found


class TargetAttention(ClickHead):
    """DIN: each shown item weighs the events of the history by itself, and a network reads their weighted sum.

    The weight of event j for item i is network([e_j ; v_i ; e_j - v_i ; e_j * v_i]), and the weights are not
    normalised, as in the paper. What differs: the activations are ReLU in place of Dice, and the state of the encoder
    stands beside the sum, so that the head goes over any encoder.

    Args:
        attention_dims: widths of the hidden layers of the weight.
        hidden_dims: of the network over [sum ; shown ; state].
        history: what stands for an event: the vector of its item, as in the paper, or the encoder's state there.
        dropout: after each hidden layer of the second network.
    """

    reads_history = True

    def __init__(
        self,
        attention_dims: Sizes = (36,),
        hidden_dims: Sequence[Size] = (64, 32),
        history: Literal["items", "states"] = "items",
        dropout: DropShare = 0.1,
    ) -> None:
        super().__init__()
        self.attention_dims, self.hidden_dims = tuple(attention_dims), tuple(hidden_dims)
        self.history, self.dropout = history, dropout

    def build(self, embedding_dim: int) -> None:
        first = self.attention_dims[0]
        # [e ; v ; e - v ; e * v] through one layer: the difference is part of the first two
        self.of_event, self.of_shown = nn.Linear(embedding_dim, first), nn.Linear(embedding_dim, first, bias=False)
        self.of_product = nn.Linear(embedding_dim, first, bias=False)
        self.weight = Layers([*self.attention_dims, 1], 0.0)
        self.layers = Layers([3 * embedding_dim, *self.hidden_dims, 1], self.dropout)

    def forward(self, query: Tensor, shown: Tensor, history: Tensor | None, valid_mask: Tensor) -> Tensor:
        assert history is not None
        product = shown.unsqueeze(2) * history.unsqueeze(1)  # (B, C, L, D)
        x = self.of_product(product) + self.of_event(history).unsqueeze(1) + self.of_shown(shown).unsqueeze(2)
        weight = self.weight(F.relu(x)).squeeze(-1) * valid_mask.unsqueeze(1)  # (B, C, L)
        interest = torch.bmm(weight, history)  # (B, C, D)
        user = query.unsqueeze(1).expand_as(shown)
        found: Tensor = self.layers(torch.cat([interest, shown, user], dim=-1)).squeeze(-1)
        return found


class Layers(nn.Module):
    """Linear layers with ReLU and dropout between them. widths: of input, hidden layers and output."""

    def __init__(self, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for place, layer in enumerate(self.layers):
            x = layer(self.dropout(F.relu(x)) if place else x)
        return x
