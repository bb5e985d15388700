"""The ranking of one block: means of the deciding metric with intervals over users."""

from __future__ import annotations

from recsys_lab.report.figure import Figure, data_of, left_out, name_axis, points
from recsys_lab.study.pages.figures.looks import Looks
from recsys_lab.study.results import Block
from recsys_lab.words import titled

MOST = 30
READ = (
    "On test targets. Rows that share a letter do not differ significantly; rows without a letter were not tested. An "
    "interval is that of one row over users, and does not include the seeds. The table has the tests of differences."
)
"""How it is to be read."""


def ranking_figure(block: Block, looks: Looks) -> Figure:
    """The best `MOST` rows; all are in the table. In a grid colours and shapes say what rows have in common."""
    import altair as alt

    comparison = block.comparison
    metric = comparison.deciding
    label = titled(metric, comparison.cutoff)
    shown = list(zip(comparison.rows, block.lines, strict=True))[:MOST]
    found, series = looks.of(shown, are_told_apart=bool(looks.factors))
    rows = [
        {
            **look,
            "name": line.name,
            "mean": row.estimates[metric].mean,
            "low": row.intervals[metric][0],
            "high": row.intervals[metric][1],
            "letters": line.letters,
        }
        for (row, line), look in zip(shown, found, strict=True)
    ]
    y = alt.Y("name:N", sort=None, title=None, scale=alt.Scale(paddingOuter=0.3), axis=name_axis())
    base = alt.Chart().encode(y=y)
    x = alt.X(
        "mean:Q",
        title=f"{label}, {comparison.method.level} interval",
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
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", color=series["color"]),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x, **points(series), tooltip=tips),
        base.mark_text(style="label", align="left", dx=6, fontStyle="italic").encode(x="high:Q", text="letters:N"),
        data=data_of(rows),
    ).properties(height=22 * len(rows) + 14)
    return Figure(
        f"ranking-{block.key}",
        f"{label} of each variant",
        chart,
        f"{label} with intervals on {block.title}, best first: "
        + ", ".join(f"{row['name']} {row['mean']:.4f}" for row in rows[:5]),
        left_out(len(rows), len(block.lines), "rows").strip(),
        max(str(row["name"]).count(" \u00b7 ") for row in rows) + 1,
    )
