"""Calibration of a run before and after temperature scaling, as a page and as text."""

from __future__ import annotations

import math
from typing import Any

from recsys_lab.report.figure import Figure, data_of
from recsys_lab.report.page import Card, Page, Section
from recsys_lab.report.table import Column, Table, show, text

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
        f"{run['model']}, loss {run['loss']}",
        headline(found),
        [
            Section("numbers", "Before and after", [Card(tables_first=[_table(found)])]),
            Section("reliability", "Reliability", [Card(figures=figures)]),
        ],
        FOOT,
        protocol=f"{evaluation['dataset']}, {evaluation['split']}",
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
            "what": f"{count:,} targets: called {confidence:.2%} likely, {accuracy:.2%} came true",
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
            strokeDash=alt.StrokeDash("when:N", scale=alt.Scale(range=[[1, 0], [4, 3]]))
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
        f"{sum(counts):,} targets in {len(counts)} bins."
    )
    return Figure(kind.replace("_", "-"), title, chart, f"{title} of {name}", note)


def headline(found: dict[str, Any]) -> str:
    """One sentence: which way the probabilities are wrong, and what mends it."""
    before, after = found["test"]["before"], found["test"]["after"]
    gap = before["confidence"] - before["top_accuracy"]
    targets = sum(found["test"]["bins"]["before"]["equal_width"]["count"])
    noise = 2 * math.sqrt(before["top_accuracy"] * (1 - before["top_accuracy"]) / targets)  # two standard errors
    how = "on average right" if abs(gap) <= noise else "over-confident" if gap > 0 else "under-confident"
    return (
        f"As given, the model is {how}: it calls its first item {show(before['confidence'], '.1%')} likely, and "
        f"{show(before['top_accuracy'], '.1%')} come true. Temperature {found['temperature']:.4g}, fitted on the "
        f"validation targets, takes the calibration error from {before['ece']:.4f} to {after['ece']:.4f}."
    )


def _table(found: dict[str, Any]) -> Table:
    before, after = found["test"]["before"], found["test"]["after"]
    rows = [{"test": title, "as given": before[name], "scaled": after[name]} for name, title in SHOWN.items()]
    return Table([Column("test"), Column("as given", "10.4f"), Column("scaled", "10.4f")], rows, "Before and after")
