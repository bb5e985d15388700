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
