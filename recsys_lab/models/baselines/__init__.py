"""Baselines that every comparison should hold (`runs.baselines.MANDATORY`). They count; none is trained."""

from __future__ import annotations

from recsys_lab.models.baselines.category_popularity import CategoryPopularity
from recsys_lab.models.baselines.click_rates import ClickBaseline, ClickRegression, ConstantRate, ItemRate, UserRate
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.baselines.ease import EASE
from recsys_lab.models.baselines.item_knn import ItemKNN
from recsys_lab.models.baselines.label_rates import ItemMajorityLabel, MajorityLabel, PreviousLabel
from recsys_lab.models.baselines.markov import Markov
from recsys_lab.models.baselines.popularity import Popularity
from recsys_lab.models.baselines.recent_popularity import RecentPopularity
from recsys_lab.models.baselines.repeat_last import RepeatLast
from recsys_lab.models.baselines.session_knn import SessionKNN
from recsys_lab.models.baselines.transition_graph import TransitionGraph

__all__ = [
    "EASE",
    "CategoryPopularity",
    "ClickBaseline",
    "ClickRegression",
    "ConstantRate",
    "CountingModel",
    "ItemKNN",
    "ItemRate",
    "ItemMajorityLabel",
    "MajorityLabel",
    "Markov",
    "Popularity",
    "PreviousLabel",
    "RecentPopularity",
    "RepeatLast",
    "SessionKNN",
    "TransitionGraph",
    "UserRate",
]
