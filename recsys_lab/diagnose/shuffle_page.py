"""A shuffle diagnosis as one HTML page."""

from __future__ import annotations

import math
from typing import Any

from recsys_lab.diagnose.shuffle_table import READING, kinds_table, notes, sentences, title
from recsys_lab.report.figure import Figure, data_of
from recsys_lab.report.page import Card, Page, Section
from recsys_lab.report.table import Column, Table, show

KINDS = {"all": "all events shuffled", "all_but_last": "all but the last"}


def shuffle_page(found: dict[str, Any]) -> Page:
    """The page: it holds no script. `found`: what shuffle.json holds."""
    run, evaluation = found["run"], found["evaluation"]
    texts = [*READING, *notes(found)]
    reading = Table([Column("how to read it")], [{"how to read it": line} for line in texts], "How to read it")
    return Page(
        "Shuffled histories of",
        f"{run.get('study')}/{run.get('variant')}, seed {run.get('seed')}",
        "Does this model need the order of events?",
        answer(found),
        [
            Section(
                "change", "What the order is worth", [Card(figures=_figure(found), tables_first=[kinds_table(found)])]
            ),
            Section("reading", "How to read it", [Card(tables_first=[reading])], is_folded=True),
        ],
        "Every number is in shuffle.json beside this page.",
        findings=sentences(found),
        protocol=f"{title(found)} · {evaluation['split']}",
    )


def answer(found: dict[str, Any]) -> str:
    """One sentence, of the events shuffled all, or of what was shuffled."""
    name = "all" if "all" in found["kinds"] else next(iter(found["kinds"]))
    of, metric = found["kinds"][name], f"{found['metric']}@{found['cutoff']}"
    if math.isnan(of["change"]):
        return f"This can't be known: {metric} is 0 in the original order."
    low, high = of["change_interval"]
    changed = f"{metric} changes by {show(of['change'], '+.1%')} [{show(low, '+.1%')}, {show(high, '+.1%')}]"
    when = f"with {KINDS[name]}"
    if low <= 0 <= high:
        return f"No sign of it: {when}, {metric} does not change significantly ({changed.partition(' by ')[2]})."
    return f"Yes: {when}, {changed}." if high < 0 else f"No, it does better without: {when}, {changed}."


def _figure(found: dict[str, Any]) -> list[Figure]:
    import altair as alt

    rows = [
        {"row": KINDS[name], "change": of["change"], "low": of["change_interval"][0], "high": of["change_interval"][1]}
        for name, of in found["kinds"].items()
        if not math.isnan(of["change"])
    ]
    if not rows:
        return []
    for row in rows:
        row["what"] = f"{row['row']}: {show(row['change'], '+.1%')}"
    x = alt.X("low:Q", title="change of the metric, 95 % interval over users", axis=alt.Axis(format="+~%", tickCount=4))
    base = alt.Chart().encode(y=alt.Y("row:N", sort=None, title=None))
    chart = alt.layer(
        alt.Chart(data_of([{"zero": 0}])).mark_rule(style="soft", strokeDash=[4, 3]).encode(x="zero:Q"),
        base.mark_rule(style="accent", strokeWidth=2).encode(x=x, x2="high:Q"),
        base.mark_point(filled=True, size=75, opacity=1).encode(
            x="change:Q", description=alt.Description("what:N"), tooltip=["what:N"]
        ),
        data=data_of(rows),
    ).properties(height=40 * len(rows) + 10)
    texts = "; ".join(str(row["what"]) for row in rows)
    return [Figure("shuffled", f"{found['metric']}@{found['cutoff']} without the order", chart, texts)]
