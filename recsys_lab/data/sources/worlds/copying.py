"""What comes next is an item of long ago."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lab.data.sources.worlds.known_world import Events, KnownWorld
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class Copying(KnownWorld):
    """The next item is the one `back` steps ago; the first `back` items of a user are random, each as likely.

    Nothing can be learned of any item: a model has to remember, and to count.

    Attributes:
        back: 1 is the last item.
    """

    back: int = 8

    name = "world-copy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.back <= self.shortest - 2:
            raise RecsysLabError(f"{self.name}: back must be in 1..length / 2 - 2 = {self.shortest - 2}")

    def rules(self, draw: np.random.Generator) -> None:
        return None

    def next_probabilities(self, rules: None, past: Events) -> np.ndarray:
        users, length = past.items.shape
        if length < self.back:
            return np.full((users, self.num_items), 1 / self.num_items)
        probabilities = np.zeros((users, self.num_items))
        probabilities[np.arange(users), past.items[:, length - self.back]] = 1.0
        return probabilities
