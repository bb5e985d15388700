"""Markov: what followed the last item most often.

First-order transition counts of neighbouring training events, as in the Markov chain that Rendle et al. 2010
("Factorizing Personalized Markov Chains") factorise. *What differs*: nothing is factorised or personal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor

from recsys_lab.arguments import NotNegative
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.baselines.row_table import RowTable
from recsys_lab.models.baselines.training_part import TrainingPart


class Markov(CountingModel):
    """score(i) = transitions from the last item to i + backoff * share of i among the training events.

    Divided by (transitions from the last item + backoff), which changes no rank, this is the transition probability
    with a Dirichlet prior of `backoff` events.

    Args:
        backoff: weight of popularity, in events. 0 = plain counts: all that never followed the last item is tied.
    """

    share: Tensor

    def __init__(self, backoff: NotNegative = 1.0) -> None:
        super().__init__()
        self.backoff = backoff

    def build(self, spec: DataSpec) -> None:
        self.transitions = RowTable(spec.num_rows, spec.num_rows)
        self.register_buffer("share", torch.zeros(spec.num_rows))

    def count(self, datamodule: Any) -> None:
        part = TrainingPart.of(datamodule)
        before, after = part.neighbours()
        ones = np.ones(len(before), dtype=np.float32)
        shape = (part.num_rows, part.num_rows)
        self.transitions.fill(scipy.sparse.coo_matrix((ones, (before, after)), shape=shape).tocsr())
        counts = datamodule.item_counts.double()
        self.share = (counts / counts.sum()).to(self.device, torch.float32)

    def query(self, batch: Batch) -> Tensor:
        """-> (B, 1) last item."""
        return batch.item_ids.gather(1, batch.lengths[:, None] - 1)

    def score(self, query: Tensor) -> Tensor:
        scores = self.transitions.sum_rows(query)  # (rows, V)
        return scores.add_(self.share, alpha=self.backoff) if self.backoff else scores
