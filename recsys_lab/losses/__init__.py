"""Losses: `loss(hidden (N, D), target_ids (N,), scorer, negatives) -> scalar`, the mean over the N targets."""

from __future__ import annotations

from recsys_lab.losses.pairwise import BPR, BPRMax, TOP1Max
from recsys_lab.losses.pointwise import BCE, GBCE
from recsys_lab.losses.softmax import CrossEntropy, SampledSoftmax

__all__ = ["BCE", "BPR", "GBCE", "BPRMax", "CrossEntropy", "SampledSoftmax", "TOP1Max"]
