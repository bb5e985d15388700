"""Baselines that every comparison should hold."""

from recsys_lab.models.baselines.base import CountingModel
from recsys_lab.models.baselines.popularity import Popularity

__all__ = ["CountingModel", "Popularity"]
