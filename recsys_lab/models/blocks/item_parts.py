"""What an ItemTable adds to the vectors of the ids: fields of the items, and vectors of the user's own."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from recsys_lab.contracts import Field
from recsys_lab.models.blocks.field_vectors import field_vectors, reset

VectorsMode = Literal["frozen", "init", "delta", "concat"]


class ItemField(nn.Module):
    """Adds the vector of a field's value.

    Args:
        field: of the items.
        num_rows: V.
        embedding_dim: D.
        std: of the vectors at first.
    """

    from_data = ("values",)
    values: Tensor  # (V, ...) as `contracts.Field` says; in the checkpoint

    def __init__(self, field: Field, num_rows: int, embedding_dim: int, std: float) -> None:
        super().__init__()
        self.name = field.name
        self.vectors = field_vectors(field, embedding_dim)
        reset([self.vectors], std)
        coded = field.kind in ("categorical", "multi")
        shape = {"multi": (field.width,), "vector": (field.size,), "numeric": (2,)}.get(field.kind, ())
        self.register_buffer("values", torch.zeros(num_rows, *shape, dtype=torch.int64 if coded else torch.float32))

    def vector(self, item_ids: Tensor) -> Tensor:
        """(...) ids -> (..., D)."""
        found: Tensor = self.vectors(self.values[item_ids])
        return found

    def forward(self, rows: Tensor, item_ids: Tensor) -> Tensor:
        return rows + self.vector(item_ids)


class OwnVectors(nn.Module):
    """Vectors of the user's own, by a linear map to D numbers.

    `frozen`: in place of the vector of the id, which only items without a vector keep. `delta`: beside it; it starts at
    zero. `concat`: both, side by side, go through one linear map.

    Args:
        mode: as above.
        num_rows: V.
        width: numbers of a vector.
        embedding_dim: D.
    """

    from_data = ("vectors", "has_vector")
    vectors: Tensor  # (V, width); zeros where an item has none
    has_vector: Tensor  # (V,) bool

    def __init__(self, mode: VectorsMode, num_rows: int, width: int, embedding_dim: int) -> None:
        super().__init__()
        self.mode = mode
        inputs = width + embedding_dim if mode == "concat" else width
        self.project = nn.Linear(inputs, embedding_dim, bias=False)
        self.register_buffer("vectors", torch.zeros(num_rows, width))
        self.register_buffer("has_vector", torch.zeros(num_rows, dtype=torch.bool))

    def forward(self, rows: Tensor, item_ids: Tensor) -> Tensor:
        own = self.vectors[item_ids]  # (..., width)
        if self.mode == "concat":
            out: Tensor = self.project(torch.cat([rows, own], dim=-1))
            return out
        if self.mode == "frozen":
            rows = rows * ~self.has_vector[item_ids].unsqueeze(-1)
        return rows + self.project(own)
