"""Checks: the numbers of an audit that a threshold can be set on, each with its meaning; and the thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recsys_lab.words import RecsysLabError, resolve_names

MEANINGS = {
    "tied_events": "events at the same time as another event of their user: their order is a choice, not a fact",
    "tied_targets": "test targets at the same time as another event of their user",
    "repeated_events": "events with an item that the user has had before",
    "consecutive_repeats": "events with the same item as the event just before",
    "duplicate_events": "events that an earlier one equals in user, item, time and type",
    "duplicate_users": "users whose whole history another user has as well",
    "seen_targets": "test targets (cold ones too) already in the history: out of reach when seen items are hidden",
    "cold_targets": "test targets without a training event of their item: out of reach for models that learn items",
    "trained_targets": "test targets that are training events as well",
    "future_events": "training events later than the earliest test target",
    "future_events_per_target": "training events later than a test target, on average over the targets",
    "future_target_items": "test targets whose item is known from later training events only",
    "future_candidates": "candidate items that did not exist yet at the time of a test target, on average",
    "future_popular_items": "of the 10 items most popular in training: those that did not exist yet at a test target",
    "future_val_targets": "validation targets later than the earliest test target: the model is chosen by the future",
    "future_items": "recommended items that did not exist yet at the time of the recommendation",
}
"""Name -> what the share is a share of. Every one is between 0 and 1, and bad when high."""


WORTH_A_WORD = 0.01
"""Shares from here on come with what can be done."""
_IN_TIME = "split by one moment: `--split GlobalTemporal` (`fit --data.split GlobalTemporal`)"
_TIES = "try other orders of ties: `prepare --tie_order random --seed 0`, then other seeds; say in a paper which"
MENDS = {
    "tied_events": _TIES,
    "tied_targets": _TIES,
    "repeated_events": "if an item can be wanted again, let it be recommended again: `fit --data.exclude_seen none`",
    "consecutive_repeats": "if a run of one item is one event: `prepare --consecutive_repeats drop`",
    "duplicate_events": "if copies are no events: `prepare --duplicates drop`",
    "duplicate_users": "look whether they are copies of one user, in training and in test: mend the log then",
    "seen_targets": "these can't be hit while seen items are hidden: `fit --data.exclude_seen none`",
    "cold_targets": "only a model that reads fields of items can rank them: `prepare --items FILE`, docs/fields.md",
    "trained_targets": "take another split: they are learned by heart",
    **{name: _IN_TIME for name in MEANINGS if name.startswith("future_") and name != "future_items"},
    "future_items": "recommend from items that exist at that time",
}
"""Name -> what to do where the share is high."""


def mends(audit: dict[str, Any]) -> list[tuple[float, list[str], str]]:
    """(largest share, names of the checks, what to do), the worst first; only shares that are worth a word."""
    high = {name: check["value"] for name, check in audit["checks"].items() if (check["value"] or 0) >= WORTH_A_WORD}
    found: dict[str, list[str]] = {}
    for name in sorted(high, key=lambda name: -high[name]):
        found.setdefault(MENDS[name], []).append(name)
    return [(high[names[0]], names, what) for what, names in found.items()]


def checks(audit: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> {value, meaning}; the value is None where it can't be known (no time, no targets, no recommendations)."""
    card, order, leak = audit["card"], audit["order"], audit["leakage"]
    test = leak["test"] or {}
    values = {
        **{
            name: _share(order[name], card["users" if name == "duplicate_users" else "events"])
            for name in ("tied_events", "repeated_events", "consecutive_repeats", "duplicate_events", "duplicate_users")
        },
        **{f"{name}_targets": test.get(name) for name in ("tied", "seen", "cold", "trained")},
        **{name: test.get(name) for name in MEANINGS if name.startswith("future_")},
        "future_val_targets": leak["val_targets_after_first_test_target"],
        "future_items": (audit["recommendations"] or {}).get("future_items"),
    }
    return {name: {"value": values[name], "meaning": meaning} for name, meaning in MEANINGS.items()}


def parse_thresholds(texts: Iterable[str]) -> dict[str, float]:
    """`future_events=0` and its like -> the largest value that is allowed.

    Raises:
        RecsysLabError: for another form, an unknown name (listing the known ones), or two limits for one name.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = float("nan")
        if not equals or not 0 <= limit <= 1:
            raise RecsysLabError(f"--fail-on {text!r}: write name=share with a share from 0 to 1, as future_events=0")
        resolve_names([name], MEANINGS, "check")
        if name in found:
            raise RecsysLabError(f"--fail-on names {name!r} twice")
        found[name] = limit
    return found


def failures(audit: dict[str, Any], thresholds: dict[str, float]) -> list[str]:
    """One line per check that is above its limit, or that can't be known although it has one.

    Two limits always hold: no target is a training event, and no training event of a split that says it does not leak
    is later than the first target.
    """
    limits = {"trained_targets": 0.0} | ({} if audit["split"]["leaky"] else {"future_events": 0.0}) | thresholds
    lines = []
    for name, limit in limits.items():
        check = audit["checks"][name]
        if check["value"] is None:
            if name in thresholds:
                lines.append(f"{name} is not known here, so it can't be held to {limit:g} ({check['meaning']})")
        elif check["value"] > limit:
            lines.append(f"{name} is {check['value']:.6g}, at most {limit:g} is allowed ({check['meaning']})")
    return lines


def _share(count: int | None, total: int) -> float | None:
    return None if count is None else count / total
