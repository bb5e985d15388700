"""Trained models put to use from their checkpoint alone: lists for anybody, scores, similar items. Knows data, models,
evaluation, ops and runs.
"""

from __future__ import annotations

from recsys_lab.serve.predictor import Predictor

__all__ = ["Predictor"]
