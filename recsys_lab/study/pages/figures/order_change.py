"""The order of the models across blocks: ranks joined by lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from recsys_lab.report.figure import Figure, data_of, points
from recsys_lab.report.theme import SERIES
from recsys_lab.study.pages.figures.looks import Looks
from recsys_lab.study.results import StudyResults


def order_table(results: StudyResults) -> dict[str, list[int | None]]:
    """Name -> its rank in each block (1 = best) among the variants that at least two blocks hold, None where it has
    none, or would be alone; in the order of mean ranks."""
    held = [
        [line.match for row, line in zip(b.comparison.rows, b.lines, strict=True) if not row.is_automatic]
        for b in results.blocks
    ]
    shared = {name for names in held for name in names if sum(name in other for other in held) > 1}
    ranked = [[name for name in names if name in shared] for names in held]
    ranked = [names if len(names) > 1 else [] for names in ranked]
    table = {
        name: [names.index(name) + 1 if name in names else None for names in ranked]
        for name in dict.fromkeys(name for names in ranked for name in names)
    }

    def mean_rank(name: str) -> float:
        ranks = [rank for rank in table[name] if rank is not None]
        return sum(ranks) / len(ranks)

    return {name: table[name] for name in sorted(table, key=mean_rank)}


def order_figure(results: StudyResults, looks: Looks) -> Figure | None:
    """None for fewer than two blocks, or two shared variants."""
    import altair as alt

    table = order_table(results)
    if len(results.blocks) < 2 or len(table) < 2:
        return None
    shown = list(table)[:SERIES]
    by_match = {
        line.match: (row, replace(line, name=line.match))
        for block in results.blocks
        for row, line in zip(block.comparison.rows, block.lines, strict=True)
    }
    found, series = looks.of([by_match[name] for name in shown])
    look = dict(zip(shown, found, strict=True))
    titles = [short_title(block.title) for block in results.blocks]
    rows: list[dict[str, Any]] = [
        {"name": name, **look[name], "block": title, "rank": rank, "full": block.title}
        for name in shown
        for title, block, rank in zip(titles, results.blocks, table[name], strict=True)
        if rank is not None
    ]
    most = max(row["rank"] for row in rows)
    x = alt.X(
        "block:N",
        sort=titles,
        title=None,
        scale=alt.Scale(padding=0.3),
        axis=alt.Axis(labelExpr="split(datum.label, '|')", labelAngle=0, labelLimit=120, labelFontSize=11, grid=True),
    )
    y = alt.Y(
        "rank:Q",
        title="rank (1 = best)",
        scale=alt.Scale(domain=[most + 0.5, 0.5], nice=False),
        axis=alt.Axis(values=list(range(1, most + 1)), format="d", grid=False),
    )
    tips = [alt.Tooltip("name:N", title="variant"), alt.Tooltip("full:N", title="on"), alt.Tooltip("rank:Q")]
    base = alt.Chart().encode(x=x, y=y)
    chart = alt.layer(
        base.mark_line(strokeWidth=2.5, opacity=0.8).encode(
            color=series["color"], strokeDash=series["strokeDash"], detail="name:N"
        ),
        base.mark_point(filled=True, size=130, opacity=1).encode(**points(series), tooltip=tips),
        data=data_of(rows),
    ).properties(height=max(170, 30 * most + 20))
    note = "Where lines cross, the order changes. The table says which changes are significant."
    if len(table) > len(shown):
        note += f" Drawn: the {len(shown)} best of {len(table)} shared variants."
    return Figure(
        "order",
        "Order of the variants across data sets and splits",
        chart,
        "Ranks: " + "; ".join(f"{name} {', '.join(str(rank) for rank in table[name])}" for name in shown),
        note,
    )


def short_title(title: str) -> str:
    """Of a block, in lines that `|` parts: for an axis."""
    for mark in (" · ", ", "):
        title = title.replace(mark, "|")
    return title.replace(" (", "|(")
