"""What comes next is a matter of the last item, of the last few, or of the last item and what was done with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lab.data.sources.worlds.known_world import Events, KnownWorld, zipf
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class MarkovChain(KnownWorld):
    """After the last `order` items comes one of `num_successors` items (probabilities 1, 1/2, 1/3, ..., normalised).

    The successors of different sequences are drawn apart: with order 2 the last item alone says next to nothing. Before
    a user has `order` events, the first one stands in for those that are missing.

    Attributes:
        order: How many of the newest items matter. There are num_items ** order sequences to learn.
        num_successors: Items that follow a sequence.
    """

    order: int = 1
    num_successors: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order < 1 or self.num_items**self.order * self.num_successors > 10**7:
            problem = "it must be at least 1, and num_items ** order x num_successors at most 10,000,000"
            raise RecsysLabError(f"{self.name}: order is {self.order}; {problem}")
        if self.order > self.shortest - 2:
            raise RecsysLabError(f"{self.name}: order must be at most length / 2 - 2 = {self.shortest - 2}")
        _check_successors(self, self.num_successors)

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"world-markov-{self.order}"

    def rules(self, draw: np.random.Generator) -> np.ndarray:
        return successors(draw, self.num_items**self.order, self.num_items, self.num_successors)

    def next_probabilities(self, rules: np.ndarray, past: Events) -> np.ndarray:
        sequence = np.zeros(len(past.items), dtype=np.int64)
        for back in range(self.order, 0, -1):
            sequence = sequence * self.num_items + past.items[:, max(past.items.shape[1] - back, 0)]
        return over(rules[sequence], self.num_items)


@dataclass(frozen=True)
class Behaviours(KnownWorld):
    """Each event is of one of `num_behaviours` kinds at random, and an item's successors depend on the kind: what
    follows a view is not what follows a purchase. The kind is the field `event_type`.

    Attributes:
        num_behaviours: Kinds.
        num_successors: Items that follow an item and a kind.
    """

    num_behaviours: int = 4
    num_successors: int = 3

    name = "world-behaviours"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_behaviours < 2:
            raise RecsysLabError(f"{self.name}: num_behaviours is {self.num_behaviours}; it must be at least 2")
        _check_successors(self, self.num_successors)

    def behaviours(self, draw: np.random.Generator) -> np.ndarray:
        return draw.integers(0, self.num_behaviours, (self.num_users, self.length))

    def rules(self, draw: np.random.Generator) -> np.ndarray:
        return successors(draw, self.num_behaviours * self.num_items, self.num_items, self.num_successors)

    def next_probabilities(self, rules: np.ndarray, past: Events) -> np.ndarray:
        return over(rules[past.kinds[:, -1] * self.num_items + past.items[:, -1]], self.num_items)


def successors(draw: np.random.Generator, rows: int, num_items: int, number: int) -> np.ndarray:
    """(rows, number) int64, distinct in each row."""
    return draw.random((rows, num_items)).argpartition(number - 1, axis=1)[:, :number]


def over(items: np.ndarray, num_items: int) -> np.ndarray:
    """(U, S) distinct items -> (U, num_items) their probabilities, the first of each row the likeliest."""
    probabilities = np.zeros((len(items), num_items))
    probabilities[np.arange(len(items))[:, None], items] = zipf(items.shape[1])
    return probabilities


def _check_successors(world: KnownWorld, number: int) -> None:
    if not 1 <= number < world.num_items:
        raise RecsysLabError(f"{world.name}: num_successors must be in 1..num_items - 1 = {world.num_items - 1}")
