"""The ranking of one block: means of the deciding metric with intervals over users."""

from __future__ import annotations

from recsys_lab.report.figure import Figure, data_of, left_out, name_axis
from recsys_lab.study.results import Block
from recsys_lab.words import titled

MOST = 30


def ranking_figure(block: Block) -> Figure:
    """The best `MOST` rows; all are in the table."""
    import altair as alt

    comparison = block.comparison
    metric = comparison.deciding
    label = titled(metric, comparison.cutoff)
    rows = [
        {
            "name": line.name,
            "mean": row.estimates[metric].mean,
            "low": row.intervals[metric][0],
            "high": row.intervals[metric][1],
            "kind": "untrained baseline" if row.is_counted else "trained",
            "letters": line.letters,
        }
        for row, line in zip(comparison.rows, block.lines, strict=True)
    ][:MOST]
    kinds = alt.Scale(domain=["trained", "untrained baseline"])
    kind, shape = alt.Color("kind:N", scale=kinds), alt.Shape("kind:N", scale=kinds)
    y = alt.Y("name:N", sort=None, title=None, scale=alt.Scale(paddingOuter=0.3), axis=name_axis())
    base = alt.Chart().encode(y=y)
    x = alt.X(
        "mean:Q",
        title=f"{label} on test targets, {comparison.method.level} interval over users",
        scale=alt.Scale(zero=False),
    )
    tips = [
        alt.Tooltip("name:N", title="variant"),
        alt.Tooltip("mean:Q", title=label, format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
        alt.Tooltip("letters:N", title="group"),
    ]
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", color=kind),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, color=kind, shape=shape, tooltip=tips),
        base.mark_text(style="label", align="left", dx=6, fontStyle="italic").encode(x="high:Q", text="letters:N"),
        data=data_of(rows),
    ).properties(height=22 * len(rows) + 14)
    return Figure(
        f"ranking-{block.key}",
        f"{label} of each variant",
        chart,
        f"{label} with intervals on {block.title}, best first: "
        + ", ".join(f"{row['name']} {row['mean']:.4f}" for row in rows[:5]),
        "Rows that share a letter do not differ significantly; rows without a letter were not tested. An interval is "
        "that of one row over users and says nothing of seeds: differences are in the table."
        + left_out(len(rows), len(block.lines), "rows"),
        max(str(row["name"]).count(" \u00b7 ") for row in rows) + 1,
    )
