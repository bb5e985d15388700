"""ContrastiveViews: two encodings of one history, with two dropout masks, should be nearer than those of two histories.

Qiu et al. 2022, "Contrastive Learning for Representation Degeneration Problem in Sequential Recommendation" (DuoRec),
its unsupervised part; the form is SimCSE's (Gao et al. 2021).
What differs from the paper: the similarity is the cosine (DuoRec: the inner product), the supervised part (another
history with the same target) is left out, and the other rows are negatives in their second view only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.arguments import NotNegative, Positive
from recsys_lab.contracts import AuxiliaryLoss, Batch, Scorer, State
from recsys_lab.words import RecsysLabError


class ContrastiveViews(AuxiliaryLoss):
    """-log softmax over the rows of the batch of cos(state, second view) / temperature, at each row's last event.

    Args:
        share: by which it is multiplied before it is added to the loss of the task.
        temperature: above 0.

    Raises:
        RecsysLabError: where two encodings of a batch don't differ: a model without dropout.
    """

    def __init__(self, share: NotNegative = 0.1, temperature: Positive = 0.1) -> None:
        super().__init__()
        self.share, self.temperature = share, temperature
        self._differ = False

    def forward(
        self,
        encode: Callable[[Batch], Tensor],
        state: State,
        batch: Batch,
        scorer: Scorer,
        draws: torch.Generator | None,
    ) -> Tensor:
        """-> scalar, the mean over the rows."""
        assert state.history is not None
        row, last = torch.arange(len(batch), device=batch.lengths.device), batch.lengths - 1
        first, second = state.history[row, last], encode(batch)[row, last]  # (B, D) each
        if not self._differ:  # once: it is a wait for the device
            self._differ = not torch.equal(first, second)
            if not self._differ:
                raise RecsysLabError("ContrastiveViews needs two views of a history, and this model has no dropout")
        similarity = F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T  # (B, B)
        return F.cross_entropy(similarity / self.temperature, row)
