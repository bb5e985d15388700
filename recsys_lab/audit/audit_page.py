"""An audit as one self-contained HTML page: no script, no network, light and dark, readable on a phone."""

from __future__ import annotations

import datetime as dt
from html import escape
from typing import Any

from recsys_lab.audit.audit_text import audit_tables, checks_table, headline, percent
from recsys_lab.report.svg_bars import bars, short

STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#1f2328;--soft:#5c6570;--line:#dcdcd6;--a:#2f6fb0;
--b:#c9792b;--c:#b23a48;--d:#8a939c}
@media(prefers-color-scheme:dark){:root{--page:#14171a;--card:#1d2125;--ink:#e6e8ea;--soft:#a3abb4;--line:#343a40;
--a:#6aa9e6;--b:#e8a05a;--c:#f0808c;--d:#7d868f}}
*{box-sizing:border-box}
body{margin:0 auto;padding:20px 16px 40px;max-width:1240px;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 4px}h2{font-size:1.05rem;margin:0 0 8px}
h3{font-size:.9rem;margin:6px 0 0}
p{margin:0 0 10px}.soft,.card p{color:var(--soft);font-size:.88rem}.lead{font-size:1.08rem;max-width:46em}
.leaks{border-left:4px solid var(--c);padding-left:12px}.keeps{border-left:4px solid var(--a);padding-left:12px}
.grid-of-cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));
gap:14px;margin-top:14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px;min-width:0}
.wide{grid-column:1/-1}.tall{grid-row:span 2}
table{border-collapse:collapse;width:100%;font-size:.9rem}td{padding:5px 0;border-top:1px solid var(--line);
vertical-align:top}tr:first-child td{border-top:0}td:last-child{text-align:right;padding-left:12px;
font-variant-numeric:tabular-nums}
svg{width:100%;max-width:520px;height:auto;display:block;margin:0 auto}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg .axis{fill:var(--soft)}.grid{stroke:var(--line)}
.bar-a{fill:var(--a)}.bar-b{fill:var(--b)}.bar-c{fill:var(--c)}.bar-d{fill:var(--d)}
.check{display:grid;grid-template-columns:15.5em 6em 7.5em 1fr;gap:2px 14px;padding:7px 0;
border-top:1px solid var(--line);font-size:.9rem;align-items:center}
.check:first-of-type{border-top:0}.check .value{text-align:right;
font-variant-numeric:tabular-nums}.check .meaning{color:var(--soft)}
.track{background:var(--line);border-radius:3px;height:9px;overflow:hidden}
.fill{background:var(--c);height:9px;min-width:2px}
code{font-size:.86rem}
@media(max-width:760px){.check{grid-template-columns:1fr auto}.track,.check .meaning{grid-column:1/-1}}
"""


def audit_page(audit: dict[str, Any]) -> str:
    """The page, as the text of an HTML file."""
    about, split = audit["dataset"], audit["split"]
    title = f"Audit of {about['name']}"
    leaks = audit["checks"]["future_events"]["value"]
    mark = "" if leaks is None else " leaks" if leaks else " keeps"
    cards = [*_pictures(audit), *_tables(audit)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="soft">Split: {escape(split["name"])}</p>'
        f'<p class="lead{mark}">{escape(headline(audit))}</p>'
        f'<div class="grid-of-cards">{_checks(audit)}{"".join(cards)}</div>'
        f'<p class="soft" style="margin-top:18px">Data {about["data_hash"]}, items {about["vocabulary_hash"]}, split '
        f"{split['split_hash']}. Every number of this page is in audit.json beside it.</p></body></html>\n"
    )


def _card(title: str, body: str, note: str = "", kind: str = "") -> str:
    after = f"<p>{escape(note)}</p>" if note else ""
    return f'<section class="card {kind}"><h2>{escape(title)}</h2>{body}{after}</section>'


def _checks(audit: dict[str, Any]) -> str:
    rows = []
    for name, value, meaning in checks_table(audit).cells:
        share = audit["checks"][name.text]["value"]
        fill = f'<div class="fill" style="width:{100 * share:.2f}%"></div>' if share else ""
        track = "<span></span>" if share is None else f'<div class="track">{fill}</div>'
        rows.append(
            f'<div class="check"><code>{name.text}</code><span class="value">{escape(value.text)}</span>{track}'
            f'<span class="meaning">{escape(meaning.text)}</span></div>'
        )
    return _card("Checks: shares that should be small", "".join(rows), kind="wide")


def _tables(audit: dict[str, Any]) -> list[str]:
    found = []
    for table in audit_tables(audit):
        rows = "".join(
            f"<tr><td>{escape(what.text)}</td><td>{escape(value.text)}</td></tr>" for what, value in table.cells
        )
        found.append(_card(table.title, f"<table>{rows}</table>", table.note))
    return found


def _pictures(audit: dict[str, Any]) -> list[str]:
    card = audit["card"]
    shares = card["popularity"]["decile_shares"]
    deciles = bars(
        shares,
        [f"items {10 * k} to {10 * k + 10} % by popularity" for k in range(10)],
        "Share of events by tenth of items",
        "tenth of items, most popular first",
        "events",
        {k + 0.5: str(k + 1) for k in range(10)},
        percent=True,
    )
    note = f"The most popular tenth of the items has {percent(shares[0])} of the events."
    return [
        *_when(audit),
        _card("How long histories are", _histogram(card["history_length"]["histogram"], "events per user", "users")),
        _card("How popular items are", _histogram(card["popularity"]["histogram"], "events per item", "items")),
        _card("Where the events lie", deciles, note),
        _rules(audit),
    ]


def _histogram(found: dict[str, list[int]], x_title: str, y_title: str) -> str:
    edges, counts = found["edges"], found["counts"]
    names = [
        f"{low:,} {x_title}" if low + 1 == high else f"{low:,} to {high - 1:,} {x_title}"
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    every = 1 if len(edges) <= 10 else 2
    ticks = {float(place): short(edge) for place, edge in enumerate(edges) if place % every == 0}
    return bars(counts, names, f"{y_title} by {x_title}", x_title, y_title, ticks)


def _when(audit: dict[str, Any]) -> list[str]:
    """Three rows over one time axis: where they overlap, the split trains on the future of its targets."""
    when = audit["leakage"]["when"]
    if when is None:
        return []
    edges = when["edges"]
    days = [dt.datetime.fromtimestamp(edge, dt.UTC).strftime("%Y-%m-%d") for edge in edges]
    ticks = {place * (len(days) - 1): days[round(place * (len(days) - 1))] for place in (0.0, 0.5, 1.0)}
    names = [f"from {day}" for day in days[:-1]]
    rows = []
    for part, title, kind in (
        ("training", "training events", "a"),
        ("val", "validation targets", "b"),
        ("test", "test targets", "c"),
    ):
        total = sum(when[part])
        if total:
            shares = [count / total for count in when[part]]
            rows.append(f"<h3>{title}</h3>")
            rows.append(bars(shares, names, f"{title} over time", "", f"share of {total:,}", ticks, True, kind, 128))
    note = "Where training events lie to the right of test targets, the model trains on what was still to come."
    return [_card("When it happens", "".join(rows), note, kind="tall")]


def _rules(audit: dict[str, Any]) -> str:
    rows = []
    for rule in audit["rules"]:
        left = sum(rule["rules_shuffled"]) / len(rule["rules_shuffled"])
        change = "no rules" if rule["change"] is None else f"{100 * rule['change']:+.1f} % by shuffling"
        rows.append(f"<h3>{rule['n']}-gram rules: {change}</h3>")
        names = ["in the data", "shuffled"]
        ticks = {0.5: f"in the data: {rule['rules']:,}", 1.5: f"shuffled: {left:,.1f}"}
        label = f"{rule['n']}-gram rules in the data and in shuffled data"
        rows.append(bars([rule["rules"], left], names, label, "", "rules", ticks, height=128))
    return _card(
        "Is it sequential?", "".join(rows), "Rules that vanish when each user's events are shuffled are order."
    )
