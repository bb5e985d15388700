"""Rules: which events may be targets and how much each counts, where sessions begin, and what ranking leaves out beside
what a user has seen. All of it off by default."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


class Live:
    """When each item can be recommended.

    Args:
        since, until: (V,) int64 Unix seconds, both included; [0] is padding.
    """

    def __init__(self, since: np.ndarray, until: np.ndarray) -> None:
        self.since, self.until = since, until

    def left_out(self, row: np.ndarray, items: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Adds the items that are not live.

        Args:
            row, items: (S,) each: pairs that are left out already. now: (B,) times of the questions.

        Returns:
            The rows, ascending, and items of all pairs, each once.
        """
        out = (self.since > now[:, None]) | (self.until < now[:, None])  # (B, V)
        out[row, items] = True
        out[:, 0] = False
        rows, left = np.nonzero(out)
        return rows, left


@dataclass(frozen=True)
class Rules:
    """None: no rule.

    Attributes:
        is_target: (E,) bool: events that training may predict.
        weights: (E,) float32: how much each counts as a target.
        hides: (E,) bool: events whose item ranking leaves out, where `exclude_seen` reaches them.
        session_start: (E,) int64: the position of the first event of the session that each is in.
        live: when each item can be recommended.
        asked: (1,) int64 row of the field `event_type`: the one type that may be a target. A prediction asks for it.
    """

    is_target: np.ndarray | None = None
    weights: np.ndarray | None = None
    hides: np.ndarray | None = None
    session_start: np.ndarray | None = None
    live: Live | None = None
    asked: torch.Tensor | None = None
