"""hidden -> scores: the inner product with the item table, for all items or for given candidates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.contracts import Scorer
from recsys_lab.ops.gathered_scores import gathered_scores


class TiedScorer(Scorer):
    """score(h, i) = <h, e_i> + b_i, with e_i the *input* embedding of item i (tied weights).

    Args:
        items: the item table, shared with the encoder's input.
        bias: learn a bias per item.
    """

    def __init__(self, items: nn.Embedding, bias: bool = False) -> None:
        super().__init__()
        self.items = items
        self.bias = nn.Parameter(torch.zeros(items.num_embeddings)) if bias else None

    def item_weight(self) -> Tensor:
        return self.items.weight

    def item_bias(self) -> Tensor | None:
        return self.bias

    def all_items(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.items.weight, self.bias)  # (N, V)

    def candidates(self, hidden: Tensor, item_ids: Tensor) -> Tensor:
        weight, sparse = self.items.weight, self.items.sparse
        if item_ids.ndim == 1:
            scores = hidden @ F.embedding(item_ids, weight, sparse=sparse).T  # (N, C), one matrix product
        else:
            scores = gathered_scores(hidden, weight, item_ids, sparse)  # (N, C)
        return scores if self.bias is None else scores + self.bias[item_ids]
