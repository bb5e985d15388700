"""A tuned study as text for the terminal."""

from __future__ import annotations

from typing import Any

from recsys_lab.report.layout import Cells, text
from recsys_lab.study.plan.study_file import text_of
from recsys_lab.study.tune.results import SearchResult, TuningResults

SHOWN_BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def render(results: TuningResults) -> str:
    """The table of the searches, the expected best over the budget, the found settings."""
    lines = [
        f"{results.study}: {results.select} on the validation part, {results.trials} trials for each "
        f"of {len(results.searches)} (sampler {results.sampler}, pruner {results.pruner})",
        "",
        text([_row(search, results.select) for search in results.searches], left=("search",)),
    ]
    curves = [search for search in results.searches if search.curve]
    if curves:
        lines += ["", "expected best after n trials [where 90 % of their orders lie]:", _curves(curves)]
        lines.append("each trial is one training on the validation part: no test, and no ranking of the searches")
    lines += ["", *(_found(search) for search in results.searches)]
    return "\n".join(lines)


def settings_text(settings: dict[str, Any]) -> str:
    """`model.dropout 0.3, model.optimization.lr 0.002`."""
    return ", ".join(f"{key} {_value(value)}" for key, value in settings.items()) or "the study's own settings"


def _row(search: SearchResult, select: str) -> Cells:
    best, default, metric = search.best, search.default, select.replace("val/", "test/", 1)
    return {
        "search": search.label,
        "trials": str(len(search.trials)),
        "complete": str(search.count("complete")),
        "pruned": str(search.count("pruned")),
        "failed": str(search.count("failed")),
        "seconds": f"{search.seconds:,.0f}",
        "default": _number(default.value if default else None),
        "best": _number(best.value if best else None),
        "by trial": str(best.number) if best else "-",
        metric: _tests(search, metric),
    }


def _tests(search: SearchResult, metric: str) -> str:
    """The test of the found settings, in the mean over seeds; by variant where they are for more than one."""
    texts = []
    for label, runs in search.final_runs.items():
        values = [run.metrics[metric] for run in runs if metric in run.metrics]
        if values:
            seeds = f"{len(values)} seed{'s' if len(values) > 1 else ''}"
            name = f"{label} " if len(search.variants) > 1 else ""
            texts.append(f"{name}{sum(values) / len(values):.4f} ({seeds})")
    return "; ".join(texts) or "-"


def _curves(searches: list[SearchResult]) -> str:
    longest = max(len(search.curve) for search in searches)
    shown = sorted({n for n in SHOWN_BUDGETS if n <= longest} | {longest})
    rows = []
    for n in shown:
        row = {"n": str(n)}
        for search in searches:
            point = search.curve[n - 1] if n <= len(search.curve) else None
            row[search.label] = f"{point.expected:.4f} [{point.low:.4f}, {point.high:.4f}]" if point else "-"
        rows.append(row)
    return text(rows, left=())


def _found(search: SearchResult) -> str:
    best = search.best
    if best is None:
        return f"{search.label}: no complete trial yet"
    return f"{search.label}: {settings_text(best.settings)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else text_of(value)
