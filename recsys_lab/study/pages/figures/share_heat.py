"""What each variant reaches of the best possible score in each world: a heat map."""

from __future__ import annotations

from recsys_lab.report.figure import Figure, data_of
from recsys_lab.study.results import Share, StudyResults
from recsys_lab.words import titled


def share_table(results: StudyResults) -> dict[str, list[Share | None]]:
    """Name of a variant -> its share in each block that has shares, None where it was not run; trained ones first, the
    highest mean share first, untrained baselines after them."""
    blocks = [block for block in results.blocks if block.shares]
    table: dict[str, list[Share | None]] = {}
    counted = set()
    for place, block in enumerate(blocks):
        for row, line, share in zip(block.comparison.rows, block.lines, block.shares, strict=True):
            table.setdefault(line.match, [None] * len(blocks))[place] = share
            if row.is_counted:
                counted.add(line.match)

    def order(name: str) -> tuple[bool, float]:
        known = [share.mean for share in table[name] if share is not None]
        return name in counted, -sum(known) / len(known)

    return {name: table[name] for name in sorted(table, key=order)}


def worlds_of(results: StudyResults) -> list[str]:
    """Names of the blocks that have shares: that of the data set, or the title where two blocks share one."""
    blocks = [block for block in results.blocks if block.shares]
    names = [block.dataset.removeprefix("world-") for block in blocks]
    return names if len(set(names)) == len(names) else [block.title for block in blocks]


def share_figure(results: StudyResults) -> Figure | None:
    """None for a study without a world."""
    import altair as alt

    table = share_table(results)
    if not table:
        return None
    worlds = worlds_of(results)
    metric = titled(results.deciding, results.cutoff)
    rows = [
        {
            "name": name,
            "world": world,
            "share": share.mean,
            "shade": min(max(share.mean, 0.0), 1.0) ** 2,
            "text": f"{share.mean:.0%}".replace("%", " %"),
            "interval": f"{100 * share.low:.0f} to {100 * share.high:.0f}",
        }
        for name, shares in table.items()
        for world, share in zip(worlds, shares, strict=True)
        if share is not None
    ]
    top = alt.Axis(orient="top", labelAngle=0, title=None, domain=False, ticks=False)
    base = alt.Chart().encode(
        x=alt.X("world:N", sort=worlds, axis=top),
        y=alt.Y("name:N", sort=list(table), title=None, axis=alt.Axis(domain=False, ticks=False)),
    )
    shade = alt.Opacity("shade:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 0.75]), legend=None)
    tips = [
        alt.Tooltip("name:N", title="variant"),
        alt.Tooltip("world:N"),
        alt.Tooltip("share:Q", format=".3f"),
        alt.Tooltip("interval:N", title="interval in %"),
    ]
    chart = alt.layer(
        base.mark_rect(style="accent").encode(opacity=shade, tooltip=tips),
        base.mark_text(style="label", fontSize=12, dy=-6).encode(text="text:N"),
        base.mark_text(style="label", fontSize=9, dy=8).encode(text="interval:N"),
        data=data_of(rows),
    ).properties(height=36 * len(table))
    in_worlds = zip(*table.values(), strict=True)  # of each world, the shares of all variants
    highest = [max(share.mean for share in shares if share is not None) for shares in in_worlds]
    return Figure(
        "shares",
        f"Share of the best possible {metric}",
        chart,
        f"Heat map of the share of the best possible {metric}; the highest in each world: "
        + "; ".join(f"{world} {share:.0%}" for world, share in zip(worlds, highest, strict=True)),
        f"Each field shows the share, and below it the {results.method.level} interval in %, over users and seeds, or "
        "over users where there is one seed.",
    )
