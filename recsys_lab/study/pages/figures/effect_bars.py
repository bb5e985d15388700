"""The effect of each axis: differences between two of its values, with intervals over users and seeds."""

from __future__ import annotations

from recsys_lab.report.figure import Figure, data_of
from recsys_lab.study.results import AxisEffect, Block
from recsys_lab.words import titled

MOST = 40
KINDS = ("significant", "not significant", "not tested")


def effects_figure(block: Block) -> Figure | None:
    """The deciding metric; None where no two variants differ in one axis only."""
    import altair as alt

    comparison = block.comparison
    metric = comparison.deciding
    found = [effect for effect in block.effects if effect.metric == metric]
    if not found:
        return None
    largest = sorted(found, key=lambda e: -abs(e.difference))[:MOST]
    drawn = [e for axis in dict.fromkeys(e.axis for e in found) for e in largest if e.axis == axis]
    rows = [
        {
            "row": _shown(e),
            "difference": e.difference,
            "low": None if e.untested else e.low,
            "high": None if e.untested else e.high,
            "p": None if e.untested else e.p_corrected,
            "kind": _kind(e, comparison.method.alpha),
        }
        for e in drawn
    ]
    points = [{"row": _shown(e), "setting": name, "value": value} for e in drawn for name, value in e.settings.items()]
    label = f"difference in {titled(metric, comparison.cutoff)}"
    legend = alt.Legend(values=[kind for kind in KINDS if any(row["kind"] == kind for row in rows)])
    scale = alt.Scale(domain=list(KINDS), range=["circle", "square", "cross"])
    shape = alt.Shape("kind:N", scale=scale, legend=legend)
    weight = alt.condition(f"datum.kind === '{KINDS[0]}'", alt.value(1), alt.value(0.45))
    base = alt.Chart().encode(y=alt.Y("row:N", sort=None, title=None))
    tips = [
        alt.Tooltip("row:N", title="effect"),
        alt.Tooltip("difference:Q", format="+.4f"),
        alt.Tooltip("low:Q", format="+.4f"),
        alt.Tooltip("high:Q", format="+.4f"),
        alt.Tooltip("p:Q", title="p (corrected)", format=".2g"),
    ]
    layers = [
        alt.Chart(data_of([{"zero": 0}])).mark_rule(style="soft", strokeDash=[4, 3]).encode(x="zero:Q"),
        base.mark_point(style="ink", filled=True, size=75).encode(
            x=alt.X("difference:Q", title=label), opacity=weight, shape=shape, tooltip=tips
        ),
    ]
    if any(row["kind"] != KINDS[2] for row in rows):  # without one, an axis of nothing would complain
        interval = base.mark_rule(style="ink", strokeWidth=2).encode(x="low:Q", x2="high:Q", opacity=weight)
        layers.insert(1, interval)
    if len(points) > len(rows):
        layers.insert(
            1,
            alt.Chart(data_of(points))
            .mark_tick(style="faint", thickness=1.5, height=9)
            .encode(
                y=alt.Y("row:N", sort=None),
                x="value:Q",
                tooltip=[alt.Tooltip("setting:N"), alt.Tooltip("value:Q", title=label, format="+.4f")],
            ),
        )
    note = (
        "The better value minus the other, as a mean over the settings of the other axes. The interval is over users "
        "and seeds, at the level of the corrected test, so it excludes 0 where the difference is significant. Values "
        "with one seed are not tested and have no interval"
    )
    note += ". Ticks are the differences in the single settings." if len(points) > len(rows) else "."
    if len(drawn) < len(found):
        note += f" Drawn: the {len(drawn)} largest of {len(found)} differences."
    return Figure(
        f"effects-{block.key}",
        f"Difference in {titled(metric, comparison.cutoff)} between two values of an axis",
        alt.layer(*layers, data=data_of(rows)).properties(height=26 * len(rows) + 10),
        f"Differences on {block.title}: "
        + "; ".join(f"{r['row']} {r['difference']:+.4f} ({r['kind']})" for r in rows[:6]),
        note,
    )


def _kind(effect: AxisEffect, alpha: float) -> str:
    return KINDS[2] if effect.untested else KINDS[0] if effect.is_significant(alpha) else KINDS[1]


def _shown(effect: AxisEffect) -> str:
    """Both values, so that the sign can be read without a legend."""
    return f"{effect.axis}: {effect.a} \N{MINUS SIGN} {effect.b}"
