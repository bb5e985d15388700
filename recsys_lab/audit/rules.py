"""Is the data sequential at all? How many rules "after these items comes that one" it has, and how many are left after
each user's events are shuffled.

Klenitskiy et al. 2024, "Does It Look Sequential? An Analysis of Datasets for Evaluation of Sequential Recommendations"
(RecSys 2024). Counted as there: a rule is a run of n items that occurs more than 5 times, and that makes up more than a
tenth of the occurrences of its first n - 1 items. Where order matters, shuffling destroys almost all of them. What
differs: the mean of several shuffles is reported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.audit.log import Log
from recsys_lab.data.histories import order_within_users


def order_rules(
    log: Log, longest: int = 3, support: int = 5, confidence: float = 0.1, shuffles: int = 3, seed: int = 0
) -> list[dict[str, Any]]:
    """One entry for each n = 2..longest: the number of rules in the data and in shuffled data, as plain data.

    `change` is shuffled / data - 1: -1 = all gone, 0 = the order of events plays no part. None without rules.
    """
    original = count_rules(log, log.item_ids, longest, support, confidence)
    # a stream of its own: data made with the same seed would otherwise be sorted by the very numbers that drew it
    draw = np.random.default_rng([seed, 20241014])
    shuffled = [count_rules(log, _shuffled(log, draw), longest, support, confidence) for _ in range(shuffles)]
    found = []
    for index, rules in enumerate(original):
        left = [counts[index] for counts in shuffled]
        mean = sum(left) / len(left)
        found.append(
            {
                "n": index + 2,
                "rules": rules,
                "rules_shuffled": left,
                "change": mean / rules - 1 if rules else None,
                "support_above": support,
                "confidence_above": confidence,
            }
        )
    return found


def count_rules(log: Log, item_ids: np.ndarray, longest: int, support: int, confidence: float) -> list[int]:
    """Number of rules of n = 2..longest items.

    A run can only be frequent if the run without its last item is: n-grams are counted level by level, over numbers of
    the frequent shorter ones (Apriori), so that no key grows with num_items ** n.

    Args:
        item_ids: (E,) items in CSR form, in the order to look at.
    """
    num_events, size = len(item_ids), log.num_items + 1
    left = np.repeat(log.offsets[1:], log.lengths) - np.arange(num_events)  # (E,) events of the user from here on
    counts = np.bincount(item_ids, minlength=size)
    is_frequent = counts > support
    prefix = np.where(is_frequent[item_ids], item_ids.astype(np.int64), -1)  # (E,) the frequent run that starts here
    found = []
    for n in range(2, longest + 1):
        start = np.flatnonzero((prefix >= 0) & (left >= n))
        last = item_ids[start + n - 1]
        start, last = start[is_frequent[last]], last[is_frequent[last]]
        keys = prefix[start] * size + last
        runs, times = _count(keys)
        runs, times = runs[times > support], times[times > support]
        found.append(int((times > confidence * counts[runs // size]).sum()))
        if not len(runs):
            return found + [0] * (longest - n)
        number = np.minimum(np.searchsorted(runs, keys), len(runs) - 1)
        prefix = np.full(num_events, -1, dtype=np.int64)
        prefix[start] = np.where(runs[number] == keys, number, -1)
        counts = times
    return found


def _count(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct keys, sorted, and how often each occurs."""
    keys = np.sort(keys)
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    return keys[first], np.diff(np.append(first, len(keys)))


def _shuffled(log: Log, draw: np.random.Generator) -> np.ndarray:
    """(E,) item ids with the events of each user in random order."""
    longest = int(log.lengths.max(initial=1))
    num_keys = max(1 << 16, min(1 << 32, (1 << 62) // (log.num_users * longest)))
    return log.item_ids[order_within_users(log.offsets, draw.integers(num_keys, size=log.num_events), num_keys)]
