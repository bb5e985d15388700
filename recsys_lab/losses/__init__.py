"""Losses: `loss(hidden (N, D), target_ids (N,), scorer, negatives, weights) -> scalar`, the mean over the N targets.

A loss is one file here. Those below are named for editors and type checkers; any other is found by its name as well.
"""

from __future__ import annotations

from typing import Any

from recsys_lab.config import class_in
from recsys_lab.losses.pairwise import BPR, BPRMax, TOP1Max
from recsys_lab.losses.pointwise import BCE, GBCE
from recsys_lab.losses.softmax import CrossEntropy, SampledSoftmax

__all__ = ["BCE", "BPR", "GBCE", "BPRMax", "CrossEntropy", "SampledSoftmax", "TOP1Max"]


def __getattr__(name: str) -> Any:
    return class_in(__name__, name)
