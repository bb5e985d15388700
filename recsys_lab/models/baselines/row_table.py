"""RowTable: a stored matrix, sparse or dense, of which rows are added up; and the ragged gather behind it."""

from __future__ import annotations

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.nn import functional

from recsys_lab.models.baselines.counting import GrowingBuffers

DENSE_SHARE = 0.03
"""From this share of non-zeros on, adding up whole rows is faster on a CPU than scattering sparse entries."""

MAX_DENSE_CELLS = 1 << 28
"""A matrix is kept sparse when it would take more than 1 GB."""

MAX_ENTRIES = 1 << 18
"""Sparse entries that are added at once: few enough to stay in the cache (100 MB at once was several times slower)."""


class RowTable(GrowingBuffers):
    """(R, C) float32. Row 0 is padding: empty.

    The row pointers, columns and values of the sparse form are plain tensors, so that they load with
    `weights_only=True`; the form that is not in use is empty.
    """

    offsets: Tensor
    columns: Tensor
    values: Tensor
    dense: Tensor

    def __init__(self, num_rows: int, num_columns: int) -> None:
        super().__init__()
        self.num_rows, self.num_columns = num_rows, num_columns
        self.register_buffer("offsets", torch.zeros(num_rows + 1, dtype=torch.int64))
        self.register_buffer("columns", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("values", torch.zeros(0))
        self.register_buffer("dense", torch.zeros(0, 0))

    def fill(self, matrix: scipy.sparse.csr_matrix) -> None:
        """matrix: (R, C) scipy CSR."""
        device, cells = self.offsets.device, self.num_rows * self.num_columns
        if DENSE_SHARE * cells <= matrix.nnz and cells <= MAX_DENSE_CELLS:
            self.fill_dense(torch.from_numpy(matrix.astype(np.float32).toarray()).to(device))
            return
        self.dense = torch.zeros(0, 0, device=device)
        self.offsets = torch.from_numpy(matrix.indptr.astype(np.int64)).to(device)
        self.columns = torch.from_numpy(matrix.indices.astype(np.int32)).to(device)
        self.values = torch.from_numpy(matrix.data.astype(np.float32)).to(device)

    def fill_dense(self, matrix: Tensor) -> None:
        """matrix: (R, C) float32, kept as it is."""
        device = self.offsets.device
        self.dense = matrix
        self.offsets = torch.zeros(self.num_rows + 1, dtype=torch.int64, device=device)
        self.columns, self.values = self.columns.new_zeros(0), torch.zeros(0, device=device)

    def sum_rows(self, row_ids: Tensor, weights: Tensor | None = None) -> Tensor:
        """(B, M) row ids, 0 where there is none, and their weights (1 if None) -> (B, C): each line's sum of rows."""
        if self.dense.numel():
            return functional.embedding_bag(row_ids, self.dense, mode="sum", padding_idx=0, per_sample_weights=weights)
        return self._multiplied(row_ids, weights) if row_ids.device.type == "cpu" else self._scattered(row_ids, weights)

    def _scattered(self, row_ids: Tensor, weights: Tensor | None) -> Tensor:
        num_entries = self.offsets.diff()[row_ids]  # (B, M); padding has none
        sums = torch.zeros(len(row_ids), self.num_columns, device=row_ids.device)
        for part in blocks(num_entries.sum(1), MAX_ENTRIES):
            owner, position = ragged(self.offsets[row_ids[part]].flatten(), num_entries[part].flatten())
            values = take(self.values, position)
            if weights is not None:
                values *= take(weights[part].flatten(), owner)
            cell = (owner // row_ids.shape[1]).mul_(self.num_columns).add_(take(self.columns, position))
            sums[part].view(-1).scatter_add_(0, cell, values)
        return sums

    def _multiplied(self, row_ids: Tensor, weights: Tensor | None) -> Tensor:
        """As a product of sparse matrices: the same sums in the same order, several times faster on a CPU."""
        lines, width = row_ids.shape
        share = np.ones(lines * width, np.float32) if weights is None else weights.flatten().numpy()
        starts = np.arange(0, lines * width + 1, max(width, 1))[: lines + 1]
        rows = row_ids.flatten().int().numpy()
        asked = scipy.sparse.csr_matrix((share, rows, starts.astype(np.int32)), (lines, self.num_rows))
        offsets, columns, values = self.offsets.numpy(), self.columns.numpy(), self.values.numpy()
        if len(columns) <= np.iinfo(columns.dtype).max:
            offsets = offsets.astype(columns.dtype)  # scipy makes them alike: it would copy the columns
        table = scipy.sparse.csr_matrix((values, columns, offsets), (self.num_rows, self.num_columns))
        return torch.from_numpy((asked @ table).toarray())

    def times(self, right: Tensor) -> Tensor:
        """(C, N) float32 -> (R, N): the matrix times `right`."""
        if self.dense.numel():
            return self.dense @ right
        row = torch.repeat_interleave(torch.arange(self.num_rows, device=right.device), self.offsets.diff())
        places, shape = torch.stack([row, self.columns.long()]), (self.num_rows, self.num_columns)
        table = torch.sparse_coo_tensor(places, self.values, shape, is_coalesced=True, check_invariants=False)
        product: Tensor = table @ right
        return product


def ragged(start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """(owner, position) of every integer in each range [start[n], start[n] + length[n]); start, length: (N,) int64."""
    owner = torch.repeat_interleave(torch.arange(len(length), device=length.device), length)
    first = length.cumsum(0) - length
    return owner, torch.arange(len(owner), device=length.device) + take(start - first, owner)


def take(values: Tensor, index: Tensor) -> Tensor:
    """values[index] for flat tensors: several times faster on a CPU."""
    return values.index_select(0, index)


def blocks(entries: Tensor, bound: int) -> list[slice]:
    """Cuts rows into runs of about `bound` entries at most (at least one row each). entries: (rows,) int64."""
    block = (entries.cumsum(0) - entries) // bound  # (rows,) ascending
    stops = block.unique_consecutive(return_counts=True)[1].cumsum(0).tolist()
    return [slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)]


def padded(row: Tensor, values: Tensor, num_rows: int) -> Tensor:
    """(S,) ascending row of each value, (S,) values -> (num_rows, M) with zeros on the right; M at least 1."""
    length = torch.bincount(row, minlength=num_rows)
    column = torch.arange(len(row), device=row.device) - (length.cumsum(0) - length)[row]
    out = values.new_zeros(num_rows, max(1, int(length.max()) if len(length) else 0))
    out[row, column] = values
    return out
