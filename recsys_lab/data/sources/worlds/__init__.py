"""Worlds: made data whose best possible score is known, each with one thing to learn. One file for each kind.

`recsys-lab fit --data.dataset world-copy --data.exclude_seen none ...`: items come again, so seen ones must stay.
"""

from __future__ import annotations

from recsys_lab.data.sources.worlds.copying import Copying
from recsys_lab.data.sources.worlds.markov_chains import Behaviours, MarkovChain
from recsys_lab.data.sources.worlds.popular_items import PopularItems
from recsys_lab.data.sources.worlds.timed import Drift, Periodic

SOURCES = [
    MarkovChain(),
    MarkovChain(order=2, num_items=20),
    Copying(),
    Periodic(),
    Behaviours(),
    Drift(),
    PopularItems(),
]
