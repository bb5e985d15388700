"""Losses: `loss(hidden (N, D), target_ids (N,), scorer, negatives) -> scalar`, the mean over the N targets."""

from __future__ import annotations

from recsys_lab.losses.softmax import CrossEntropy

__all__ = ["CrossEntropy"]
