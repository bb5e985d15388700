"""Vectors of the user's own for the items, matched by raw ids, in the tables of a model."""

from __future__ import annotations

import logging
from typing import Literal

import polars as pl
import torch
from torch import Tensor, nn

from recsys_lab.models.blocks.item_parts import OwnVectors, VectorsMode
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.vector_files import OPTION, matched, read
from recsys_lab.models.vector_preprocessing import check, preprocessed, width_after
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")
Missing = Literal["error", "learn"]


class ItemVectors:
    """The vectors of one model. Where their file can't be had, that is no matter for a model whose checkpoint follows,
    which holds them; `require` says so elsewhere.

    Args:
        path: the file; None = there are no such vectors.
        mode: see `OwnVectors`; `init` puts them where the vectors of the ids start.
        width: how many numbers a vector has in the model, where that is known without the file.
        preprocessing: see `vector_preprocessing`.
        missing: whether items may lack a vector: `learn` leaves them that of their id, `error` refuses them.
    """

    def __init__(
        self,
        path: str | None,
        mode: VectorsMode,
        width: int | None,
        preprocessing: str = "none",
        missing: Missing = "error",
    ) -> None:
        check(preprocessing)
        given = {"mode": (mode, "frozen"), "preprocessing": (preprocessing, "none"), "missing": (missing, "error")}
        for name, (value, usual) in given.items():
            if path is None and value != usual:
                log.warning("%s_%s %s changes nothing without %s FILE", OPTION, name, value, OPTION)
        self.path, self.mode, self.width, self.preprocessing = path, mode, width, preprocessing
        self.missing = missing
        self._fault: RecsysLabError | None = None

    def add_to(self, model: nn.Module) -> None:
        """Gives every item table of the model a place for them.

        Raises:
            RecsysLabError: where the model has no item table, or they don't fit it.
        """
        if self.path is None:
            return
        try:
            self.width = self.width or width_after(self.preprocessing, read(self.path)[1].shape[1])
        except RecsysLabError as error:
            self._fault = error
        for table in tables_of(model):
            if self.mode != "init":
                table.add([OwnVectors(self.mode, table.num_embeddings, self.width or 1, table.embedding_dim)])
            elif self.width is not None and self.width != table.embedding_dim:
                raise RecsysLabError(
                    f"{OPTION}_mode init needs vectors as wide as the item table: they have {self.width} numbers, the "
                    f"table {table.embedding_dim}. Take --model.embedding_dim {self.width}, or {OPTION}_mode delta"
                )

    @torch.no_grad()
    def fill(self, model: nn.Module, raw_ids: pl.Series, item_counts: Tensor) -> None:
        """Puts them where the items are.

        Args:
            raw_ids: (num_items,) those of the data set: entry i - 1 belongs to item i.
            item_counts: (V,) training events of each item.
        """
        if self.path is None or self._fault is not None:
            return
        try:
            vectors, has_vector = matched(self.path, raw_ids)
            if self.missing == "error" and not has_vector[1:].all():
                raise _lacking(self.path, raw_ids.filter(pl.Series((~has_vector[1:]).numpy())), len(raw_ids))
            vectors = preprocessed(vectors, has_vector, item_counts > 0, self.preprocessing)
        except RecsysLabError as error:
            self._fault = error
            return
        number, total = int(has_vector.sum()), len(raw_ids)
        log.info("%s: %d of %d items have a vector there (%d have none)", self.path, number, total, total - number)
        for table in tables_of(model):
            own = has_vector.to(table.weight.device)
            if self.mode == "init":
                table.weight[own] = vectors[has_vector].to(table.weight.device)
            elif self.mode == "delta":
                table.weight[own] = 0.0
            for part in table.parts:
                if isinstance(part, OwnVectors):
                    part.vectors.copy_(vectors)
                    part.has_vector.copy_(has_vector)

    def come_with_a_checkpoint(self, model: nn.Module, width: int | None) -> None:
        """Makes room for those of a checkpoint."""
        if self.path is None:
            return
        self._fault, self.width = None, width
        for table in tables_of(model):
            for place, part in enumerate(table.parts):
                if isinstance(part, OwnVectors) and width not in (None, part.vectors.shape[1]):
                    table.parts[place] = OwnVectors(part.mode, table.num_embeddings, width, table.embedding_dim)

    def require(self) -> None:
        """Raises RecsysLabError where they are asked for and are not there."""
        if self._fault is not None:
            raise self._fault


def _lacking(path: str, ids: pl.Series, total: int) -> RecsysLabError:
    return RecsysLabError(
        f"{OPTION} {path} has no vector for {len(ids)} of {total} items; the first is {ids[0]!r}. Give them one, or "
        f"let them learn one by their id alone: {OPTION}_missing learn"
    )


def tables_of(model: nn.Module) -> list[ItemTable]:
    tables = {id(module): module for module in model.modules() if isinstance(module, ItemTable)}
    if not tables:
        raise RecsysLabError(
            f"{OPTION}: {type(model).__name__} has no ItemTable to put vectors in (recsys_lab.models.blocks.item_table)"
        )
    return list(tables.values())
