"""What a search is worth by its budget: the expected best after n trials, or after so many seconds."""

from __future__ import annotations

from recsys_lab.report.figure import Figure, by_series, data_of, points
from recsys_lab.report.palette import Palette
from recsys_lab.report.theme import SERIES
from recsys_lab.study.tune.results import SearchResult


def tuning_figures(searches: list[SearchResult], select: str, palette: Palette, suffix: str = "") -> list[Figure]:
    """Over trials and over seconds, of the best searches.

    Args:
        searches: whose values may be compared (`TuningResults.comparable`).
        select: the metric that they searched by.
        suffix: of the figures' names.
    """
    import altair as alt

    done = [search for search in searches if search.curve]
    sign = -1 if done and done[0].mode == "max" else 1
    shown = sorted(done, key=lambda search: sign * search.curve[-1].expected)[:SERIES]
    slots = palette.slots([search.label for search in shown])
    found = []
    for unit, title in (("trials", "trials"), ("seconds", "seconds of search")):
        rows = [
            {"name": search.label, "budget": p.budget, "expected": p.expected, "low": p.low, "high": p.high}
            for search in shown
            for p in (search.curve if unit == "trials" else search.curve_over_seconds)
        ]
        if len({row["budget"] for row in rows}) < 2:
            continue
        chosen = alt.selection_point(fields=["name"], bind="legend", name="chosen")
        x = alt.X("budget:Q", title=title, axis=alt.Axis(tickMinStep=1))
        base = alt.Chart().encode(x=x, opacity=alt.condition(chosen, alt.value(1), alt.value(0.1)))
        series = by_series(slots)
        tips = [
            alt.Tooltip("name:N", title="search"),
            alt.Tooltip("budget:Q", title=unit, format=",.0f"),
            alt.Tooltip("expected:Q", title=f"expected best {select}", format=".4f"),
            alt.Tooltip("low:Q", format=".4f"),
            alt.Tooltip("high:Q", format=".4f"),
        ]
        y = alt.Y("expected:Q", title=f"expected best {select}", scale=alt.Scale(zero=False))
        layers = [
            base.mark_line(strokeWidth=2).encode(y=y, color=series["color"]),
            base.mark_point(filled=True, size=45).encode(y=y, **points(series), tooltip=tips),
        ]
        if len(shown) <= 4:  # more bands hide each other
            faint = alt.condition(chosen, alt.value(0.14), alt.value(0.02))
            band = base.mark_area().encode(
                y=alt.Y("low:Q", scale=alt.Scale(zero=False)), y2="high:Q", color=series["color"], opacity=faint
            )
            layers.insert(0, band)
        chart = alt.layer(*layers, data=data_of(rows)).add_params(chosen).properties(height=300)
        note = "Mean over the orders in which the trials could have come"
        note += "; bands: the middle 90 % of the orders." if len(shown) <= 4 else "."
        if len(shown) < len(done):
            note += f" Drawn: the {len(shown)} best of {len(done)} searches."
        ends = "; ".join(f"{search.label} {search.curve[-1].expected:.4f}" for search in shown)
        found.append(
            Figure(
                f"tuning-{unit}{suffix}",
                f"Expected best after n {unit}",
                chart,
                f"Expected best by {unit}: {ends}",
                note,
            )
        )
    return found
