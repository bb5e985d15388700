"""ItemTable: one vector for each item, the same at the input and, by its TiedScorer, in the scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.contracts import ItemBlock, Scorer
from recsys_lab.models.blocks.item_parts import ItemField
from recsys_lab.models.blocks.joining import Concat, Fusion, Gate
from recsys_lab.ops.gathered_scores import gathered_scores
from recsys_lab.ops.shards import for_rows_of_block
from recsys_lab.words import PAD_ID, RecsysLabError

if TYPE_CHECKING:
    from typing import Self

BLOCK_ROWS = 1 << 16
"""Rows of a block, where rows have to be made."""


class ItemTable(nn.Embedding):
    """A vector of each item's id, which is a plain `nn.Embedding`; and whatever its parts add (`item_parts.py`): fields
    of the items, vectors of the user's own.

    With parts the vector of an item without training events is what they say: its id has learned nothing, and
    `forget_untrained` makes it zero.

    Args:
        num_rows: V; row 0 is padding, and stays zero.
        embedding_dim: D.
    """

    def __init__(self, num_rows: int, embedding_dim: int) -> None:
        super().__init__(num_rows, embedding_dim, padding_idx=PAD_ID)
        self._without_parts()

    def _without_parts(self) -> None:
        self.parts = nn.ModuleList()
        self.join: Concat | Gate | None = None
        self._kept: tuple[Any, dict[tuple[int, int], Tensor]] = (None, {})

    def reset(self, std: float) -> None:
        """Draws the vectors of the ids anew."""
        nn.init.normal_(self.weight, std=std)
        with torch.no_grad():
            self.weight[PAD_ID].zero_()

    @property
    def is_plain(self) -> bool:
        return not len(self.parts)

    def forward(self, item_ids: Tensor) -> Tensor:
        """(...) ids -> (..., D). Where a training step has more ids than there are items, each row is made once."""
        if not self.training or self.is_plain or self.sparse or item_ids.numel() <= self.num_embeddings:
            return self._rows(item_ids)
        return F.embedding(item_ids, self._rows(torch.arange(self.num_embeddings, device=item_ids.device)))

    def _rows(self, item_ids: Tensor) -> Tensor:
        """(...) ids -> (..., D), each made for itself."""
        return self._with_parts(self.id_rows(item_ids), item_ids)

    def id_rows(self, item_ids: Tensor) -> Tensor:
        """(...) ids -> (..., D): the vectors of the ids alone."""
        return super().forward(item_ids)

    def _with_parts(self, rows: Tensor, item_ids: Tensor) -> Tensor:
        if self.join is None:
            for part in self.parts:
                rows = part(rows, item_ids)
            return rows
        return self.joined(list(self._split(rows, item_ids).values()))

    def split(self, item_ids: Tensor) -> dict[str, Tensor]:
        """(...) ids -> (..., D) each: the vector of the id, `item`, and what each field adds to it, `item.NAME`. `item`
        alone has all of it where vectors of the user's own stand in the sum, which can take from the fields before
        them."""
        if self.join is None and not all(isinstance(part, ItemField) for part in self.parts):
            return {"item": self(item_ids)}
        return self._split(self.id_rows(item_ids), item_ids)

    def _split(self, rows: Tensor, item_ids: Tensor) -> dict[str, Tensor]:
        fields = [part for part in self.parts if isinstance(part, ItemField)]
        for part in self.parts:
            if not isinstance(part, ItemField):
                rows = part(rows, item_ids)
        return {"item": rows, **{f"item.{field.name}": field.vector(item_ids) for field in fields}}

    def joined(self, split: Sequence[Tensor]) -> Tensor:
        """What `split` took apart, (..., D) each -> (..., D)."""
        if self.join is not None:
            joined: Tensor = self.join(split)
            return joined
        rows, *fields = split
        for field in fields:
            rows = rows + field
        return rows

    @property
    def is_stored(self) -> bool:
        """`weight` has the row of each item, as it is."""
        return self.is_plain

    def own_block(self) -> ItemBlock | None:
        """See `Scorer.own_block`."""
        return None

    @property
    def num_blocks(self) -> int:
        """In how many blocks `weight_block` gives the table: one, where its rows are there already."""
        return 1 if self.is_plain else math.ceil(self.num_embeddings / BLOCK_ROWS)

    def blocks(self) -> Iterator[slice]:
        """Ids of the blocks."""
        step = math.ceil(self.num_embeddings / self.num_blocks)
        for start in range(0, self.num_embeddings, step):
            yield slice(start, min(start + step, self.num_embeddings))

    def weight_block(self, items: slice) -> Tensor:
        """-> (n, D). Where rows have to be made, those that evaluation asks for are kept for its next batch."""
        if self.is_plain:
            return self.weight if items == slice(0, self.num_embeddings) else self.weight[items]
        start, stop, _ = items.indices(self.num_embeddings)
        place = torch.arange(start, stop, device=self.weight.device)
        if self.training or torch.is_grad_enabled():
            return self._rows(place)
        held = [tensor for tensor in (*self.parameters(), *self.buffers()) if not tensor.is_inference()]
        made_of = tuple((tensor.data_ptr(), tensor._version) for tensor in held)
        if self._kept[0] != made_of:
            self._kept = (made_of, {})
        kept = self._kept[1]
        if (start, stop) not in kept:
            kept[start, stop] = self._rows(place)
        return kept[start, stop]

    def train(self, mode: bool = True) -> Self:
        self._kept = (None, {})  # not every optimiser leaves a trace in `_version`
        return super().train(mode)

    def add(self, parts: Sequence[nn.Module]) -> None:
        self.parts.extend(parts)

    def join_parts(self, how: Fusion) -> None:
        """How the vector of the id, with vectors of the user's own, and those of the fields become one.

        Raises:
            RecsysLabError: for another way than the sum where the items have no field.
        """
        number = 1 + sum(isinstance(part, ItemField) for part in self.parts)
        if how == "sum":
            return
        if number == 1:
            raise RecsysLabError(
                f"--model.inputs.items {how} joins fields of the items, and none is fed: --data.fields '[item.NAME]'"
            )
        self.join = (Gate if how == "gate" else Concat)(number, self.embedding_dim)

    @torch.no_grad()
    def forget_untrained(self, item_counts: Tensor) -> None:
        """item_counts: (V,) events of each item in the training part."""
        if not self.is_plain:
            self.weight[item_counts == 0] = 0.0


class TiedScorer(Scorer):
    """score(h, i) = <h, e_i> + b_i, with e_i the *input* embedding of item i (tied weights).

    Args:
        items: the item table, shared with the encoder's input.
        bias: learn a bias per item.
    """

    def __init__(self, items: ItemTable, bias: bool = False) -> None:
        super().__init__()
        self.items = items
        self.bias = nn.Parameter(torch.zeros(items.num_embeddings)) if bias else None

    @property
    def scores_untrained(self) -> bool:  # type: ignore[override]
        return not self.items.is_plain

    @property
    def num_rows(self) -> int:
        return self.items.num_embeddings

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        table, bias = self.items, self.bias
        if isinstance(items, slice):
            return F.linear(state, table.weight_block(items), None if bias is None else bias[items])  # (N, C)
        if items.ndim == 1:
            scores = state @ table(items).T  # (N, C), one matrix product
        elif table.is_stored:
            scores = gathered_scores(state, table.weight, items, table.sparse)  # (N, C)
        else:
            distinct, place = items.unique(return_inverse=True)  # the row of each is made once
            scores = gathered_scores(state, table(distinct), place)
        return scores if bias is None else scores + bias[items]

    def own_block(self) -> ItemBlock | None:
        block = self.items.own_block()
        if block is None or self.bias is None:
            return block
        return block._replace(bias=for_rows_of_block(self.bias[block.items]))

    def linear_blocks(self) -> Iterator[ItemBlock]:
        for items in self.items.blocks():
            yield ItemBlock(items, self.items.weight_block(items), None if self.bias is None else self.bias[items])

    def one_block(self) -> ItemBlock | None:
        if self.items.num_blocks > 1:
            return None
        every = slice(0, self.num_rows)
        return ItemBlock(every, self.items.weight_block(every), self.bias)
