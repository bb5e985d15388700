"""An audit as one HTML page, with its pictures."""

from __future__ import annotations

from typing import Any

from recsys_lab.audit.audit_text import (
    answer,
    audit_tables,
    behind,
    checks_table,
    fields_table,
    mends_table,
    percent,
)
from recsys_lab.report.figure import Figure, data_of
from recsys_lab.report.page import Card, Page, Section
from recsys_lab.report.table import show

QUESTION = "Can results on this data and split be believed?"
DAY = 86_400


def audit_page(audit: dict[str, Any]) -> Page:
    """The page: it holds no script."""
    about, split = audit["dataset"], audit["split"]
    leaks = audit["checks"]["future_events"]["value"]
    checks = checks_table(audit)
    return Page(
        "Audit of",
        about["name"],
        QUESTION,
        answer(audit),
        [
            Section("checks", checks.title, [Card(figures=_when(audit), tables_first=[checks])]),
            *(
                Section("mends", table.title, [Card(tables_first=[table.only(["what", "share", "of"])])])
                for table in mends_table(audit)
            ),
            Section("pictures", "Order, users, items", [Card(figures=_figures(audit))], is_folded=True),
            Section("card", "Data card", [Card(facts=audit_tables(audit))], is_folded=True),
            *(
                Section("fields", table.title, [Card(tables_first=[table])], is_folded=True)
                for table in fields_table(audit)
            ),
        ],
        f"Data {about['data_hash']}, items {about['vocabulary_hash']}, split {split['split_hash']}. Every number of "
        "this page is in audit.json beside it.",
        protocol=f"Split: {split['name']}",
        findings=behind(audit),
        tone="bad" if leaks else "good" if answer(audit).startswith("Yes") else "",
    )


def _figures(audit: dict[str, Any]) -> list[Figure]:
    card, shares = audit["card"], audit["card"]["popularity"]["decile_shares"]
    deciles = [
        {"bin": str(k + 1), "count": share, "what": f"items {10 * k} to {10 * k + 10} % by popularity"}
        for k, share in enumerate(shares)
    ]
    note = f"The most popular tenth of the items has {percent(shares[0])} of the events."
    axis = "tenth of items, most popular first"
    return [
        _rules(audit),
        _bars("history", "How long histories are", _bins(card["history_length"]), "events per user", "users"),
        _bars("popularity", "How popular items are", _bins(card["popularity"]), "events per item", "items"),
        _bars("deciles", "Where the events lie", deciles, axis, "events", "~%", note),
    ]


def _bins(about: dict[str, Any]) -> list[dict[str, Any]]:
    edges, counts = about["histogram"]["edges"], about["histogram"]["counts"]
    names = [f"{a:,}" if a + 1 == b else f"{a:,}-{b - 1:,}" for a, b in zip(edges, edges[1:], strict=False)]
    return [{"bin": name, "count": count, "what": name} for name, count in zip(names, counts, strict=True)]


def _bars(
    name: str, title: str, rows: list[dict[str, Any]], x_title: str, y_title: str, format: str = "~s", note: str = ""
) -> Figure:
    """Upright bars. rows: `bin`, in their order, `count`, and `what` the bin is."""
    import altair as alt

    tips = [alt.Tooltip("what:N", title=x_title), alt.Tooltip("count:Q", title=y_title, format=format)]
    axis = alt.Axis(labelAngle=0, labelOverlap=True)
    chart = (
        alt.Chart(data_of(rows))
        .mark_bar(style="accent", minBandSize=1)
        .encode(
            x=alt.X("bin:N", sort=None, title=x_title, axis=axis, scale=alt.Scale(paddingInner=0.1)),
            y=alt.Y("count:Q", title=y_title, axis=alt.Axis(format=format, tickCount=4)),
            tooltip=tips,
            description=alt.Description("what:N"),
        )
    )
    return Figure(name, title, chart.properties(height=150), f"{y_title} by {x_title}", note)


def _when(audit: dict[str, Any]) -> list[Figure]:
    """Three rows over one time axis: where they overlap, the split trains on the future of its targets."""
    import altair as alt

    when = audit["leakage"]["when"]
    if when is None:
        return []
    parts = {"training": "training events", "val": "validation targets", "test": "test targets"}
    parts = {part: title for part, title in parts.items() if sum(when[part])}
    rows = []
    for place, (part, title) in enumerate(parts.items()):
        total, most = sum(when[part]), max(when[part])
        for start, end, count in zip(when["edges"], when["edges"][1:], when[part], strict=False):
            foot, tall = -place, 0.8 * count / most
            share = f"{title}, {percent(count / total)} of {total:,}"
            rows.append({"from": 1000 * start, "to": 1000 * end, "foot": foot, "top": foot + tall, "what": share})
            rows[-1]["part"] = title
    names = " : ".join(f"datum.value == {-place} ? '{title}'" for place, title in enumerate(parts.values()))
    axis = alt.Axis(
        values=[-place for place in range(len(parts))], labelExpr=f"{names} : ''", domain=False, ticks=False
    )
    is_short = when["edges"][-1] - when["edges"][0] < 4 * DAY
    times = alt.Axis(format="%b %d, %H:%M" if is_short else "%Y-%m-%d", tickCount=3, labelOverlap=True)
    x = alt.X("from:T", title=None, scale=alt.Scale(type="utc"), axis=times)
    y = alt.Y("foot:Q", title=None, axis=axis, scale=alt.Scale(domain=[0.9 - len(parts), 0.9], nice=False))
    chart = (
        alt.Chart(data_of(rows))
        .mark_rect()
        .encode(
            x=x,
            x2="to:T",
            y=y,
            y2="top:Q",
            color=alt.Color("part:N", sort=None, legend=None),
            tooltip=[alt.Tooltip("from:T", format="%Y-%m-%d"), alt.Tooltip("what:N")],
            description=alt.Description("what:N"),
        )
    )
    note = "Where training events lie to the right of test targets, the model trains on what was still to come."
    shown = ", ".join(parts.values())
    return [Figure("when", "When it happens", chart.properties(height=170), f"{shown} over time", note)]


def _rules(audit: dict[str, Any]) -> Figure:
    """Rules of each length, in the data and after shuffling."""
    import altair as alt

    rows, changes = [], []
    for rule in audit["rules"]:
        left = sum(rule["rules_shuffled"]) / len(rule["rules_shuffled"])
        change = "no rules" if rule["change"] is None else f"{show(rule['change'], '+.1%')} by shuffling"
        changes.append(f"{rule['n']}-gram rules: {change}.")
        for where, count in (("in the data", rule["rules"]), ("shuffled", left)):
            text = f"{count:,.1f}".removesuffix(".0")
            rows.append({"row": f"{rule['n']}-gram, {where}", "where": where, "rules": count, "text": text})
    base = alt.Chart(data_of(rows)).encode(
        x=alt.X("rules:Q", title="rules", axis=alt.Axis(format="~s", tickCount=4)),
        y=alt.Y("row:N", sort=None, title=None),
        tooltip=["row:N", "rules:Q"],
    )
    bars = base.mark_bar().encode(color=alt.Color("where:N", legend=None))
    chart = alt.layer(bars, base.mark_text(style="label", align="left", dx=4).encode(text="text:N"))
    note = f"{' '.join(changes)} Rules that vanish when each user's events are shuffled are order."
    return Figure(
        "rules", "Is it sequential?", chart.properties(height=130), "Rules in the data and in shuffled data", note
    )
