"""Nothing to learn but how popular each item is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lab.data.sources.worlds.known_world import Events, KnownWorld, zipf


@dataclass(frozen=True)
class PopularItems(KnownWorld):
    """Each item is drawn by popularity (1/rank), whatever came before: a model that is better than `Popularity` on the
    training part has learned noise."""

    name = "world-popularity"

    def rules(self, draw: np.random.Generator) -> np.ndarray:
        return draw.permutation(zipf(self.num_items))

    def next_probabilities(self, rules: np.ndarray, past: Events) -> np.ndarray:
        return np.repeat(rules[None], len(past.items), axis=0)
