"""Measurements of ours and of peers as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable

from harness import OURS, Row, groups, head, line, median, ratio, ratios, shown

NEWEST, ALL = "newest", "all"


def table(rows: list[Row]) -> list[str]:
    speed = {"training targets/s": "targets_per_s", "eval users/s": "eval_users_per_s", "peak RSS MB": "peak_rss_mb"}
    seconds = {"preparation s": "preparation_s", "import s": "import_s", "cores used": "cores_used"}
    compared = ("targets_per_s", "eval_users_per_s", "peak_rss_mb", "preparation_s")
    titles = ("ours/theirs: training", "evaluation", "peak RSS", "preparation")
    lines = head("data", "model", "who", "windows", *speed, *seconds, *titles)
    for (data, model), here in groups(rows, "data", "model"):
        for (who, windows), group in groups(here, "who", "windows"):
            ours = [row for row in here if row["who"] == OURS and row["windows"] == windows]
            numbers = [shown(median(group, name), ",.0f") for name in speed.values()]
            numbers += [shown(median(group, name), ".2f") for name in seconds.values()]
            versus = [spread(ours, group, name) if who != OURS else "" for name in compared]
            lines.append(line(data, model, who, windows, *numbers, *versus))
    return lines


def spread(ours: list[Row], theirs: list[Row], name: str) -> str:
    """Median over the rounds of ours/theirs, and where there are several the smallest and the largest."""
    found = ratios(ours, theirs, name)
    several = f" [{min(found):.2f}, {max(found):.2f}]" if len(found) > 1 else ""
    return shown(ratio(ours, theirs, name), ".2f") + several


def quality_table(rows: list[Row]) -> list[str]:
    """A line for each peer: when it was best, when ours was as good, and what both became."""
    lines = head(
        *("data", "model", "peer", "its best val ndcg@10", "after s", "ours as good after s", "ours/theirs"),
        *("our best val", "after s", "test ndcg@10: peer, ours", "seen items hidden: peer, ours"),
        "stopped by: peer, ours",
    )
    for (data, model, who), theirs in groups([row for row in rows if row["who"] != OURS], "data", "model", "who"):
        here = [row for row in rows if (row["data"], row["model"]) == (data, model)]
        ours = [row for row in here if row.get("against") == who]
        as_good = median(ours, "seconds_to_goal") if all(row["seconds_to_goal"] for row in ours) else None
        goals = [{"round": row["round"], "seconds": row["seconds_to_goal"]} for row in ours]
        bests = [{"round": row["round"], "seconds": row["seconds_to_best"]} for row in theirs]
        both = (theirs, ours)
        tests = [", ".join(shown(median(part, name), ".4f") for part in both) for name in ("test", "test_hidden")]
        cells = [
            shown(median(theirs, "best_val"), ".4f"),
            shown(median(theirs, "seconds_to_best"), ",.1f"),
            shown(as_good, ",.1f") or "not reached",
            shown(ratio(goals, bests, "seconds"), ".2f") if as_good else "",
            shown(median(ours, "best_val"), ".4f"),
            shown(median(ours, "seconds_to_best"), ",.1f"),
            *tests,
            ", ".join("/".join(dict.fromkeys(row["stopped_by"] for row in part)) for part in both),
        ]
        lines.append(line(data, model, who, *cells))
    return lines


def notes(rows: list[Row]) -> list[str]:
    """Who is the fastest peer, and who did not do the same work."""
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
                versus = spread(ours[peers[who][0]["windows"]], peers[who], name)
                value = found[who]
                text = shown(value, ",.0f" if value >= 10 else ".2f")
                lines.append(f"- {data}, {model}: {what}: {who} ({text}); ours/theirs {versus}")
        for who, group in peers.items():
            for name in ("targets_per_epoch", "eval_users"):
                values = {row[name] for row in [*ours[group[0]["windows"]], *group] if row.get(name)}
                if len(values) > 1:
                    lines.append(f"- {data}, {model}: NOT the same work as {who}: {name} {sorted(values)}")
    return lines
