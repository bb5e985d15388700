"""An explanation as one HTML page."""

from __future__ import annotations

from typing import Any

from recsys_lab.diagnose.explain.explained_text import (
    TITLES,
    answer,
    events_table,
    fields_table,
    named,
    reading,
    used_methods,
)
from recsys_lab.report.figure import Figure, data_of
from recsys_lab.report.page import Card, Page, Section
from recsys_lab.report.table import Column, Table
from recsys_lab.words import number_of

DRAWN = 60
"""Events in the figure: the newest. The table has all."""
LABEL, CELL = 170, 54
"""Pixels of a name and of a method: with three of these a telephone shows the figure at about its own size."""


def explained_page(found: dict[str, Any], run: str) -> Page:
    """The page: it holds no script. found: what `explain` gives. run: which model, for the head."""
    sections = [
        Section("events", "What each event adds", [Card(figures=_figure(found), tables_first=[events_table(found)])])
    ]
    if found["fields"]:
        sections.append(Section("fields", "What each field adds", [Card(tables_first=[fields_table(found)])]))
    rows = Table([Column("how to read it")], [{"how to read it": line} for line in reading(found)], "How to read it")
    sections.append(Section("reading", "How to read it", [Card(tables_first=[rows])], is_folded=True))
    whose = "" if found["user"] is None else f" · user {found['user']}"
    return Page(
        "Explanation of",
        named(found["item"]),
        "Why is this item recommended?" if found["item"]["is_first_of_list"] else "What speaks for this item?",
        answer(found),
        sections,
        "recsys-lab diagnose explain --json has every number.",
        protocol=f"{found['model']}, {run}{whose} · {number_of(len(found['events']), 'event')}",
    )


def _figure(found: dict[str, Any]) -> list[Figure]:
    import altair as alt

    rows, events, used = [], found["events"][:DRAWN], used_methods(found)
    for name in used:
        most = max((abs(one[name]) for one in found["events"]), default=0.0) or 1.0
        for one in events:
            value = one[name]
            rows.append(
                {
                    "event": f"{one['ago']} · {named(one)}",
                    "method": TITLES[name],
                    "shade": abs(value) / most,
                    "sign": "for" if value >= 0 else "against",
                    "text": f"{value:.2g}" if name == "attention" else f"{value:+.2g}",
                }
            )
    if not rows:
        return []
    top = alt.Axis(orient="top", labelAngle=0, title=None, domain=False, ticks=False)
    base = alt.Chart().encode(
        x=alt.X("method:N", sort=[TITLES[name] for name in used], axis=top),
        y=alt.Y("event:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=LABEL)),
    )
    shade = alt.Opacity("shade:Q", scale=alt.Scale(domain=[0, 1], range=[0.0, 0.8]), legend=None)
    tips = [alt.Tooltip("event:N"), alt.Tooltip("method:N"), alt.Tooltip("text:N", title="adds")]
    marks = [
        base.transform_filter(f"datum.sign == '{sign}'").mark_rect(style=style).encode(opacity=shade, tooltip=tips)
        for sign, style in (("for", "accent"), ("against", "warning"))
    ]
    chart = alt.layer(*marks, base.mark_text(style="label", fontSize=11).encode(text="text:N"), data=data_of(rows))
    said = f"Heat map of what each event adds, by {', '.join(TITLES[name] for name in used)}. {answer(found)}"
    left = "" if len(events) == len(found["events"]) else f" Drawn: the newest {DRAWN} events; the table has all."
    signs = "Blue speaks for the item, orange against it" + ("; attention has no sign" if "attention" in used else "")
    note = f"The newest event first. {signs}. The shade is by each column's largest value.{left}"
    sized = chart.properties(width=CELL * len(used), height=20 * len(events))
    return [Figure("events", "What each event adds", sized, said, note)]
