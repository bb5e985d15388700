"""Baselines that every comparison should hold. They count; none is trained."""

from __future__ import annotations

from typing import Any

from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.baselines.ease import EASE
from recsys_lab.models.baselines.item_knn import ItemKNN
from recsys_lab.models.baselines.markov import Markov
from recsys_lab.models.baselines.popularity import Popularity
from recsys_lab.models.baselines.recent_popularity import RecentPopularity
from recsys_lab.models.baselines.repeat_last import RepeatLast
from recsys_lab.models.baselines.session_knn import SessionKNN

MANDATORY: list[dict[str, Any]] = [
    {"class_path": f"{__name__}.{name}", "init_args": init_args}
    for name, init_args in (
        ("Popularity", {}),
        ("RecentPopularity", {}),
        ("RepeatLast", {}),
        ("Markov", {"backoff": 0.0}),
        ("Markov", {"backoff": 1.0}),
        ("ItemKNN", {"history": "last"}),
        ("ItemKNN", {"history": "whole"}),
        ("SessionKNN", {}),
        ("EASE", {}),
    )
]
"""The rows of every comparison, for `config.from_config`. EASE refuses catalogues beyond its `max_items`."""

__all__ = [
    "EASE",
    "MANDATORY",
    "CountingModel",
    "ItemKNN",
    "Markov",
    "Popularity",
    "RecentPopularity",
    "RepeatLast",
    "SessionKNN",
]
