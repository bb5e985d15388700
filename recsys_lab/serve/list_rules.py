"""ListRules: what the lists of a run leave out beside what its caller says: the items of which events, and those that
can't be had at the time of the question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from recsys_lab.contracts import Batch
from recsys_lab.data.batches.event_rules import Live
from recsys_lab.data.batches.gather import ExcludeSeen


@dataclass(frozen=True)
class ListRules:
    """As `data.exclude_seen`, `data.exclude_seen_types`, `data.sessions` and `data.available` of the run were.

    sessions: what ends a session, where `exclude_seen` is `session`.
    """

    exclude_seen: ExcludeSeen = "history"
    types: tuple[str, ...] | None = None
    sessions: str | None = None
    live: Live | None = None

    @classmethod
    def of(cls, held: dict[str, Any] | None) -> ListRules:
        """held: `Vocabulary.lists`; None in checkpoints of before, whose whole history is left out."""
        if held is None:
            return cls()
        types, since = held.get("exclude_seen_types"), held.get("since")
        live = None if since is None else Live(since.cpu().numpy(), held["until"].cpu().numpy())
        return cls(held["exclude_seen"], None if types is None else tuple(types), held.get("sessions"), live)

    @property
    def need_events(self) -> bool:
        """More of the events of a history than its items."""
        return self.types is not None or self.live is not None or self.exclude_seen in ("session", "window")


def without_unavailable(batch: Batch, live: Live, now: np.ndarray) -> Batch:
    """The batch, with the items that are not to be had at the times `now` (B,) among those that lists leave out."""
    assert batch.seen_ids is not None and batch.seen_offsets is not None
    offsets = batch.seen_offsets.numpy(force=True)
    row = np.repeat(np.arange(len(now)), np.diff(offsets))
    rows, items = live.left_out(row, batch.seen_ids.numpy(force=True), now)
    ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(now)))])
    device = batch.item_ids.device
    return replace(
        batch,
        seen_ids=torch.from_numpy(items.astype(np.int64)).to(device),
        seen_offsets=torch.from_numpy(ends.astype(np.int64)).to(device),
    )
