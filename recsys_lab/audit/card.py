"""The data card: sizes, distributions and the time span of a log."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from recsys_lab.audit.log import Log

MOST_EVENT_TYPES = 255
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


def data_card(log: Log, event_type_names: list[str] | None = None) -> dict[str, Any]:
    """Sizes, history lengths, popularity and time, as plain data.

    `density` is the share of all user-item pairs that occur; repeats count once.
    """
    pairs = log.num_events - int(log.is_repeat.sum())
    return {
        "users": log.num_users,
        "items": log.num_items,
        "events": log.num_events,
        "distinct_pairs": pairs,
        "density": pairs / (log.num_users * log.num_items),
        "event_types": _event_types(log, event_type_names or []),
        "history_length": distribution(log.lengths),
        "popularity": popularity(log.item_counts[1:]),
        "time": time_span(log),
    }


def distribution(values: np.ndarray) -> dict[str, Any]:
    """Summary of (n,) positive whole numbers; bins of about equal width on a log scale: [edges[k], edges[k + 1])."""
    edges = _edges(int(values.max()))
    counts = np.bincount(np.searchsorted(edges, values, side="right") - 1, minlength=len(edges) - 1)
    first = int(np.flatnonzero(counts)[0])
    return {
        "min": int(values.min()),
        "mean": float(values.mean()),
        "max": int(values.max()),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)},
        "histogram": {"edges": edges[first:].tolist(), "counts": counts[first:].tolist()},
    }


def popularity(counts: np.ndarray) -> dict[str, Any]:
    """How unevenly (I,) event counts lie on items.

    `decile_shares[0]` is the share of events on the most popular tenth of items; `gini` is 0 where all items are
    equally popular and goes to 1 where one item has all events.
    """
    descending = np.sort(counts)[::-1]
    total, number = int(counts.sum()), len(counts)
    reached = np.concatenate([[0], np.cumsum(descending)])
    deciles = reached[np.rint(np.linspace(0, number, 11)).astype(np.int64)]
    rank = np.arange(number, 0, -1)  # of the sorted ascending counts: 1 = least popular
    return {
        **distribution(counts[counts > 0]),
        "gini": float((2 * rank - number - 1) @ descending / (number * total)),
        "top_1_percent_share": float(reached[max(1, round(number / 100))] / total),
        "decile_shares": (np.diff(deciles) / total).tolist(),
    }


def time_span(log: Log) -> dict[str, Any] | None:
    """First and last event, the resolution of the clock and the time between a user's events; None without time."""
    times = log.timestamps
    if times is None:
        return None
    first, last = int(times.min()), int(times.max())
    gaps = np.diff(times)[log.same_user]
    return {
        "first": iso(first),
        "last": iso(last),
        "days": (last - first) / 86400,
        # the largest step that all times are multiples of: 86400 = the log knows days only
        "resolution_seconds": int(np.gcd.reduce(times - first)) or 1,
        "median_gap_seconds": float(np.median(gaps)) if len(gaps) else None,
        "median_user_span_days": float(np.median(times[log.offsets[1:] - 1] - times[log.offsets[:-1]]) / 86400),
    }


def iso(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")


def _event_types(log: Log, names: list[str]) -> dict[str, int]:
    if log.event_types is None or not names:
        return {}
    counts = np.bincount(log.event_types, minlength=len(names) + 1)[1:]
    shown = np.sort(np.argsort(-counts, kind="stable")[:MOST_EVENT_TYPES])  # the most frequent, by name
    return {names[code]: int(counts[code]) for code in shown}


def _edges(largest: int) -> np.ndarray:
    """1, 2, 3, 5, 7, 10, 20, 30, 50, .. until above `largest`."""
    edges = [1]
    while edges[-1] <= largest:
        edges += [step * 10 ** (len(edges) // 5) for step in (2, 3, 5, 7, 10)]
    array = np.array(edges, dtype=np.int64)
    return array[: int(np.searchsorted(array, largest, side="right")) + 1]
