"""EventEmbedding: one vector per event, the sum of the embeddings of its fields."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.words import PAD_ID


class EventEmbedding(nn.Module):
    """item + event type (where the data has them) -> (B, L, D).

    Args:
        spec: table sizes.
        embedding_dim: D.
        std: of the initial item vectors. Tied output logits start near zero with a small one.
        use_event_types: add the embedding of the event's type when the data has types.
    """

    def __init__(self, spec: DataSpec, embedding_dim: int, std: float = 0.02, use_event_types: bool = True) -> None:
        super().__init__()
        self.items = nn.Embedding(spec.num_rows, embedding_dim, padding_idx=PAD_ID)
        self.event_types: nn.Embedding | None = None
        if use_event_types and spec.num_event_types:
            self.event_types = nn.Embedding(spec.num_event_types + 1, embedding_dim, padding_idx=PAD_ID)
        for table in (self.items, self.event_types):
            if table is not None:
                nn.init.normal_(table.weight, std=std)
                with torch.no_grad():
                    table.weight[PAD_ID].zero_()

    def forward(self, batch: Batch) -> Tensor:
        x: Tensor = self.items(batch.item_ids)  # (B, L, D)
        if self.event_types is not None:
            x = x + self.event_types(batch.event_types)
        return x
