"""EventEmbedding: one vector per event, the sum of the vectors of its item, its fields and its user's fields."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.blocks.field_vectors import FED, field_vectors, reset
from recsys_lab.models.blocks.item_parts import ItemField
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.blocks.joining import Concat, Fusion
from recsys_lab.models.blocks.sharded_table import item_table
from recsys_lab.models.blocks.target_fields import target_at_each_position
from recsys_lab.models.blocks.time_features import TimeFeature
from recsys_lab.models.blocks.user_token import without_token


class EventEmbedding(nn.Module):
    """item + fields of the event + fields of the user (the same at each position) -> (B, L, D).

    The fields of the items are part of `self.items`, the table that the scorer shares. `extend` changes how they join.

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
        self.std = std
        of_event = spec.fields_of("event", *FED)
        self.event_fields = [field for field in of_event if fields is None or field.name in fields]
        self.user_fields = spec.fields_of("user", *FED)
        self.target_fields = [field for field in of_event if field.name in target_fields]
        self.items = item_table(spec.num_rows, embedding_dim)
        chosen = [*self.event_fields, *self.user_fields, *self.target_fields]
        self.fields = nn.ModuleList(field_vectors(field, embedding_dim) for field in chosen)
        self.times, self.user_first = nn.ModuleList(), False
        self.join: Concat | None = None
        self.items.reset(std)
        reset(self.fields, std)
        self.items.add([ItemField(f, spec.num_rows, embedding_dim, std) for f in spec.fields_of("item", *FED)])

    def extend(
        self,
        spec: DataSpec,
        fields: Literal["sum", "concat"] = "sum",
        user_first: bool = False,
        items: Fusion = "sum",
        time: Sequence[TimeFeature] = (),
    ) -> None:
        """What `--model.inputs` says; see `Inputs`.

        Args:
            spec: that of the data.
            user_first: the user's fields are the vector of a token at position 0, and added nowhere else.
            time: copied: two tables of one model share no weights.
        """
        dim = self.items.embedding_dim
        self.times.extend(copy.deepcopy(feature) for feature in time)
        for feature in self.times:
            assert isinstance(feature, TimeFeature)
            feature.build(spec, dim, self.std)
        self.user_first = user_first
        self.items.join_parts(items)
        if fields == "concat":
            self.join = Concat(len(self.fields) + len(self.times) + 1 - user_first * len(self.user_fields), dim)

    def forward(self, batch: Batch) -> Tensor:
        """-> (B, L, D); 0 at padding.

        Raises:
            RecsysLabError: where the user has a token, and the batch has none.
        """
        if not self.user_first:
            return self._events(batch)
        events = self._events(without_token(batch))  # (B, L - 1, D)
        return torch.cat([self._user(batch).unsqueeze(1), events], dim=1)

    def distinct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """-> (R, D) vectors and (B, L) which of them each event has: together what `forward` gives. Where an event is
        its item alone, and items are fewer than events, they are the table's rows; not where a subclass makes vectors
        in another way, or a hook does, as explanations exchange them."""
        alone = not (self.fields or self.times or self.join or self.user_first) and self.items.is_stored
        alone = alone and type(self) is EventEmbedding and type(self.items) is ItemTable
        hooks = [hook for part in (self, self.items) for hook in (part._forward_hooks, part._forward_pre_hooks)]
        if alone and not any(hooks) and self.items.num_embeddings <= batch.item_ids.numel():
            return self.items.weight, batch.item_ids
        x = self(batch)  # (B, L, D)
        return x.flatten(0, 1), torch.arange(x.shape[0] * x.shape[1], device=x.device).view(x.shape[:2])

    def _events(self, batch: Batch) -> Tensor:
        return self._joined(self.items(batch.item_ids), self._parts(batch))

    def split(self, batch: Batch) -> dict[str, Tensor]:
        """What the vectors of the events are made of, by name, for whoever asks what each part does: `item` and
        `item.NAME` as the item table splits them, fields of the event by their name, `user.NAME`, `target.NAME` and
        `time.CLASS`. (B, L, D) each; of the user (B, 1, D), and none where the user has a token."""
        names = [field.name for field in self.event_fields]
        names += [] if self.user_first else [f"user.{field.name}" for field in self.user_fields]
        names += [f"target.{field.name}" for field in self.target_fields]
        names += [f"time.{type(feature).__name__}" for feature in self.times]
        return self.items.split(batch.item_ids) | dict(zip(names, self._parts(batch), strict=True))

    def joined(self, split: dict[str, Tensor]) -> Tensor:
        """What `split` took apart -> (B, L, D)."""
        of_item = [name for name in split if name == "item" or name.startswith("item.")]
        x = self.items.joined([split[name] for name in of_item])
        return self._joined(x, [split[name] for name in split if name not in of_item])

    def _joined(self, x: Tensor, parts: list[Tensor]) -> Tensor:
        if self.join is not None:
            joined: Tensor = self.join([x, *(part.expand_as(x) for part in parts)])
            return joined
        for part in parts:
            x = x + part
        return x

    def _parts(self, batch: Batch) -> list[Tensor]:
        """(B, L, D) or (B, 1, D) each: what is added to the vector of the item."""
        of_event, of_user, of_target = self._vectors()
        parts = [vectors(batch.event[f.name]) for f, vectors in zip(self.event_fields, of_event, strict=True)]
        if not self.user_first:
            users = zip(self.user_fields, of_user, strict=True)
            parts += [vectors(batch.user[f.name]).unsqueeze(1) for f, vectors in users]
        targets = zip(self.target_fields, of_target, strict=True)
        parts += [vectors(target_at_each_position(batch, f.name)) for f, vectors in targets]
        return parts + [feature(batch) for feature in self.times]

    def _user(self, batch: Batch) -> Tensor:
        """(B, D): the vector of the user's token."""
        of_user = zip(self.user_fields, self._vectors()[1], strict=True)
        return torch.stack([vectors(batch.user[f.name]) for f, vectors in of_user]).sum(0)

    def _vectors(self) -> tuple[list[nn.Module], list[nn.Module], list[nn.Module]]:
        """Of the fields of the event, of the user, and of the event to predict."""
        first, every = len(self.event_fields), list(self.fields)
        last = first + len(self.user_fields)
        return every[:first], every[first:last], every[last:]
