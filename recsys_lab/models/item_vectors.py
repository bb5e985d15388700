"""Vectors of the user's own for the items, read from a Parquet file and matched by raw ids."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl
import torch
from torch import Tensor, nn

from recsys_lab.models.blocks.item_parts import OwnVectors, VectorsMode
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.words import ITEM_ID, RecsysLabError

log = logging.getLogger("recsys_lab")
OPTION = "--model.item_vectors"


class ItemVectors:
    """The vectors of one model. Where their file can't be had, that is no matter for a model whose checkpoint follows,
    which holds them; `require` says so elsewhere.

    Args:
        path: the file; None = there are no such vectors.
        mode: see `OwnVectors`; `init` puts them where the vectors of the ids start.
        width: how many numbers a vector has, where that is known without the file.
    """

    def __init__(self, path: str | None, mode: VectorsMode, width: int | None) -> None:
        self.path, self.mode, self.width = path, mode, width
        self._fault: RecsysLabError | None = None

    def add_to(self, model: nn.Module) -> None:
        """Gives every item table of the model a place for them.

        Raises:
            RecsysLabError: where the model has no item table, or they don't fit it.
        """
        if self.path is None:
            return
        try:
            self.width = self.width or int(_read(self.path)[1].shape[1])
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
    def fill(self, model: nn.Module, raw_ids: pl.Series) -> None:
        """Puts them where the items are.

        Args:
            raw_ids: (num_items,) those of the data set: entry i - 1 belongs to item i.
        """
        if self.path is None or self._fault is not None:
            return
        try:
            vectors, has_vector = matched(self.path, raw_ids)
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


def matched(path: str | Path, raw_ids: pl.Series) -> tuple[Tensor, Tensor]:
    """-> (V, width) float32 vectors, zeros where there is none, and (V,) bool which items have one.

    Raises:
        RecsysLabError: when no item of the data set has a vector in the file.
    """
    ids, vectors = _read(path)
    place = pl.DataFrame({"id": ids.cast(pl.String), "row": range(len(ids))})
    wanted = raw_ids.rename("id").cast(pl.String).to_frame()
    row = wanted.join(place, on="id", how="left", maintain_order="left")["row"]
    if row.null_count() == len(row):
        raise RecsysLabError(
            f"{OPTION} {path}: none of its {len(ids)} ids is an item of the data set: its first is {ids[0]!r}, that of "
            f"the data set {raw_ids[0]!r}"
        )
    found = torch.zeros(len(raw_ids) + 1, vectors.shape[1])
    has_vector = torch.zeros(len(raw_ids) + 1, dtype=torch.bool)
    has_vector[1:] = row.is_not_null().to_torch()
    found[has_vector] = vectors[row.drop_nulls().cast(pl.Int64).to_torch()]
    return found, has_vector


def tables_of(model: nn.Module) -> list[ItemTable]:
    tables = {id(module): module for module in model.modules() if isinstance(module, ItemTable)}
    if not tables:
        raise RecsysLabError(
            f"{OPTION}: {type(model).__name__} has no ItemTable to put vectors in (recsys_lab.models.blocks.item_table)"
        )
    return list(tables.values())


def _read(path: str | Path) -> tuple[pl.Series, Tensor]:
    """Ids and vectors (N, width) of a file."""
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise RecsysLabError(f"{OPTION} {path} can't be read as a Parquet file: {why}") from error
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if ITEM_ID not in frame.columns or len(lists) != 1:
        raise RecsysLabError(
            f"{OPTION} {path} must have a column {ITEM_ID} and one column of lists, the vectors; it has "
            f"{', '.join(f'{name} ({kind})' for name, kind in frame.schema.items())}"
        )
    ids, lengths = frame[ITEM_ID], frame[lists[0]].cast(pl.List(pl.Float32)).list.len()
    if not len(frame) or lengths.null_count() or lengths.n_unique() != 1 or not lengths[0]:
        raise RecsysLabError(f"{OPTION} {path}: the vectors in {lists[0]} are missing, empty or not of one length")
    if ids.null_count() or ids.n_unique() != len(ids):
        raise RecsysLabError(f"{OPTION} {path}: {ITEM_ID} must be there, and only once, in each row")
    flat = frame[lists[0]].cast(pl.List(pl.Float32)).explode()
    vectors = flat.to_torch().reshape(len(frame), int(lengths[0]))
    if flat.null_count() or not torch.isfinite(vectors).all():
        raise RecsysLabError(f"{OPTION} {path}: a vector in {lists[0]} holds a value that is no finite number")
    return ids, vectors
