"""FieldColumn: the stored values of a field -> what a batch holds of them (`contracts.Field` has the forms)."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch


class FieldColumn(Protocol):
    """One field of events, users or items, with what was fitted on the training part."""

    def take(self, index: np.ndarray, is_real: np.ndarray) -> torch.Tensor:
        """The field at some rows of the data.

        Args:
            index: (...) int64 rows: positions of events, users or items.
            is_real: (...) bool: False at padding, where the result is 0.

        Returns:
            (..., *) as the kind of the field has it.
        """
        ...


class CategoricalColumn:
    """Codes -> rows of an embedding table.

    Args:
        codes: (R,) integers: 0 = missing, values from 1.
        table_row: (number of values + 1,) int64: the row of each code; 0 for a value that the training part lacks.
    """

    def __init__(self, codes: np.ndarray, table_row: np.ndarray) -> None:
        self.codes, self.table_row = np.asarray(codes), table_row

    def take(self, index: np.ndarray, is_real: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.table_row[self.codes[index]] * is_real)


def all_known(num_values: int) -> np.ndarray:
    """`CategoricalColumn.table_row` where the training part has every value: missing -> 1, value v -> v + 1."""
    return np.arange(1, num_values + 2)
