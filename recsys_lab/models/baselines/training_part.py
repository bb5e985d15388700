"""The training part as flat arrays and as a user x item matrix: what every baseline counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts are imported as they are asked for: a process that serves an encoder needs none


@dataclass(frozen=True)
class TrainingPart:
    """The training events of a `SequenceDataModule`, users back to back, oldest first."""

    item_ids: np.ndarray  # (E,) int32, 1..num_items
    user_index: np.ndarray  # (E,) int64
    timestamps: np.ndarray  # (E,) int64 seconds; positions within the user where the data has no time
    lengths: np.ndarray  # (U,) int64
    num_rows: int  # V

    @classmethod
    def of(cls, datamodule: Any) -> TrainingPart:
        events, position = datamodule.events, datamodule.train_positions
        lengths = np.maximum(datamodule.split_result.train_stop - events.offsets[:-1], 0)
        return cls(
            events.item_ids[position],
            np.repeat(np.arange(len(lengths)), lengths),
            events.timestamps[position],
            lengths,
            datamodule.spec.num_rows,
        )

    def neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """(item, the same user's next item) of every neighbouring pair of training events."""
        same_user = self.user_index[1:] == self.user_index[:-1]
        return self.item_ids[:-1][same_user], self.item_ids[1:][same_user]

    def user_items(self) -> scipy.sparse.csr_matrix:
        """(U, V) float32 of ones: which users have which item, however often; column 0 is empty."""
        shape = (len(self.lengths), self.num_rows)
        ones = np.ones(len(self.item_ids), dtype=np.float32)
        matrix = scipy.sparse.coo_matrix(
            (ones, (self.user_index, self.item_ids)), shape=shape
        ).tocsr()  # sums repetitions
        matrix.sort_indices()
        matrix.data[:] = 1.0
        return matrix
