"""DeepScorer: a network of its own on top of user state and item vector, instead of their product.

    score(u, i) = network([u ; v_i ; u * v_i])

He et al. 2017, "Neural Collaborative Filtering" (its feed-forward tower, with the product beside), and He et al. 2018,
"Outer Product-based Neural Collaborative Filtering" for the convolution, here over the three vectors side by side.
Rendle et al. 2020, "Neural Collaborative Filtering vs. Matrix Factorization Revisited", found such networks no better
than a well tuned product: `add_product` keeps it, so that the network has to learn only what it lacks.

What it costs. A product of N states and C items takes N C D multiplications, the network N C D H more, with H the width
of its first layer, and N C (1 + H) numbers are held for the backward pass. So full cross-entropy is for some thousand
items; beyond, take SampledSoftmax, BCE or GBCE. There is no table to multiply with (`linear_blocks` is None): fused
losses, ranks by products and their speed are off by themselves.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Count, Size, Sizes
from recsys_lab.models.blocks.chosen_scorer import ChosenScorer
from recsys_lab.models.blocks.item_table import ItemTable

PAIRS_AT_ONCE = 1 << 16
"""Of states and items, where `chunk` says nothing: at a width of 64 they take 16 MB."""

GRAPH_CHUNK = 1024


class DeepScorer(ChosenScorer):
    """See the top of this file.

    Args:
        hidden_dims: widths of the hidden layers. For the convolution the first one is its number of channels.
        network: `feed_forward`, or a 1-d `convolution` over the D numbers of the three vectors, then feed-forward.
        kernel_size: of the convolution.
        add_product: the score is that of the product plus that of the network.
        chunk: items that all states are scored with at once; None = as many as make about 65,000 pairs. It changes
            memory and speed, and no score.
    """

    def __init__(
        self,
        hidden_dims: Sizes = (64,),
        network: Literal["feed_forward", "convolution"] = "feed_forward",
        kernel_size: Size = 3,
        add_product: bool = False,
        chunk: Count | None = None,
    ) -> None:
        super().__init__()
        self.hidden_dims, self.network, self.kernel_size = tuple(hidden_dims), network, kernel_size
        self.add_product, self.chunk = add_product, chunk

    def attach(self, items: ItemTable) -> None:
        super().attach(items)
        dim, widths = items.embedding_dim, list(self.hidden_dims)
        self.convolution = None
        if self.network == "convolution":
            channels = widths.pop(0)
            self.convolution = nn.Conv1d(3, channels, self.kernel_size, padding="same")
            widths = [channels * dim, *widths, 1]
        else:
            # one matrix for each of the three: state and item go through theirs once, whatever the pairs
            first = widths.pop(0)
            self.of_state, self.of_item = nn.Linear(dim, first), nn.Linear(dim, first, bias=False)
            self.of_product = nn.Linear(dim, first, bias=False)
            widths = [first, *widths, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.numbers_per_score = dim + sum(widths)  # the product, and each layer

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        """(N, D) and ids (C,), (N, C) or a slice of them -> (N, C)."""
        if isinstance(items, slice):
            items = torch.arange(*items.indices(self.num_rows), device=state.device)
        # an exported graph has one number of parts, whatever the batch
        step = GRAPH_CHUNK if torch.compiler.is_exporting() else max(1, PAIRS_AT_ONCE // max(1, state.shape[0]))
        step = self.chunk or step
        parts = [self._pairs(state, part) for part in items.split(step, dim=-1)]
        return torch.cat(parts, dim=1)

    def _pairs(self, state: Tensor, items: Tensor) -> Tensor:
        """(N, D) and ids (C,) or (N, C) -> (N, C)."""
        distinct, place = items.unique(return_inverse=True) if items.ndim == 2 else (items, None)
        rows = self.items(distinct)  # (distinct, D): each is made once
        of_item = rows if place is None else rows[place]  # (C, D) or (N, C, D)
        product = state.unsqueeze(1) * of_item  # (N, C, D)
        if self.convolution is None:
            mapped = self.of_item(rows)
            x = self.of_product(product) + self.of_state(state).unsqueeze(1)
            x = x + (mapped if place is None else mapped[place])  # (N, C, H)
        else:
            three = torch.stack([state.unsqueeze(1).expand_as(product), of_item.expand_as(product), product], dim=2)
            x = self.convolution(three.flatten(0, 1)).flatten(1).unflatten(0, product.shape[:2])  # (N, C, channels D)
        for layer in self.layers:
            x = layer(F.relu(x))
        scores: Tensor = x.squeeze(-1)  # (N, C)
        return scores + product.sum(-1) if self.add_product else scores
