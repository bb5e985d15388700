"""Several vectors of one thing -> one: side by side through a linear map, or each weighed by what all of them say. Both
start as the sum, so that a comparison with it begins at one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Fusion = Literal["sum", "gate", "concat"]


class Concat(nn.Module):
    """n vectors (..., D) -> W [v_1; ..; v_n], (..., D). At first W is n unit matrices side by side.

    Args:
        number: n. embedding_dim: D.
    """

    def __init__(self, number: int, embedding_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(number * embedding_dim, embedding_dim, bias=False)
        with torch.no_grad():
            self.project.weight.copy_(torch.eye(embedding_dim).repeat(1, number))

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        joined: Tensor = self.project(torch.cat(list(vectors), dim=-1))
        return joined


class Gate(nn.Module):
    """n vectors (..., D) -> the sum of 2 sigmoid(U_i [v_1; ..; v_n] + b_i) * v_i, (..., D). U and b are zero at first.

    Arevalo et al. 2017, "Gated Multimodal Units for Information Fusion". What differs: a gate for each of n vectors
    instead of one that shares two out, the factor 2, and no tanh: the vectors come from linear maps of their own.

    Args:
        number: n. embedding_dim: D.
    """

    def __init__(self, number: int, embedding_dim: int) -> None:
        super().__init__()
        self.gates = nn.Linear(number * embedding_dim, number * embedding_dim)
        nn.init.zeros_(self.gates.weight)
        nn.init.zeros_(self.gates.bias)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        joined = torch.cat(list(vectors), dim=-1)  # (..., n D)
        weighed: Tensor = 2 * torch.sigmoid(self.gates(joined)) * joined
        return weighed.unflatten(-1, (len(vectors), -1)).sum(-2)
