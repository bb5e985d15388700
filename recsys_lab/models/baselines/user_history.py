"""UserHistory: the items of a user's whole history, not only of the model's window."""

from __future__ import annotations

import numpy as np
import scipy
import torch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.models.baselines.counting import GrowingBuffers
from recsys_lab.models.baselines.row_table import padded, ragged


class UserHistory(GrowingBuffers):
    """Each user's distinct training items, kept with the model: a batch shows only the newest `max_length` events.

    The history of a batch row is the union of
    * the user's training items (`batch.user_index`; all of them are earlier than any target; a negative index, a user
      from elsewhere, has none),
    * the window, which holds what came between the training part and the target: the validation event of leave-one-out,
    * the seen items, which with `exclude_seen: history` are the whole history already.

    So it is exact with `exclude_seen: history`, and under leave-one-out. Otherwise (a temporal split with `window` or
    `none`) events after the training part that lie further back than `max_length` are missed.
    """

    offsets: Tensor
    item_ids: Tensor

    def __init__(self, num_users: int, num_rows: int) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.register_buffer("offsets", torch.zeros(num_users + 1, dtype=torch.int64))
        self.register_buffer("item_ids", torch.zeros(0, dtype=torch.int32))

    def fill(self, user_items: scipy.sparse.csr_matrix) -> None:
        """user_items: (U, V), as `TrainingPart.user_items` gives it."""
        device = self.offsets.device
        self.offsets = torch.from_numpy(user_items.indptr.astype(np.int64)).to(device)
        self.item_ids = torch.from_numpy(user_items.indices.astype(np.int32)).to(device)

    def distinct(self, batch: Batch) -> Tensor:
        """-> (B, M) distinct items of each row's history in ascending order, `PAD_ID` on the right."""
        user, is_known = batch.user_index.clamp(min=0), batch.user_index >= 0
        start = self.offsets[user]
        row, position = ragged(start, (self.offsets[user + 1] - start) * is_known)
        cells = [row * self.num_rows + self.item_ids[position]]
        cells.append(batch.valid_mask.nonzero()[:, 0] * self.num_rows + batch.item_ids[batch.valid_mask])
        if batch.seen_ids is not None and batch.seen_offsets is not None:
            row = torch.arange(len(batch), device=user.device).repeat_interleave(batch.seen_offsets.diff())
            cells.append(row * self.num_rows + batch.seen_ids)
        cell = torch.cat(cells).unique()  # ascending
        return padded(cell // self.num_rows, cell % self.num_rows, len(batch))
