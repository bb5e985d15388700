"""Calibration of a run before and after temperature scaling, as a page and as text."""

from __future__ import annotations

import math
from typing import Any

from recsys_lab.report.figure import Figure, data_of
from recsys_lab.report.page import Card, Page, Section
from recsys_lab.report.table import Column, Table, show, text
from recsys_lab.words import number_of

SHOWN = {
    "nll": "log-loss of the next item (nats)",
    "brier": "Brier score",
    "ece": "calibration error, equal width",
    "ece_equal_mass": "calibration error, equal mass",
    "confidence": "mean highest probability",
    "top_accuracy": "how often it came true",
    "auc_pooled": "AUC, pooled",
    "gauc": "AUC within predictions (GAUC)",
}
KINDS = {"equal_width": "Bins of equal width", "equal_mass": "Bins of equal mass"}
WHEN = {"before": "as given", "after": "temperature fitted"}
Z95 = 1.96
RIGHT = 1.5
"""A probability is called right where it is known to be so within this factor."""
FOOT = (
    "A dot is a bin of test targets: to the right, how likely the model called its first item; up, how often that item "
    "came. On the dashed line the two agree; a dot below it was over-confident. Larger dots hold more targets. Every "
    "number is in calibration.json beside this page."
)


def calibration_text(found: dict[str, Any]) -> str:
    """The table for the terminal. `found`: what calibration.json holds."""
    share = show(found["test"]["before"]["probability_share"], ".2%")
    others = f"{share} of the test targets have a probability; the others are cold, or seen and hidden"
    notes = [f"note: {note}" for note in found["notes"]]
    return "\n".join([headline(found), "", text(_table(found)), "", others, *notes])


def reliability_page(found: dict[str, Any]) -> Page:
    """The page: it holds no script. `found`: what calibration.json holds."""
    run, evaluation = found["run"], found["evaluation"]
    figures = [_figure(found, kind, title) for kind, title in KINDS.items()]
    return Page(
        "Calibration of",
        f"{run['study']}/{run['variant']}, seed {run['seed']}",
        "Do its probabilities come true?",
        headline(found),
        [
            Section("reliability", "Before and after", [Card(figures=figures[:1], tables_first=[_table(found)])]),
            Section("mass", KINDS["equal_mass"], [Card(figures=figures[1:])], is_folded=True),
        ],
        FOOT,
        protocol=f"{run['model']}, loss {run['loss']} · {evaluation['dataset']}, {evaluation['split']}",
        cautions=[("warning", "", note) for note in found["notes"]],
    )


def _figure(found: dict[str, Any], kind: str, title: str) -> Figure:
    """A dot is a bin of test targets; on the dashed diagonal confidence and accuracy agree."""
    import altair as alt

    name, bins = str(found["run"]["variant"]), found["test"]["bins"]
    rows = [
        {
            "when": how,
            "confidence": confidence,
            "accuracy": accuracy,
            "targets": count,
            "what": f"{number_of(count, 'target')}: called {confidence:.2%} likely, {accuracy:.2%} came true",
        }
        for when, how in WHEN.items()
        for confidence, accuracy, count in zip(
            *(bins[when][kind][part] for part in ("confidence", "accuracy", "count")), strict=True
        )
    ]
    top = max(max(row["confidence"], row["accuracy"]) for row in rows) * 1.05
    ideal = alt.Chart(data_of([{"confidence": 0, "accuracy": 0}, {"confidence": top, "accuracy": top}]))
    x = alt.X("confidence:Q", title="called so likely", axis=alt.Axis(format="~%"), scale=alt.Scale(domain=[0, top]))
    y = alt.Y("accuracy:Q", title="came true", axis=alt.Axis(format="~%"), scale=alt.Scale(domain=[0, top]))
    when = alt.Color("when:N", scale=alt.Scale(domain=list(WHEN.values())))
    base = alt.Chart().encode(x=x, y=y, color=when)
    chart = alt.layer(
        ideal.mark_line(style="faint", strokeDash=[5, 4]).encode(x=x, y=y),
        base.mark_line(strokeWidth=1.8).encode(
            strokeDash=alt.StrokeDash("when:N", scale=alt.Scale(range=[[1, 0], [4, 3]]), legend=None)
        ),
        base.mark_point(filled=True, opacity=1).encode(
            size=alt.Size("targets:Q", legend=None, scale=alt.Scale(range=[30, 90])),
            description=alt.Description("what:N"),
        ),
        data=data_of(rows),
    ).properties(height=300)
    errors = [show(bins[when][kind]["error"], ".4f") for when in WHEN]
    counts = bins["before"][kind]["count"]
    note = (
        f"Calibration error {errors[0]} as given, {errors[1]} with T = {found['temperature']:.4g}, over "
        f"{number_of(sum(counts), 'target')} in {number_of(len(counts), 'bin')}."
    )
    return Figure(kind.replace("_", "-"), title, chart, f"{title} of {name}", note)


def headline(found: dict[str, Any]) -> str:
    """Which way the probabilities are wrong, where enough came true to tell, and what a temperature changes."""
    before, after = found["test"]["before"], found["test"]["after"]
    targets = sum(found["test"]["bins"]["before"]["equal_width"]["count"])
    errors = [f"{one['ece']:.4f}" for one in (before, after)]
    does = f"changes the calibration error from {errors[0]} to {errors[1]}"
    if errors[0] == errors[1]:
        does = f"leaves the calibration error at {errors[0]}"
    return (
        f"As given, {verdict(before['confidence'], round(before['top_accuracy'] * targets), targets)} Temperature "
        f"{found['temperature']:.4g}, fitted on the validation targets, {does}."
    )


def verdict(confidence: float, hits: int, targets: int) -> str:
    """A sentence: is the mean probability of the first items what share of them came true? 95 % interval of that share
    by Wilson (1927); where the probability is inside, it is right only if the interval is narrow around it.

    Args:
        confidence: mean probability (0..1). hits: first items that came true, of `targets`.
    """
    share, spread = hits / targets, Z95**2 / targets
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    low, high = max(middle - half, 0.0), middle + half
    seen = f"it calls its first item {show(confidence, '.2%')} likely, and {hits:,} of {targets:,} came true"
    if not low <= confidence <= high:
        how = "over-confident" if confidence > high else "under-confident"
    elif high <= RIGHT * confidence and confidence <= RIGHT * low:
        how = "on average right"
    else:
        fit = f"{show(low, '.2%')} to {show(high, '.2%')} would fit"
        return f"the model can't be judged: {seen} ({fit}), too few to tell over- from under-confidence."
    return f"the model is {how}: {seen} ({show(share, '.2%')})."


def _table(found: dict[str, Any]) -> Table:
    before, after = found["test"]["before"], found["test"]["after"]
    rows = [{"test": title, "as given": before[name], "scaled": after[name]} for name, title in SHOWN.items()]
    return Table([Column("test"), Column("as given", "10.4f"), Column("scaled", "10.4f")], rows, "Before and after")
