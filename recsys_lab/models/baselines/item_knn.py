"""ItemKNN: items whose users are those of the history's items.

Sarwar et al. 2001, "Item-based Collaborative Filtering Recommendation Algorithms"; on implicit data as in Deshpande &
Karypis 2004, "Item-based Top-N Recommendation Algorithms". *What differs*: by default every item is a neighbour.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy
from torch import Tensor

from recsys_lab.arguments import Count, NotNegative
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.baselines.row_table import RowTable
from recsys_lab.models.baselines.training_part import TrainingPart
from recsys_lab.models.baselines.user_history import UserHistory


class ItemKNN(CountingModel):
    """score(j) = sum over the history's items i != j of  n_ij / (sqrt(n_i n_j) + shrinkage),

    n_i = users with item i in their training part, n_ij = users with both: cosine similarity, where `shrinkage` keeps
    pairs with little evidence down.

    Args:
        history: `whole`: the distinct items of the whole history (see `UserHistory`), or `last`: the last item only.
        shrinkage: in users; 0 = plain cosine.
        num_neighbours: keep only so many most similar items of each history item (ties: the lower id); None = all.
    """

    def __init__(
        self,
        history: Literal["whole", "last"] = "whole",
        shrinkage: NotNegative = 0.0,
        num_neighbours: Count | None = None,
    ) -> None:
        super().__init__()
        self.history, self.shrinkage, self.num_neighbours = history, shrinkage, num_neighbours

    def build(self, spec: DataSpec) -> None:
        self.similarity = RowTable(spec.num_rows, spec.num_rows)
        self.users = UserHistory(spec.num_users, spec.num_rows)

    def count(self, datamodule: Any) -> None:
        user_items = TrainingPart.of(datamodule).user_items()
        if self.history == "whole":
            self.users.fill(user_items)
        similarity = cosine(user_items, self.shrinkage)
        if self.num_neighbours is not None:
            similarity = most_similar(similarity, self.num_neighbours)
        self.similarity.fill(similarity)

    def query(self, batch: Batch) -> Tensor:
        """-> (B, M) items of the history, or (B, 1) the last one; `PAD_ID` on the right."""
        if self.history == "whole":
            return self.users.distinct(batch)
        return batch.item_ids.gather(1, batch.lengths[:, None] - 1)

    def score(self, query: Tensor) -> Tensor:
        return self.similarity.sum_rows(query)  # (rows, V)


def cosine(user_items: scipy.sparse.csr_matrix, shrinkage: float) -> scipy.sparse.csr_matrix:
    """(U, V) of ones -> (V, V) float64 cosine similarity of columns with shrinkage; the diagonal is empty."""
    together = (user_items.T @ user_items).tocoo()  # float32 counts users exactly up to 2^24
    users = np.asarray(user_items.sum(axis=0, dtype=np.float64)).ravel()  # (V,)
    row, column = together.row, together.col
    others = row != column
    row, column = row[others], column[others]
    value = together.data[others] / (np.sqrt(users[row] * users[column]) + shrinkage)
    return scipy.sparse.coo_matrix((value, (row, column)), shape=together.shape).tocsr()


def most_similar(similarity: scipy.sparse.csr_matrix, count: int) -> scipy.sparse.csr_matrix:
    """Keeps the `count` largest entries of each row."""
    row = np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
    order = np.lexsort((similarity.indices, -similarity.data, row))
    place = np.arange(len(order)) - similarity.indptr[:-1][row[order]]  # within the row, best first
    kept = order[place < count]
    return scipy.sparse.coo_matrix(
        (similarity.data[kept], (row[kept], similarity.indices[kept])), shape=similarity.shape
    ).tocsr()
