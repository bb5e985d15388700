"""What a search is worth by its budget: the expected best after n trials."""

from __future__ import annotations

from recsys_lab.report.figure import Figure, by_series, data_of, points
from recsys_lab.report.palette import Palette
from recsys_lab.report.theme import SERIES
from recsys_lab.study.tune.results import SearchResult

MOST_BANDS = 4
"""More bands hide each other."""


def tuning_figures(searches: list[SearchResult], select: str, palette: Palette, suffix: str = "") -> list[Figure]:
    """Of the best searches; none before one has two trials.

    Args:
        searches: whose values may be compared (`TuningResults.comparable`).
        select: the metric that they searched by.
        suffix: of the figure's name.
    """
    import altair as alt

    done = [search for search in searches if search.curve]
    sign = -1 if done and done[0].mode == "max" else 1
    shown = sorted(done, key=lambda search: sign * search.curve[-1].expected)[:SERIES]
    if not any(len(search.curve) > 1 for search in shown):
        return []
    rows = [
        {"name": search.label, "budget": p.budget, "expected": p.expected, "low": p.low, "high": p.high}
        for search in shown
        for p in search.curve
    ]
    series = by_series(palette.slots([search.label for search in shown]))
    chosen = alt.selection_point(fields=["name"], bind="legend", name="chosen")
    x = alt.X("budget:Q", title="trials", axis=alt.Axis(tickMinStep=1))
    y = alt.Y("expected:Q", title=f"expected best {select}", scale=alt.Scale(zero=False))
    base = alt.Chart().encode(x=x, opacity=alt.condition(chosen, alt.value(1), alt.value(0.1)))
    tips = [
        alt.Tooltip("name:N", title="search"),
        alt.Tooltip("budget:Q", title="trials"),
        alt.Tooltip("expected:Q", title=f"expected best {select}", format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
    ]
    layers = [
        base.mark_line(strokeWidth=2).encode(y=y, color=series["color"]),
        base.mark_point(filled=True, size=45).encode(y=y, **points(series), tooltip=tips),
    ]
    note = "The lines are means over all orders of the trials"
    if len(shown) <= MOST_BANDS:
        faint = alt.condition(chosen, alt.value(0.14), alt.value(0.02))
        low = alt.Y("low:Q", scale=alt.Scale(zero=False))
        layers.insert(0, base.mark_area().encode(y=low, y2="high:Q", color=series["color"], opacity=faint))
        note += ", and the bands hold the middle 90 % of the orders"
    note += "."
    if len(shown) < len(done):
        note += f" Drawn: the {len(shown)} best of {len(done)} searches."
    ends = "; ".join(f"{search.label} {search.curve[-1].expected:.4f}" for search in shown)
    chart = alt.layer(*layers, data=data_of(rows)).add_params(chosen).properties(height=300)
    name = f"tuning-trials{suffix}"
    return [Figure(name, "Expected best after n trials", chart, f"Expected best by trials: {ends}", note)]
