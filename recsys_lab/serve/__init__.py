"""Trained models put to use from their checkpoint alone: lists for anybody, scores, similar items. Knows data, models,
evaluation, ops and runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_lab.serve.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    """Loaded when it is used: the options of `recsys-lab serve` stand below this folder, and need no torch."""
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recsys_lab.serve.predictor import Predictor

    return Predictor
