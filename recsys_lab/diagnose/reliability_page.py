"""Calibration of a run before and after temperature scaling as one self-contained HTML page, and as text."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from recsys_lab.audit.audit_page import STYLE
from recsys_lab.diagnose.reliability_svg import reliability_diagram
from recsys_lab.report.svg_bars import nice_ceiling

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
OWN_STYLE = """
.grid-of-cards{grid-template-columns:repeat(auto-fit,minmax(min(440px,100%),1fr))}.card p{margin-top:8px}
svg .ideal{stroke:var(--soft);stroke-dasharray:5 4}svg .gap{stroke:var(--c);stroke-width:2}
svg .dot{fill:var(--a);fill-opacity:.85}td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}
th{font-weight:600;text-align:right;padding:5px 0}th:first-child{text-align:left}
"""


def calibration_text(found: dict[str, Any]) -> str:
    """The table for the terminal. `found`: what calibration.json holds."""
    width = max(map(len, SHOWN.values()))
    lines = [
        headline(found),
        "",
        f"{'test':{width}s}  {'as given':>10s}  {'scaled':>10s}",
        *(f"{text:{width}s}  {before:>10s}  {after:>10s}" for text, before, after in _rows(found)),
        "",
        f"{100 * found['test']['before']['probability_share']:.2f} % of the test targets have a probability; the "
        "others are cold, or seen and hidden",
    ]
    return "\n".join(lines + [f"note: {note}" for note in found["notes"]])


def reliability_page(found: dict[str, Any]) -> str:
    """The page, as the text of an HTML file. `found`: what calibration.json holds."""
    run = found["run"]
    title = f"Calibration of {run['study']}/{run['variant']}, seed {run['seed']}"
    rows = "".join(f"<tr><td>{escape(t)}</td><td>{b}</td><td>{a}</td></tr>" for t, b, a in _rows(found))
    table = f"<table><tr><th>test targets</th><th>as given</th><th>scaled</th></tr>{rows}</table>"
    notes = "".join(f'<p class="lead leaks">{escape(note)}</p>' for note in found["notes"])
    cards = [
        _card("Before and after", table, f"{found['evaluation']['dataset']}, {found['evaluation']['split']}", "wide")
    ]
    after = f"scaled, T = {found['temperature']:.4g}"
    for when, text in (("before", "as given"), ("after", after)):
        bins = found["test"]["bins"][when]["equal_width"]
        cards.append(
            _card(f"Equal width, {text}", reliability_diagram(bins, 1.0, f"Reliability, {text}"), _error(bins))
        )
    for when, text in (("before", "as given"), ("after", after)):
        bins = found["test"]["bins"][when]["equal_mass"]
        limit = min(1.0, nice_ceiling(max(*bins["confidence"], *bins["accuracy"])))
        diagram = reliability_diagram(bins, limit, f"Reliability in bins of equal mass, {text}")
        cards.append(_card(f"Equal mass, {text}", diagram, _error(bins)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{OWN_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="soft">{escape(str(run["model"]))}, loss {escape(str(run["loss"]))}</p>'
        f'<p class="lead">{escape(headline(found))}</p>{notes}'
        f'<div class="grid-of-cards">{"".join(cards)}</div>'
        '<p class="soft" style="margin-top:18px">A dot is a bin of test targets: to the right, how likely the model '
        "called its first item; up, how often that item came. On the dashed line the two agree; a dot below it was "
        "over-confident. Larger dots hold more targets. Every number is in calibration.json beside this page.</p>"
        "</body></html>\n"
    )


def headline(found: dict[str, Any]) -> str:
    """One sentence: which way the probabilities are wrong, and what mends it."""
    before, after = found["test"]["before"], found["test"]["after"]
    gap = before["confidence"] - before["top_accuracy"]
    targets = sum(found["test"]["bins"]["before"]["equal_width"]["count"])
    noise = 2 * math.sqrt(before["top_accuracy"] * (1 - before["top_accuracy"]) / targets)  # two standard errors
    how = "on average right" if abs(gap) <= noise else "over-confident" if gap > 0 else "under-confident"
    return (
        f"As given, the model is {how}: it calls its first item {_percent(before['confidence'])} likely, and "
        f"{_percent(before['top_accuracy'])} come true. Temperature {found['temperature']:.4g}, fitted on the "
        f"validation targets, takes the calibration error from {before['ece']:.4f} to {after['ece']:.4f}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    before, after = found["test"]["before"], found["test"]["after"]
    return [(text, f"{before[name]:.4f}", f"{after[name]:.4f}") for name, text in SHOWN.items()]


def _error(bins: dict[str, Any]) -> str:
    return f"Calibration error {bins['error']:.4f} over {sum(bins['count']):,} targets in {len(bins['count'])} bins."


def _card(title: str, body: str, note: str, kind: str = "") -> str:
    return f'<section class="card {kind}"><h2>{escape(title)}</h2>{body}<p>{escape(note)}</p></section>'
