"""NextItem: at each counted position the item that comes next; ranks of all items in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_lab.config import from_config
from recsys_lab.contracts import Batch, Loss, Negatives, NegativeSampler, Scorer, State, Task
from recsys_lab.words import PAD_ID

# Named, not imported: models know no loss, no sampler and no callback (tests/test_design.py).
DEFAULT_LOSS = "recsys_lab.losses.CrossEntropy"
DEFAULT_SAMPLER = "recsys_lab.losses.negatives.UniformNegatives"


class NextItem(Task):
    """The task of every model that names no other.

    Args:
        loss: None = full cross-entropy.
        negatives: sampler for losses that take negatives; None = uniform, as many as the loss's paper used.
    """

    evaluation = "recsys_lab.evaluation.callback.RankingEvaluation"

    def __init__(self, loss: Loss | None = None, negatives: NegativeSampler | None = None) -> None:
        super().__init__()
        self.loss_function: Loss = loss if loss is not None else from_config({"class_path": DEFAULT_LOSS}, Loss)
        if negatives is None and self.loss_function.default_negatives:
            count = {"num_negatives": self.loss_function.default_negatives}
            negatives = from_config({"class_path": DEFAULT_SAMPLER, "init_args": count}, NegativeSampler)
        self.negatives = negatives
        self.compiled = ("objective",) if self.loss_function.compiles else ()

    def prepare(self, item_counts: Tensor) -> None:
        self.loss_function.prepare(item_counts)
        if self.negatives is not None:
            self.negatives.prepare(item_counts)
            self.negatives.check_number(len(item_counts) - 1)

    def loss(
        self, state: State, batch: Batch, scorer: Scorer, draws: torch.Generator | None
    ) -> tuple[Tensor, Tensor | int]:
        assert state.history is not None
        positions = batch.target_positions  # (N,); found when the batch is made: here it would be a wait for the device
        if positions is None:
            positions = (batch.target_ids != PAD_ID).flatten().nonzero().squeeze(1)
        target_ids = batch.target_ids.flatten()[positions]  # (N,)
        negatives = self.negatives.sample(target_ids, draws) if self.negatives is not None else None
        weights = self.weights(batch, positions)
        mean = self.objective(state.history, positions, target_ids, scorer, negatives, weights)
        return mean, len(target_ids) if weights is None else weights.sum()

    def objective(
        self,
        history: Tensor,
        positions: Tensor,
        target_ids: Tensor,
        scorer: Scorer,
        negatives: Negatives | None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of the targets at `positions` (N,) of the flattened history (B, L, D)."""
        # not `[positions]`: its backward pass adds rows one by one
        hidden = history.flatten(0, 1).index_select(0, positions)  # (N, D)
        weighted = {} if weights is None else {"weights": weights}
        loss: Tensor = self.loss_function(hidden, target_ids, scorer, negatives, **weighted)
        return loss

    def weights(self, batch: Batch, positions: Tensor) -> Tensor | None:
        """(N,) of the targets, not negative; None = all alike."""
        return None if batch.target_weights is None else batch.target_weights.flatten()[positions]

    def evaluate(self, state: State, batch: Batch, scorer: Scorer) -> Tensor:
        """-> the query (B, D), with which the callback asks the scorer: it ranks whole rows or block by block."""
        assert state.query is not None
        return state.query
