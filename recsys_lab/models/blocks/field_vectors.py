"""Fields as vectors: one small module for each kind, from the tensors that `contracts.Field` describes to D numbers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from recsys_lab.batch import Field, Kind
from recsys_lab.words import PAD_ID

FED: tuple[Kind, ...] = ("categorical", "multi", "numeric", "vector")
"""Kinds of fields that models take: all but text."""


class MeanOfRows(nn.Embedding):
    """The mean of the vectors of several values: (..., width) -> (..., D); zeros where there is none."""

    def forward(self, rows: Tensor) -> Tensor:
        count = (rows != PAD_ID).sum(-1, keepdim=True).clamp_min(1)  # (..., 1)
        return super().forward(rows).sum(-2) / count


def field_vectors(field: Field, embedding_dim: int) -> nn.Module:
    """What turns the tensors of a field into (..., D); zeros, as at padding, become zeros.

    A categorical value has a vector; several values have the mean of theirs; a number, with its flag for missing, and a
    vector go through a linear map.
    """
    if field.kind in ("categorical", "multi"):
        table = nn.Embedding if field.kind == "categorical" else MeanOfRows
        return table(field.size, embedding_dim, padding_idx=PAD_ID)
    return nn.Linear(2 if field.kind == "numeric" else field.size, embedding_dim, bias=False)


def reset(modules: Iterable[nn.Module], std: float) -> None:
    """Draws the weights anew, such that each vector has this standard deviation for inputs of standard deviation 1."""
    for module in modules:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            with torch.no_grad():
                module.weight[PAD_ID].zero_()
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std * module.in_features**-0.5)
