"""Trained models put to use from their checkpoint alone: lists for anybody, scores, similar items. Knows data, models,
evaluation, ops, runs and statistics.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_lab.serve.item_facts import item_frame
    from recsys_lab.serve.predictor import Predictor
    from recsys_lab.serve.rerank import mmr, popularity_cap, quota

__all__ = ["Predictor", "item_frame", "mmr", "popularity_cap", "quota"]

_PLACES = {
    "Predictor": "predictor",
    "item_frame": "item_facts",
    "mmr": "rerank",
    "popularity_cap": "rerank",
    "quota": "rerank",
}


def __getattr__(name: str) -> Any:
    """Loaded when it is used: the options of `recsys-lab serve` stand below this folder, and need no torch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
