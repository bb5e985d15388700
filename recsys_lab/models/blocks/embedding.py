"""EventEmbedding: one vector per event, the sum of the vectors of its item, its fields and its user's fields."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.blocks.field_vectors import FED, field_vectors, reset
from recsys_lab.models.blocks.item_parts import ItemField
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.blocks.target_fields import target_at_each_position


class EventEmbedding(nn.Module):
    """item + fields of the event + fields of the user (the same at each position) -> (B, L, D).

    The fields of the items are part of `self.items`, the table that the scorer shares.

    Args:
        spec: table sizes, and which fields there are.
        embedding_dim: D.
        std: of the initial vectors. Tied output logits start near zero with a small one.
        fields: names of the event fields to add; None = all.
        target_fields: names of event fields whose value of the *next* event is added too: only those that are known at
            query time, and only where the model says so (`uses_target_fields`).
    """

    def __init__(
        self,
        spec: DataSpec,
        embedding_dim: int,
        std: float = 0.02,
        fields: Sequence[str] | None = None,
        target_fields: Sequence[str] = (),
    ) -> None:
        super().__init__()
        of_event = spec.fields_of("event", *FED)
        self.event_fields = [field for field in of_event if fields is None or field.name in fields]
        self.user_fields = spec.fields_of("user", *FED)
        self.target_fields = [field for field in of_event if field.name in target_fields]
        self.items = ItemTable(spec.num_rows, embedding_dim)
        chosen = [*self.event_fields, *self.user_fields, *self.target_fields]
        self.fields = nn.ModuleList(field_vectors(field, embedding_dim) for field in chosen)
        self.items.reset(std)
        reset(self.fields, std)
        self.items.add([ItemField(f, spec.num_rows, embedding_dim, std) for f in spec.fields_of("item", *FED)])

    def forward(self, batch: Batch) -> Tensor:
        x: Tensor = self.items(batch.item_ids)  # (B, L, D)
        if not len(self.fields):
            return x
        vectors = iter(self.fields)
        for field in self.event_fields:
            x = x + next(vectors)(batch.event[field.name])
        for field in self.user_fields:
            x = x + next(vectors)(batch.user[field.name]).unsqueeze(1)
        for field in self.target_fields:
            x = x + next(vectors)(target_at_each_position(batch, field.name))
        return x
