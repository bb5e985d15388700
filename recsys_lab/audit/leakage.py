"""The leakage audit: what a split lets a model know of the time after its targets, and which targets are out of reach.

Ji et al. 2023, "A Critical Study on Data Leakage in Recommender System Offline Evaluation"; Hidasi & Czapp 2023,
"Widespread Flaws in Offline Evaluation of Recommender Systems".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.audit.log import Log
from recsys_lab.data.split.leave_one_out import SplitResult, Targets

TIME_BINS = 40
POPULAR = 10
NEVER = np.iinfo(np.int64).max


def leakage(log: Log, split: SplitResult) -> dict[str, Any]:
    """Sizes of the parts, `val` and `test` facts (see `target_facts`), and when each part happens, as plain data."""
    is_training = np.arange(log.num_events) < np.repeat(split.train_stop, log.lengths)
    return {
        "training_events": int(is_training.sum()),
        "training_items": int((np.bincount(log.item_ids[is_training], minlength=log.num_items + 1) > 0).sum()),
        "dropped": dict(split.dropped),
        "val": target_facts(log, split.val, is_training),
        "test": target_facts(log, split.test, is_training),
        "val_targets_after_first_test_target": _val_after_test(log, split),
        "when": _when(log, split, is_training),
    }


def target_facts(log: Log, targets: Targets, is_training: np.ndarray) -> dict[str, Any] | None:
    """Shares over the targets of one part (0..1); those that need time are None without it. None without targets.

    "Later" is strictly later in seconds. An item exists from its first event in the whole log; candidates are the items
    that have training events.

    Args:
        is_training: (E,) bool, the events that the model trains on.
    """
    if not len(targets):
        return None
    position, items = targets.position, log.item_ids[targets.position]
    counts = np.bincount(log.item_ids[is_training], minlength=log.num_items + 1)
    facts: dict[str, Any] = {
        "targets": len(targets),
        "users": len(np.unique(targets.user_index)),
        "trained": float(is_training[position].mean()),
        "seen": float(log.is_repeat[position].mean()),
        "cold": float((counts[items] == 0).mean()),
        "tied": None,
        "future_events": None,
        "future_events_per_target": None,
        "future_target_items": None,
        "future_candidates": None,
        "future_popular_items": None,
    }
    if log.timestamps is None or log.is_tied is None:
        return facts
    moment = log.timestamps[position]
    training_times = np.sort(log.timestamps[is_training])
    birth = first_times(log, np.ones(log.num_events, dtype=bool))
    first_trained = first_times(log, is_training)
    candidates = np.flatnonzero(counts)
    popular = np.lexsort((candidates, -counts[candidates]))[:POPULAR]
    return facts | {
        "tied": float(log.is_tied[position].mean()),
        "future_events": share_later(training_times, moment.min(keepdims=True)),
        "future_events_per_target": share_later(training_times, moment),
        "future_target_items": float(((counts[items] > 0) & (first_trained[items] > moment)).mean()),
        "future_candidates": share_later(np.sort(birth[candidates]), moment),
        "future_popular_items": share_later(np.sort(birth[candidates[popular]]), moment),
    }


def share_later(times: np.ndarray, moments: np.ndarray) -> float | None:
    """Mean over (M,) moments of the share of (n,) sorted times that are later; None if there are no times."""
    if not len(times):
        return None
    later = len(times) - np.searchsorted(times, moments, side="right")
    return int(later.sum()) / (len(times) * len(moments))  # whole numbers: exactly 0 where nothing is later


def first_times(log: Log, among: np.ndarray) -> np.ndarray:
    """(num_items + 1,) time of each item's first event among those with (E,) `among`; `NEVER` where there is none."""
    assert log.timestamps is not None
    first = np.full(log.num_items + 1, NEVER)
    np.minimum.at(first, log.item_ids[among], log.timestamps[among])
    return first


def future_items(log: Log, user_index: np.ndarray, item_ids: np.ndarray, moments: np.ndarray | None) -> float:
    """Share of recommended items that had no event yet, in the whole log, when they were recommended.

    Args:
        user_index: (R,) user row of each recommendation.
        item_ids: (R,) the recommended items.
        moments: (R,) time of the recommendation; None = the user's last event, the time of a leave-one-out target.
    """
    assert log.timestamps is not None
    if moments is None:
        moments = log.timestamps[log.offsets[1:] - 1][user_index]
    birth = first_times(log, np.ones(log.num_events, dtype=bool))
    return float((birth[item_ids] > moments).mean())


def _val_after_test(log: Log, split: SplitResult) -> float | None:
    if log.timestamps is None or not len(split.val) or not len(split.test):
        return None
    first_test = log.timestamps[split.test.position].min()
    return float((log.timestamps[split.val.position] > first_test).mean())


def _when(log: Log, split: SplitResult, is_training: np.ndarray) -> dict[str, Any] | None:
    """Events per equal slice of the time span, for a picture; None without time."""
    if log.timestamps is None:
        return None
    edges = np.linspace(int(log.timestamps.min()), int(log.timestamps.max()) + 1, TIME_BINS + 1)
    parts = {
        "training": log.timestamps[is_training],
        "val": log.timestamps[split.val.position],
        "test": log.timestamps[split.test.position],
    }
    return {"edges": edges.astype(np.int64).tolist()} | {
        name: np.histogram(times, edges)[0].tolist() for name, times in parts.items()
    }
