"""EASE: the linear item-item model with a zero diagonal, in closed form.

Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data". With G = X'X of the binary user x item matrix X and
P = (G + lambda I)^-1:  B_ij = -P_ij / P_jj, B_jj = 0, and the scores of a history x are xB.

*What differs from the paper*: nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from recsys_lab.arguments import Count, Positive
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.baselines.row_table import RowTable
from recsys_lab.models.baselines.training_part import TrainingPart
from recsys_lab.models.baselines.user_history import UserHistory
from recsys_lab.words import RecsysLabError


class EASE(CountingModel):
    """score(j) = sum over the distinct items i of the whole history (see `UserHistory`) of B_ij.

    Args:
        regularization: lambda, the L2 penalty, in users.
        max_items: larger catalogues are refused: time grows with the cube of the items, memory with the square (at
            20,000 items about 7 GB while solving, and a 1.6 GB checkpoint).

    Raises:
        RecsysLabError: when the catalogue is too large.
    """

    def __init__(self, regularization: Positive = 250.0, max_items: Count = 30_000) -> None:
        super().__init__()
        self.regularization, self.max_items = regularization, max_items

    def build(self, spec: DataSpec) -> None:
        if spec.num_items > self.max_items:
            raise RecsysLabError(
                f"EASE solves for {spec.num_items:,} x {spec.num_items:,} weights of {spec.dataset}, more than its "
                f"max_items of {self.max_items:,}; raise it, or drop rare items with data.prepare.min_item_events"
            )
        self.weights = RowTable(spec.num_rows, spec.num_rows)
        self.users = UserHistory(spec.num_users, spec.num_rows)

    def count(self, datamodule: Any) -> None:
        user_items = TrainingPart.of(datamodule).user_items()
        self.users.fill(user_items)
        self.weights.fill_dense(self._solve(user_items))

    def query(self, batch: Batch) -> Tensor:
        """-> (B, M) items of the history, `PAD_ID` on the right."""
        return self.users.distinct(batch)

    def score(self, query: Tensor) -> Tensor:
        return self.weights.sum_rows(query)  # (rows, V)

    def _solve(self, user_items: scipy.sparse.csr_matrix) -> Tensor:
        """(U, V) of ones -> B (V, V) float32."""
        num_rows = user_items.shape[1]
        gram = np.zeros((num_rows, num_rows))
        (user_items.T @ user_items).astype(np.float64).toarray(out=gram)
        # float64, since the inverse loses digits at a small lambda: on the CPU where the device has none (Apple GPUs)
        matrix = torch.from_numpy(gram).to("cpu" if self.device.type == "mps" else self.device)
        del gram
        matrix.diagonal().add_(self.regularization)  # padding's row is then lambda on the diagonal: B is zero there
        factor = torch.linalg.cholesky(matrix)
        del matrix
        inverse = torch.cholesky_inverse(factor)
        del factor
        weights = inverse.div_(-inverse.diagonal().clone()).float().contiguous()  # column j by -P_jj; rows are read
        weights.fill_diagonal_(0.0)
        return weights.to(self.device)
