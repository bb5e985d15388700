"""Calibration of a run before and after temperature scaling, as a page and as text."""

from __future__ import annotations

import math
from typing import Any

from recsys_lab.report.figure import Figure, data_of
from recsys_lab.report.page import Card, Page, Section
from recsys_lab.report.shown_columns import ALL, Shown, fitted
from recsys_lab.report.table import Column, Table, show
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
SCALED = "As given, and with a temperature"
Z95 = 1.96
RIGHT = 1.5
"""A probability is called right where it is known to be so within this factor."""
FOOT = (
    "A dot is a bin of test targets: to the right, how likely the model called its first item; up, how often that item "
    "came. On the dashed line the two agree; a dot below it was over-confident. Larger dots hold more targets. Every "
    "number is in calibration.json beside this page."
)


def calibration_text(found: dict[str, Any], shown: Shown = ALL) -> str:
    """The table for the terminal. `found`: what calibration.json holds."""
    share = show(found["test"]["before"]["probability_share"], ".2%")
    others = f"{share} of the test targets have a probability; the others are cold, or seen and hidden"
    notes = [f"note: {note}" for note in found["notes"]]
    return "\n".join([headline(found), "", fitted(_table(found), shown), "", others, *notes])


def reliability_page(found: dict[str, Any]) -> Page:
    """The page: it holds no script. `found`: what calibration.json holds."""
    run, evaluation = found["run"], found["evaluation"]
    figures = [_figure(found, kind, title) for kind, title in KINDS.items()]
    return Page(
        "Calibration of",
        f"{run['study']}/{run['variant']}, seed {run['seed']}",
        "Do its probabilities come true?",
        _verdict(found),
        [
            Section(
                "reliability",
                SCALED,
                [Card(figures=figures[:1], tables_first=[_table(found)])],
            ),
            Section("mass", KINDS["equal_mass"], [Card(figures=figures[1:])], is_folded=True),
        ],
        FOOT,
        findings=_behind(found),
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
    """The answer and what is behind it."""
    return " ".join([_verdict(found), *_behind(found)])


def _targets(found: dict[str, Any]) -> int:
    return sum(found["test"]["bins"]["before"]["equal_width"]["count"])


def _verdict(found: dict[str, Any]) -> str:
    before, targets = found["test"]["before"], _targets(found)
    return verdict(before["confidence"], round(before["top_accuracy"] * targets), targets)


def _behind(found: dict[str, Any]) -> list[str]:
    """How many came true, and what a temperature changes."""
    before, after, targets = found["test"]["before"], found["test"]["after"], _targets(found)
    hits = round(before["top_accuracy"] * targets)
    errors = [f"{one['ece']:.4f}" for one in (before, after)]
    does = f"changes the calibration error from {errors[0]} to {errors[1]}"
    if errors[0] == errors[1]:
        does = f"leaves the calibration error at {errors[0]}"
    return [
        f"Of {number_of(targets, 'first item')} {hits:,} came true.",
        f"Temperature {found['temperature']:.4g}, fitted on the validation targets, {does}.",
    ]


def verdict(confidence: float, hits: int, targets: int) -> str:
    """A sentence of at most 25 words: is the mean probability of the first items what share of them came true? 95 %
    interval of that share by Wilson (1927); where the probability is inside, it is right only if the interval is narrow
    around it.

    Args:
        confidence: mean probability (0..1). hits: first items that came true, of `targets`.
    """
    share, spread = hits / targets, Z95**2 / targets
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    low, high = max(middle - half, 0.0), middle + half
    called = f"it calls its first item {show(confidence, '.2%')} likely"
    fit = f"[{show(low, '.2%')}, {show(high, '.2%')}]"
    if not low <= confidence <= high:
        how = "over-confident" if confidence > high else "under-confident"
        return f"No, it is {how}: {called}, and {show(share, '.2%')} {fit} came true."
    if high <= RIGHT * confidence and confidence <= RIGHT * low:
        return f"Yes, on average: {called}, and {show(share, '.2%')} {fit} came true."
    return f"Too few came true to tell: {called}, and anything in {fit} would fit."


def _table(found: dict[str, Any]) -> Table:
    before, after = found["test"]["before"], found["test"]["after"]
    rows = [{"test": title, "as given": before[name], "scaled": after[name]} for name, title in SHOWN.items()]
    return Table(
        [Column("test"), Column("as given", "10.4f"), Column("scaled", "10.4f")],
        rows,
        SCALED,
    )
