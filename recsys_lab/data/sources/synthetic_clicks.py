"""Made-up lists with clicks: a small set on which click-through can be tried without a download."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.reading.source import RawTables, Source

START, DAY = 1_600_000_000, 86_400
NEVER = 99
"""An item that is shown now and then, and hardly ever deserves a click: it never has an event."""


@dataclass(frozen=True)
class SyntheticClicks(Source):
    """Each user likes one half of the items, looks at two of these before a list, and clicks on liked items and on the
    first place more often. A click is an event at the time of its list. The first list of each fifth user comes before
    any event of theirs.

    Attributes:
        num_users: Users.
        num_items: Items, below 99.
        lists: Lists of each user.
        shown: Items of a list.
        seed: Another seed makes other lists.
    """

    num_users: int = 300
    num_items: int = 60
    lists: int = 8
    shown: int = 8
    seed: int = 0

    name = "synthetic-clicks"
    licence = "made by recsys_lab, free to use"
    homepage = "built in"
    citation = "recsys_lab, data/sources/synthetic_clicks.py"
    urls = ()
    checked_by = "made from its seed"
    has_timestamps = True

    @property
    def default_settings(self) -> dict[str, Any]:
        return {"fields": ["position=categorical"]}

    def tables(self, raw_dir: Path) -> RawTables:
        events, impressions = self.frames()
        return RawTables(events.with_row_index("order").lazy(), shown=impressions.lazy())

    def fingerprint(self, raw_dir: Path) -> str:
        return hashlib.sha256("".join(frame.write_csv() for frame in self.frames()).encode()).hexdigest()

    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Events; and shown items with `position`, `price`, and `chance`, with which each place is shown an item."""
        rng = np.random.default_rng(self.seed)
        events, rows, impression = list[Any](), list[Any](), 0
        for user in range(self.num_users):
            likes = user % 2
            time = START + int(rng.integers(DAY))
            for number in range(self.lists):
                time += int(rng.integers(1, DAY))
                for _ in range(0 if number == 0 and user % 5 == 0 else 2):
                    liked = 2 * int(rng.integers(self.num_items // 2)) + likes
                    events.append((user, liked, time - int(rng.integers(2, 900))))
                listed = rng.choice(self.num_items, size=self.shown, replace=False)
                listed = np.where(rng.random(self.shown) < 0.05, NEVER, listed)
                for place, item in enumerate(listed.tolist()):
                    chance = (
                        0.04 if item == NEVER else (0.55 if item % 2 == likes else 0.15) * (0.8 + 0.5 * (place == 0))
                    )
                    label = int(item != NEVER and rng.random() < chance)
                    price, shown = float(rng.integers(1, 50)), 1 / (place + 2)
                    rows.append((impression, user, item, time, label, place + 1, price, shown))
                    if label:
                        events.append((user, item, time))
                impression += 1
        columns = ["impression_id", "user_id", "item_id", "timestamp", "label", "position", "price", "chance"]
        return (
            pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row"),
            pl.DataFrame(rows, schema=columns, orient="row"),
        )


SOURCES = [SyntheticClicks()]
