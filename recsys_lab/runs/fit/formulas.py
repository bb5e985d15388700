"""Bytes and seconds of a training step from the sizes of a model, without running it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from recsys_lab.data.batches.epoch_size import EpochSize
from recsys_lab.losses.softmax import CrossEntropy
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.sharding import OPTION
from recsys_lab.ops.linear_cross_entropy import chunk_shape
from recsys_lab.ops.row_sparse import sparse_tables
from recsys_lab.words import RecsysLabError

OF_A_LAYER = 16
"""Numbers of the width of the model that a layer keeps per position: 14 to 18 in SASRec and GRU4Rec, measured."""


@dataclass(frozen=True)
class TableSize:
    """Of the item table: bytes, and its rows. None of a model that has no table of vectors."""

    rows: int = 0
    vectors: int = 0
    optimiser: int = 0
    dense: bool = True  # its gradient has its size

    def part(self, processes: int) -> TableSize:
        """Of the process that holds most rows."""
        held = -(-self.rows // processes)
        vectors, optimiser = (value // max(self.rows, 1) * held for value in (self.vectors, self.optimiser))
        return TableSize(held, vectors, optimiser, self.dense)


@dataclass(frozen=True)
class ModelSize:
    """Bytes, and what a step's follow from."""

    parameters: int
    buffers: int
    optimiser: int
    dense: int  # bytes of parameters whose gradients have their size
    width: int  # D
    layers: int
    heads: int  # 0: no attention
    length: int  # L
    loss: Any
    negatives: int  # of a position
    table: TableSize
    processes: int = 1  # that divide the table among themselves
    own_negatives: bool = True  # of each position; else a batch shares them

    @property
    def bytes_per_position(self) -> float:
        """Kept for the backward pass, by rule of thumb: vectors of each layer, and the attention's L by L."""
        vectors = self.width * (2 + OF_A_LAYER * self.layers)
        return 4.0 * (vectors + 2 * self.layers * self.heads * self.length)

    def gradients(self, positions: int) -> int:
        """Those of row-sparse tables are rows of the batch, of inputs and targets."""
        rows = 2 * positions * self.width * 4 if self.dense < self.parameters else 0
        return self.dense + rows

    def divided(self, processes: int) -> ModelSize:
        """Of the process that holds most rows of a table that is divided (`--model.shard_items true`)."""
        part = self.table.part(processes)
        less = self.table.vectors - part.vectors
        return replace(
            self,
            parameters=self.parameters - less,
            optimiser=self.optimiser - self.table.optimiser + part.optimiser,
            dense=self.dense - less * part.dense,
            table=part,
            processes=processes,
        )

    def exchanged(self, positions: int, processes: int) -> int:
        """Bytes that lie in memory to be told to other processes: DDP's copy of the gradients; of a divided table
        vectors that were asked for and given, or their gradients, and the states of all with what is made of them."""
        if self.processes == 1:
            return self.gradients(positions) if processes > 1 else 0
        rows = self._asked(positions)
        kept = self.dense - self.table.vectors * self.table.dense + 2 * max(rows) * (4 * self.width + 8)
        if isinstance(self.loss, CrossEntropy):
            kept += positions * processes * (3 * 4 * self.width + 3 * 4 * processes + 8)
        return kept

    def sent(self, positions: int, processes: int) -> int:
        """Bytes that a process sends in a step: sums over processes go once around and back, in parts; of a divided
        table ids, vectors and gradients of the rows that others hold, and for full cross-entropy states and sums."""
        share = (processes - 1) / processes
        if self.processes == 1:
            return round(2 * share * self.gradients(positions))
        dense = self.dense - self.table.vectors * self.table.dense
        found = 2 * share * dense + share * sum(self._asked(positions)) * (8 + 2 * 4 * self.width)
        if isinstance(self.loss, CrossEntropy):
            of_all = positions * processes
            found += (processes - 1) * positions * (4 * self.width + 8 + 4)  # states, targets, their gradients' shares
            found += (processes - 1) * of_all * 12 + 2 * share * of_all * 4 * self.width
        return round(found)

    def _asked(self, positions: int) -> list[int]:
        """Rows of each look-up of a step, at most: of inputs; of targets; of negatives."""
        asked = [positions]
        if not isinstance(self.loss, CrossEntropy):
            asked += [positions, self.negatives * (positions if self.own_negatives else 1)]
        return [min(number, self.table.rows * self.processes) for number in asked]

    def loss_bytes(self, positions: int, items: int, device: str) -> int:
        """Logits that are in memory at once, or those of the sampled items."""
        if isinstance(self.loss, CrossEntropy):
            if self.processes > 1:  # states of all, items of one
                positions, items = positions * self.processes, self.table.rows
            elif self.loss.implementation == "full":
                return 8 * positions * items
            chunk, block = chunk_shape(positions, items, device, self.loss.chunk_size)
            return 4 * chunk * block
        return 12 * positions * (1 + self.negatives)  # logits, their softmax or sigmoid, and the gradient


def model_size(model: Any, optimizer: torch.optim.Optimizer | None = None) -> ModelSize:
    """Of a built model, also of one on the device `meta`.

    Args:
        optimizer: after a step of it its own state is counted; None = by its rule.
    """
    parameters = [one for one in model.parameters() if one.requires_grad]
    tables = sparse_tables(model)
    is_table = [any(one is table for table in tables) for one in parameters]
    sizes = [one.numel() * one.element_size() for one in parameters]
    dense = sum(size for size, sparse in zip(sizes, is_table, strict=True) if not sparse)
    if optimizer is not None:
        state = [value for held in optimizer.state.values() for value in held.values()]
        kept = sum(value.numel() * value.element_size() for value in state if isinstance(value, torch.Tensor))
    else:
        by_row = model.optimization.optimizer == "rowwise_adagrad"
        kept = 2 * dense + sum(4 * len(table) if by_row else 2 * 4 * table.numel() for table in tables)
    held = [module.weight for module in model.modules() if isinstance(module, ItemTable)]
    table = TableSize()
    if len(held) == 1:
        (weight,) = held
        if optimizer is not None:
            rows = [value for value in optimizer.state[weight].values() if getattr(value, "ndim", 0)]
            own = sum(value.numel() * value.element_size() for value in rows)
        else:
            by_row = model.optimization.optimizer == "rowwise_adagrad"
            own = 4 * len(weight) if by_row else 2 * 4 * weight.numel()
        is_dense = not any(weight is one for one in tables)
        table = TableSize(len(weight), weight.numel() * weight.element_size(), own, is_dense)
    elif model.shard_items:
        raise RecsysLabError(f"{OPTION} needs a model with one item table; {type(model).__name__} has {len(held)}")
    settings = getattr(model, "settings", None)
    heads = getattr(settings, "num_heads", 0)
    return ModelSize(
        sum(one.numel() * one.element_size() for one in model.parameters()),
        sum(one.numel() * one.element_size() for one in model.buffers()),
        kept,
        dense,
        int(getattr(settings, "embedding_dim", 64)),
        int(getattr(settings, "num_layers", 1)),
        int(heads),
        model.spec.max_length,
        model.loss,
        int(getattr(model.negatives, "num_negatives", 1)),
        table,
        own_negatives=bool(getattr(model.negatives, "per_position", True)),
    )


def formula_seconds(
    model: Any, size: ModelSize, epoch: EpochSize, found: Any, data: Any, tflops: float
) -> dict[str, float]:
    """Products alone: 6 operations for each weight of the encoder and position, 6 D for each logit; 2 to evaluate."""
    table = found.items * size.width
    encoder = max(size.parameters // 4 - table, 0)
    logits = table if isinstance(size.loss, CrossEntropy) else (1 + size.negatives) * size.width
    rate = tflops * 1e12
    training = 6.0 * epoch.positions * (encoder + logits) / rate
    users = found.users / found.processes
    return {"training": training, "validation": 2.0 * users * (encoder * data.max_length + table) / rate}
