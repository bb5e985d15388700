"""What comes next is a matter of the time: of the hour of the day, or of the season."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lab.data.sources.worlds.known_world import HOUR, START, Events, KnownWorld, zipf
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class Periodic(KnownWorld):
    """The items are dealt to `phases` parts of a day, and the next item is one of those of the part in which the last
    event lies (probabilities 1/rank among them). From one event to the next it is 1 to `phases` parts, at random: the
    last item says in which part the event before it lay, and the gap between them how far the day has gone on. Without
    times nothing of it is known.

    Attributes:
        phases: Parts of a day.
    """

    phases: int = 4

    name = "world-periodic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.phases <= min(24, self.num_items) or 24 % self.phases:
            raise RecsysLabError(f"{self.name}: phases is {self.phases}; it must divide 24 and be at most num_items")

    def gaps(self, draw: np.random.Generator) -> np.ndarray:
        return (24 // self.phases) * HOUR * draw.integers(1, self.phases + 1, (self.num_users, self.length))

    def rules(self, draw: np.random.Generator) -> np.ndarray:
        """(phases, num_items): what may come after each part of the day."""
        return dealt(draw, self.num_items, self.phases)

    def next_probabilities(self, rules: np.ndarray, past: Events) -> np.ndarray:
        part = (past.times[:, -1] - START) // (24 // self.phases * HOUR) % self.phases
        return rules[part]


@dataclass(frozen=True)
class Drift(KnownWorld):
    """What is popular changes: each of `seasons` has its own order of all items, by which the next item is drawn
    (1/rank). The season is that of the last event; a history covers several of them.

    Attributes:
        seasons: How many there are; after the last one the first comes again.
        season_hours: How long each lasts.
    """

    seasons: int = 5
    season_hours: int = 200

    name = "world-drift"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seasons < 2 or self.season_hours < 1:
            raise RecsysLabError(f"{self.name}: it takes 2 seasons of an hour at least")

    def gaps(self, draw: np.random.Generator) -> np.ndarray:
        gaps = super().gaps(draw)
        gaps[:, 0] = HOUR * draw.integers(0, self.seasons * self.season_hours, self.num_users)
        return gaps

    def rules(self, draw: np.random.Generator) -> np.ndarray:
        return np.stack([draw.permutation(zipf(self.num_items)) for _ in range(self.seasons)])

    def next_probabilities(self, rules: np.ndarray, past: Events) -> np.ndarray:
        return rules[(past.times[:, -1] - START) // (HOUR * self.season_hours) % self.seasons]


def dealt(draw: np.random.Generator, num_items: int, parts: int) -> np.ndarray:
    """(parts, num_items): each item belongs to one part, where 1/rank is its probability."""
    probabilities, order = np.zeros((parts, num_items)), draw.permutation(num_items)
    for part in range(parts):
        own = order[part::parts]
        probabilities[part, own] = zipf(len(own))
    return probabilities
