"""CL4SRec: two altered copies of one history should be nearer than those of two histories.

Xie et al. 2022, "Contrastive Learning for Sequential Recommendation".
What differs from the paper: each window of the batch counts as a history; a masked event loses its item and its fields
and becomes a vector of zeros (the paper: a learned mask); the similarity is divided by a temperature, with 1 as in the
paper's formula; and at least one event is left of a cropped copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.arguments import NotNegative, Positive, Share
from recsys_lab.contracts import AuxiliaryLoss, Batch, Scorer, State


class CL4SRec(AuxiliaryLoss):
    """NT-Xent: -log softmax over all other copies in the batch of <state, state of the other copy of it> / temperature,
    the mean over both copies of each history; states are those of the last events.

    Each copy is cropped, masked or reordered, each with probability 1/3. Times stay in order: a reordered copy has the
    items and fields of the events in another order.

    Args:
        share: by which it is multiplied before it is added to the loss of the task.
        temperature: above 0.
        crop: share of a history that a cropped copy keeps, in one piece.
        mask: share of the events that a masked copy loses.
        reorder: share of a history that a reordered copy shuffles, in one piece.
    """

    def __init__(
        self,
        share: NotNegative = 0.1,
        temperature: Positive = 1.0,
        crop: Share = 0.6,
        mask: Share = 0.3,
        reorder: Share = 0.6,
    ) -> None:
        super().__init__()
        self.share, self.temperature = share, temperature
        self.crop, self.mask, self.reorder = crop, mask, reorder

    def forward(
        self,
        encode: Callable[[Batch], Tensor],
        state: State,
        batch: Batch,
        scorer: Scorer,
        draws: torch.Generator | None,
    ) -> Tensor:
        """-> scalar, the mean over the copies."""
        states = []
        for _ in range(2):
            copy = self.altered(batch, draws)
            row = torch.arange(len(batch), device=copy.lengths.device)
            states.append(encode(copy)[row, copy.lengths - 1])  # (B, D)
        both = torch.cat(states).float()  # (2 B, D)
        similarity = both @ both.T / self.temperature  # (2 B, 2 B)
        place = torch.arange(len(both), device=both.device)
        similarity = similarity.masked_fill(place[:, None] == place, float("-inf"))
        return F.cross_entropy(similarity, place.roll(len(batch)))

    def altered(self, batch: Batch, draws: torch.Generator | None) -> Batch:
        """A copy of the batch, each row altered in one of the three ways."""
        device, (rows, length) = batch.lengths.device, batch.item_ids.shape

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=draws, device=device)

        way = (3 * random(rows)).long()[:, None]  # (B, 1): 0 crops, 1 masks, 2 reorders
        place = torch.arange(length, device=device).expand(rows, length)
        piece = torch.where(way == 0, self.crop, self.reorder) * batch.lengths[:, None]
        piece = piece.floor().clamp_min(1).long()  # (B, 1) events
        first = (random(rows, 1) * (batch.lengths[:, None] - piece + 1)).long()
        inside = (place >= first) & (place < first + piece)  # (B, L)
        shuffled = torch.where(inside, first + piece * random(rows, length), place.float()).argsort(dim=1, stable=True)
        cropped = (first + place).clamp_max(length - 1)
        source = torch.where(way == 0, cropped, torch.where(way == 2, shuffled, place))  # (B, L)
        lengths = torch.where(way[:, 0] == 0, piece[:, 0], batch.lengths)
        valid = place < lengths[:, None]
        rank = random(rows, length).masked_fill(~batch.valid_mask, 2.0).argsort(dim=1).argsort(dim=1)  # of real events
        kept = valid & ~((way == 1) & (rank < (self.mask * batch.lengths[:, None]).floor()))

        def moved(values: Tensor, stays: Tensor) -> Tensor:
            row = torch.arange(rows, device=device)[:, None]
            return values[row, source] * stays.reshape(*stays.shape, *[1] * (values.ndim - 2))

        times = batch.timestamps.gather(1, torch.where(way == 0, cropped, place)) * valid  # they stay in order
        return replace(
            batch,
            item_ids=moved(batch.item_ids, kept),
            event={name: moved(values, kept) for name, values in batch.event.items()},
            timestamps=times,
            valid_mask=valid,
            lengths=lengths,
            prefix_of=None,
            target_positions=None,
        )
