"""Which items a list may hold: candidates, of all or of each user, less what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys_lab.data.batches.event_rules import Live
from recsys_lab.data.batches.gather import ExcludeSeen
from recsys_lab.serve.item_ids import ItemIds
from recsys_lab.serve.list_rules import ListRules
from recsys_lab.words import PAD_ID, RecsysLabError


@dataclass(frozen=True)
class ItemChoice:
    """is_candidate: (V,) bool. hides: which of a user's own items are left out; by_types: of these alone whose events
    are of the run's types. live: when items can be had; None where the caller named them, or always.
    allowed: ids (S,) and offsets (U + 1,): user u's own candidates, distinct and all of them in `is_candidate`;
    None = all.
    """

    is_candidate: Tensor
    hides: ExcludeSeen
    by_types: bool = False
    live: Live | None = None
    allowed: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(
        cls,
        item_ids: ItemIds,
        trained: Tensor,
        scored: Tensor,
        users: pl.Series,
        exclude: Any,
        blocked: Any,
        candidates: Any,
        rules: ListRules,
    ) -> ItemChoice:
        """See `Predictor.recommend`.

        Args:
            trained: (V,) bool: items with training events. scored: those that the model can say something of.
            users: (U,) that are asked for. rules: of the run.
        """
        mask = (trained if candidates is None else scored).clone()
        names = {"run": rules.exclude_seen, "history": "history"}
        if isinstance(exclude, str) and exclude not in names:
            raise RecsysLabError(f"exclude={exclude!r}; it is 'run', 'history', None, or a list of item ids")
        hides: Any = names[exclude] if isinstance(exclude, str) else "none"
        by_types = isinstance(exclude, str) and exclude == "run" and rules.types is not None
        named = None if isinstance(exclude, str) else exclude
        for ids, what in ((named, "items to exclude"), (blocked, "blocked items")):
            if ids is not None:
                mask[torch.from_numpy(item_ids.rows(_listed(ids, what), what))] = False
        if isinstance(candidates, str) and candidates == "all":
            if torch.equal(trained, scored):
                raise RecsysLabError(
                    "candidates='all': the model knows items by their ids alone, and has learned nothing of those "
                    "without a training event. Without candidates= lists are made of all the others"
                )
            candidates = None
        if candidates is None:
            return cls(mask, hides, by_types, rules.live)
        if isinstance(candidates, Mapping):
            by_text = {str(user): own for user, own in candidates.items()}
            candidates = [by_text.get(str(user), ()) for user in users.to_list()]
        listed, num_users = _listed(candidates, "candidates"), len(users)
        if not (len(listed) and isinstance(listed[0], list | tuple | set | frozenset | np.ndarray)):
            shared = torch.zeros_like(mask)
            shared[torch.from_numpy(item_ids.rows(listed, "candidates"))] = True
            return cls(mask & shared, hides, by_types)
        if len(listed) != num_users:
            raise RecsysLabError(f"candidates has {len(listed)} lists, and there are {num_users} users: one for each")
        lengths = [len(_listed(one, "each list of candidates")) for one in listed]
        rows = item_ids.rows([raw for one in listed for raw in one], "candidates")
        owner = np.repeat(np.arange(num_users), lengths)
        good = mask.numpy(force=True)[rows] & (rows != PAD_ID)
        pairs = np.unique(np.stack([owner[good], rows[good]]), axis=1)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs[0], minlength=num_users))])
        device = mask.device
        allowed = (torch.from_numpy(pairs[1]).to(device), torch.from_numpy(offsets).to(device))
        return cls(mask, hides, by_types, allowed=allowed)

    def count(self, users: np.ndarray) -> np.ndarray:
        """(n,) users -> (n,) how many candidates each has, before its history is left out."""
        if self.allowed is None:
            return np.full(len(users), int(self.is_candidate.sum()) if len(users) else 0)
        counts: np.ndarray = np.diff(self.allowed[1].numpy(force=True))[users]
        return counts

    def of_users(self, users: np.ndarray) -> tuple[Tensor, Tensor] | None:
        """`allowed` of some users, in their order."""
        if self.allowed is None:
            return None
        ids, offsets = self.allowed
        chosen = torch.from_numpy(users).to(ids.device)
        start, length = offsets[chosen], offsets.diff()[chosen]
        ends = length.cumsum(0)
        place = torch.arange(int(ends[-1]) if len(ends) else 0, device=ids.device)
        place = place + torch.repeat_interleave(start - (ends - length), length)
        return ids[place], torch.cat([ends.new_zeros(1), ends])


def _listed(ids: Any, what: str) -> list[Any]:
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise RecsysLabError(f"{what} must be a list of item ids, not {ids!r}")
    return ids.to_list() if hasattr(ids, "to_list") else list(ids)
