"""Caser: convolutions over the newest few events, seen as an image of events by embedding dimensions.

    horizontal   n_h filters of each height 1 .. window over all dimensions, ReLU, the maximum over the window
    vertical     n_v weighted sums of the window's events, the same weights for each dimension
    out          linear(ReLU(linear([horizontal ; vertical])))

Paper: Tang & Wang 2018, "Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding".

What differs from the paper: its user vector, a learned row for each user that stands beside the state and catches the
taste that does not change, is left out, since a user without training events has none. Fields of users go into the
event vectors instead; a token of the user before the first event is soon out of sight. Scores are those of the tied
item table (the paper: a second table for outputs); the target is the next item (the paper: the next three); and the
windows of all positions are computed in one pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import DropShare, Size
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule


class Caser(NextItemModule):
    """Caser under any loss.

    Args:
        embedding_dim: D.
        window: how many of the newest events it sees (the paper's L).
        horizontal: filters of each height (n_h).
        vertical: weighted sums of the window (n_v).
        dropout: on what the filters give.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 50,
        window: Size = 5,
        horizontal: Size = 16,
        vertical: Size = 4,
        dropout: DropShare = 0.5,
        **base: Any,
    ) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim, self.window = s.embedding_dim, s.window
        self.embedding = EventEmbedding(spec, dim, std=1 / dim, target_fields=self.uses_target_fields)
        self.filters = nn.ModuleList(nn.Conv1d(dim, s.horizontal, height + 1) for height in range(s.window))
        self.sums = nn.Linear(s.window, s.vertical)
        self.drop = Dropout(s.dropout)
        self.join = nn.Linear(s.window * s.horizontal + s.vertical * dim, dim)
        self.project = nn.Linear(dim, dim)
        self.scorer = TiedScorer(self.embedding.items)

    def encode(self, batch: Batch) -> Tensor:
        return self._over(F.pad(self.embedding(batch), (0, 0, self.window - 1, 0)))  # (B, L, D)

    def start(self, rows: int) -> State:
        zeros = torch.zeros(rows, self.window - 1, self.settings.embedding_dim, device=self.device)
        return State(query=None, memory=zeros)  # the newest events: zeros stand before the first

    def step(self, state: State, event: Batch) -> State:
        events = torch.cat([state.memory, self.embedding(event)], dim=1)  # (B, window, D)
        return State(query=self._over(events).squeeze(1), memory=events[:, 1:])

    def _over(self, events: Tensor) -> Tensor:
        """(B, window - 1 + L, D) -> (B, L, D): the windows that end at each of the last L events."""
        image, found = events.transpose(1, 2), []  # (B, D, window - 1 + L)
        for height, convolve in enumerate(self.filters, start=1):
            out = F.relu(convolve(image))  # (B, n_h, window + L - height)
            found.append(F.max_pool1d(out, self.window + 1 - height, stride=1))  # (B, n_h, L)
        across = torch.cat(found, dim=1).transpose(1, 2)  # (B, L, window * n_h)
        down = self.sums(events.unfold(1, self.window, 1)).flatten(2)  # (B, L, D, window) -> (B, L, D * n_v)
        hidden: Tensor = self.project(F.relu(self.join(self.drop(torch.cat([across, down], dim=2)))))
        return hidden
