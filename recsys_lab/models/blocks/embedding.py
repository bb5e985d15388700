"""EventEmbedding: one vector per event, the sum of the embeddings of its fields."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.words import PAD_ID


class EventEmbedding(nn.Module):
    """item + the categorical fields of the event -> (B, L, D).

    Args:
        spec: table sizes.
        embedding_dim: D.
        std: of the initial item vectors. Tied output logits start near zero with a small one.
        fields: names of the event fields to add; None = all.
    """

    def __init__(
        self, spec: DataSpec, embedding_dim: int, std: float = 0.02, fields: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.items = nn.Embedding(spec.num_rows, embedding_dim, padding_idx=PAD_ID)
        self.fields = nn.ModuleDict(
            {
                field.name: nn.Embedding(field.size, embedding_dim, padding_idx=PAD_ID)
                for field in spec.fields_of("event", "categorical")
                if fields is None or field.name in fields
            }
        )
        for table in (self.items, *self.fields.values()):
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=std)
            with torch.no_grad():
                table.weight[PAD_ID].zero_()

    def forward(self, batch: Batch) -> Tensor:
        x: Tensor = self.items(batch.item_ids)  # (B, L, D)
        for name, table in self.fields.items():
            x = x + table(batch.event[name])
        return x
