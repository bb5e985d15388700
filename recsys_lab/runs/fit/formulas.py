"""Bytes and seconds of a training step from the sizes of a model, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from recsys_lab.data.batches.epoch_size import EpochSize
from recsys_lab.losses.softmax import CrossEntropy
from recsys_lab.ops.linear_cross_entropy import chunk_shape
from recsys_lab.ops.row_sparse import sparse_tables

OF_A_LAYER = 16
"""Numbers of the width of the model that a layer keeps per position: 14 to 18 in SASRec and GRU4Rec, measured."""


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

    @property
    def bytes_per_position(self) -> float:
        """Kept for the backward pass, by rule of thumb: vectors of each layer, and the attention's L by L."""
        vectors = self.width * (2 + OF_A_LAYER * self.layers)
        return 4.0 * (vectors + 2 * self.layers * self.heads * self.length)

    def gradients(self, positions: int) -> int:
        """Those of row-sparse tables are rows of the batch, of inputs and targets."""
        rows = 2 * positions * self.width * 4 if self.dense < self.parameters else 0
        return self.dense + rows

    def loss_bytes(self, positions: int, items: int, device: str) -> int:
        """Logits that are in memory at once, or those of the sampled items."""
        if isinstance(self.loss, CrossEntropy):
            if self.loss.implementation == "full":
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
