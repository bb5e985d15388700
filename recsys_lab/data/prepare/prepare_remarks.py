"""Remarks on a prepared set: events in it that may not be meant as events, and the option that leaves them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys_lab.data.prepare.condition import Condition
from recsys_lab.data.reading.spelling import again, is_command_line, option
from recsys_lab.words import EVENT_TYPE, RATING

SHOWN = 6


def remarks(manifest: Mapping[str, Any]) -> list[str]:
    """One line for each choice that the user has not made; none for sets made before these counts were kept."""
    settings = manifest.get("settings", {})
    found = []
    binary = manifest.get("binary_column")
    conditions = {Condition.parse(text).column for text in settings.get("keep") or ()}
    if binary and settings.get("min_rating") is None and binary["name"] not in conditions:
        column = RATING if binary["is_rating"] else binary["name"]
        found.append(
            f"column {binary['name']!r} holds only 0 and 1: its {binary['zeros']:,} rows of 0 are kept as events too; "
            f"to keep the 1s only: {_keep(f'{column}=1', manifest)}"
        )
    counts = manifest.get("event_type_counts", {})
    if len(counts) > 1 and settings.get("event_types") is None and EVENT_TYPE not in conditions:
        listed = ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:SHOWN])
        listed += f" and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else ""
        most = next(iter(counts))
        keep = _keep(f"{EVENT_TYPE}={most}", manifest)
        found.append(f"{EVENT_TYPE} holds {listed}: all are kept; {keep} keeps one")
    return found


def _keep(condition: str, manifest: Mapping[str, Any]) -> str:
    """How the condition is typed. A public set with other settings has a folder of its own; an own set is replaced."""
    if not is_command_line():
        return f"keep={[condition]!r}"
    is_own = "input" in manifest["source"].get("reading", {})
    return again(option("keep", condition)) if is_own else option("keep", condition)
