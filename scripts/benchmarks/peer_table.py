"""Measurements of ours and of peers as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable

from harness import OURS, Measurement, groups, median, one, ratio, whole

NEWEST, ALL = "newest", "all"


def startup_line(seconds: dict[str, float]) -> str:
    return "- " + ", ".join(f"`{name}` {value:.2f} s" for name, value in seconds.items())


def table(rows: list[Measurement]) -> list[str]:
    lines = [
        "| data | model | who | windows | training targets/s | eval users/s | peak RSS MB | preparation s | import s "
        "| cores used | ours/theirs: training | evaluation | peak RSS | preparation |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    compared = ("targets_per_s", "eval_users_per_s", "peak_rss_mb", "preparation_s")
    for (data, model), here in groups(rows, "data", "model"):
        for (who, windows), group in groups(here, "who", "windows"):
            ours = [row for row in here if row["who"] == OURS and row["windows"] == windows]
            numbers = [f"{whole(median(group, n))}" for n in ("targets_per_s", "eval_users_per_s", "peak_rss_mb")]
            numbers += [two(median(group, n)) for n in ("preparation_s", "import_s", "cores_used")]
            versus = [two(ratio(ours, group, n)) if who != OURS else "" for n in compared]
            lines.append(f"| {data} | {model} | {who} | {windows} | " + " | ".join(numbers + versus) + " |")
    return lines


def quality_table(rows: list[Measurement]) -> list[str]:
    """A line for each peer: when it was best, when ours was as good, and what both became."""
    lines = [
        "| data | model | peer | its best val ndcg@10 | after s | ours as good after s | ours/theirs | our best val "
        "| after s | test ndcg@10: peer, ours | seen items hidden: peer, ours | stopped by: peer, ours |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (data, model, who), theirs in groups([row for row in rows if row["who"] != OURS], "data", "model", "who"):
        here = [row for row in rows if (row["data"], row["model"]) == (data, model)]
        ours = [row for row in here if row.get("against") == who]
        as_good = median(ours, "seconds_to_goal") if all(row["seconds_to_goal"] for row in ours) else None
        goals = [{"round": row["round"], "seconds": row["seconds_to_goal"]} for row in ours]
        bests = [{"round": row["round"], "seconds": row["seconds_to_best"]} for row in theirs]
        cells = [
            four(median(theirs, "best_val")),
            one(median(theirs, "seconds_to_best")),
            one(as_good) or "not reached",
            two(ratio(goals, bests, "seconds")) if as_good else "",
            four(median(ours, "best_val")),
            one(median(ours, "seconds_to_best")),
            *(f"{four(median(theirs, name))}, {four(median(ours, name))}" for name in ("test", "test_hidden")),
            ", ".join("/".join(dict.fromkeys(row["stopped_by"] for row in part)) for part in (theirs, ours)),
        ]
        lines.append(f"| {data} | {model} | {who} | " + " | ".join(cells) + " |")
    return lines


def notes(rows: list[Measurement], max_busy: float) -> list[str]:
    """Who is the fastest peer, and what speaks against the numbers."""
    lines = []
    for (data, model), here in groups([row for row in rows if "windows" in row], "data", "model"):
        ours = {windows: group for (who, windows), group in groups(here, "who", "windows") if who == OURS}
        peers = {who: group for (who,), group in groups([row for row in here if row["who"] != OURS], "who")}
        for name, what, best in (
            ("targets_per_s", "fastest peer in training", max),
            ("eval_users_per_s", "fastest peer in evaluation", max),
            ("peak_rss_mb", "peer with the lowest peak memory", min),
            ("preparation_s", "fastest peer in preparation", min),
        ):
            found = {who: value for who, group in peers.items() if (value := median(group, name)) is not None}
            if found:
                choose: Callable[..., str] = best
                who = choose(found, key=lambda peer: found[peer])
                versus = two(ratio(ours[peers[who][0]["windows"]], peers[who], name))
                value = found[who]
                shown = whole(value) if value >= 10 else two(value)
                lines.append(f"- {data}, {model}: {what}: {who} ({shown}); ours/theirs {versus}")
        for who, group in peers.items():
            for name in ("targets_per_epoch", "eval_users"):
                values = {row[name] for row in [*ours[group[0]["windows"]], *group] if row.get(name)}
                if len(values) > 1:
                    lines.append(f"- {data}, {model}: NOT the same work as {who}: {name} {sorted(values)}")
    busy = [row for row in rows if row["busy_cores_before"] > max_busy]
    if busy:
        lines.append(
            f"- NOT an idle machine: before {len(busy)} of {len(rows)} measurements others used up to "
            f"{max(row['busy_cores_before'] for row in busy):.1f} cores. Do not quote these numbers"
        )
    return lines


def two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def four(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
