"""Measurements -> medians, ratios ours/theirs, and one Markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

OURS = "recsys-lab"
NEWEST, ALL = "newest", "all"
Measurement = dict[str, Any]


def header(machine: dict[str, Any], environment: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    commit = str(environment.get("commit") or "unknown")[:12] + (" + changes" if environment.get("dirty") else "")
    versions = ", ".join(f"{name} {number}" for name, number in environment.get("versions", {}).items())
    text = ", ".join(f"{name} {value}" for name, value in settings.items())
    return [
        f"- date {machine['date']}, commit {commit}",
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB",
        f"- {versions}",
        f"- {text}",
    ]


def median(rows: list[Measurement], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.median(values) if values else None


def ratio(ours: list[Measurement], theirs: list[Measurement], name: str) -> float | None:
    """Median over the rounds of ours/theirs: the two of a round ran one after the other, on the same machine's mood."""
    by_round = {row["round"]: row[name] for row in theirs if row.get(name)}
    ratios = [row[name] / by_round[row["round"]] for row in ours if row["round"] in by_round]
    return statistics.median(ratios) if ratios else None


def table(rows: list[Measurement]) -> list[str]:
    lines = [
        "| data | who | windows | training targets/s | eval users/s | peak RSS MB | preparation s | import s "
        "| cores used | ours/theirs: training | evaluation | peak RSS |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
        here = [row for row in rows if row["data"] == data]
        ours = [row for row in here if row["who"] == OURS and row["windows"] == NEWEST]
        for who, windows in dict.fromkeys((row["who"], row["windows"]) for row in here):
            group = [row for row in here if (row["who"], row["windows"]) == (who, windows)]
            numbers = [f"{whole(median(group, n))}" for n in ("targets_per_s", "eval_users_per_s", "peak_rss_mb")]
            numbers += [two(median(group, n)) for n in ("preparation_s", "import_s", "cores_used")]
            versus = ["", "", ""]
            if who != OURS:
                versus = [two(ratio(ours, group, n)) for n in ("targets_per_s", "eval_users_per_s", "peak_rss_mb")]
            lines.append(f"| {data} | {who} | {windows} | " + " | ".join(numbers + versus) + " |")
    return lines


def notes(rows: list[Measurement], max_busy: float) -> list[str]:
    """Who is the fastest peer, and what speaks against the numbers."""
    lines = []
    for data in dict.fromkeys(row["data"] for row in rows):
        here = [row for row in rows if row["data"] == data and row["windows"] == NEWEST]
        ours = [row for row in here if row["who"] == OURS]
        peers: dict[str, list[Measurement]] = {}
        for row in here:
            if row["who"] != OURS:
                peers.setdefault(row["who"], []).append(row)
        for name, what, best in (
            ("targets_per_s", "fastest peer in training", max),
            ("eval_users_per_s", "fastest peer in evaluation", max),
            ("peak_rss_mb", "peer with the lowest peak memory", min),
        ):
            found = {who: value for who, group in peers.items() if (value := median(group, name)) is not None}
            if found:
                choose: Callable[..., str] = best
                who = choose(found, key=lambda peer: found[peer])
                lines.append(
                    f"- {data}: {what}: {who} ({whole(found[who])}); ours/theirs {two(ratio(ours, peers[who], name))}"
                )
        for who, group in peers.items():
            for name in ("targets_per_epoch", "eval_users"):
                values = {row[name] for row in [*ours, *group] if row.get(name)}
                if len(values) > 1:
                    lines.append(f"- {data}: NOT the same work as {who}: {name} {sorted(values)}")
    busy = [row for row in rows if row["busy_cores_before"] > max_busy]
    if busy:
        lines.append(
            f"- NOT an idle machine: before {len(busy)} of {len(rows)} measurements others used up to "
            f"{max(row['busy_cores_before'] for row in busy):.1f} cores. Do not quote these numbers"
        )
    return lines


def whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
