"""A tuned study as text for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from recsys_lab.report.shown_columns import Shown, fitted
from recsys_lab.report.table import Cell, Column, Table
from recsys_lab.report.terminal import wrapped
from recsys_lab.study.plan.study_file import text_of
from recsys_lab.study.tune.results import SearchResult, TuningResults
from recsys_lab.words import number_of

STATES = ("complete", "pruned", "failed")
MOST_NAMED = 3
SHOWN_BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def render(results: TuningResults, width: int | None = None) -> str:
    """The table of the searches, the expected best over the budget, the found settings. width: characters of a line;
    None = as long as it is."""
    shown = Shown(width=width, rest="--show --json has all")
    lines = [
        f"{results.study}: {results.select} on the validation part, {results.trials} trials for each of "
        f"{number_of(len(results.searches), 'search', 'searches')} (sampler {results.sampler}, pruner "
        f"{results.pruner})",
        "",
        fitted(searches_table(results).without(["found settings"]), shown),
    ]
    curves = [search for search in results.searches if search.curve]
    if curves:
        lines += [
            "",
            "expected best after n trials [interval of 90 % of the orders of trials]:",
            fitted(_curves(curves), shown),
        ]
        lines.append(
            "each trial is one training on the validation part, so this is no test and does not rank the searches"
        )
    lines.append("")
    for search in results.searches:
        found = settings_text(search.best.settings) if search.best else "no complete trial yet"
        lines.append(f"{search.label}: {found}")
    return "\n".join(lines) if width is None else wrapped("\n".join(lines), width)


def tuning_record(results: TuningResults) -> dict[str, Any]:
    """What `render` says, for programs: each search with its trials, and its best one's number."""
    searches = [
        {
            "search": search.label,
            "variants": search.variants,
            "best": search.best.number if search.best else None,
            "expected_best": [asdict(point) for point in search.curve],
            "trials": [{**asdict(trial), "folder": str(trial.folder)} for trial in search.trials],
        }
        for search in results.searches
    ]
    about = {"study": results.study, "select": results.select, "trials_planned": results.trials}
    return {**about, "sampler": results.sampler, "pruner": results.pruner, "searches": searches}


def settings_text(settings: dict[str, Any]) -> str:
    """`model.dropout 0.3, model.optimization.lr 0.002`."""
    return ", ".join(f"{key} {_value(value)}" for key, value in settings.items()) or "the study's own settings"


def searches_table(results: TuningResults) -> Table:
    """What each search found, by validation."""
    best = f"{results.select} of the best trial, which is too high, since it is the maximum of noisy values"

    def found(search: SearchResult) -> Cell:
        return Cell(settings_text(search.best.settings), style="code") if search.best else Cell("none yet")

    def count(state: str) -> Callable[[SearchResult], int]:
        return lambda one: one.count(state)

    columns = [
        Column("search", value=lambda one: one.label),
        Column("trials", "d", "that have ended", lambda one: len(one.trials)),
        *(Column(state, "d", value=count(state), spare=2) for state in STATES),
        Column("seconds", ",.0f", spare=2),
        Column("default", ".4f", "the study's own settings", lambda one: one.default and one.default.value),
        Column("best", ".4f", best, lambda one: one.best and one.best.value),
        Column("by trial", "d", spare=1, value=lambda one: one.best and one.best.number),
        Column("found settings", value=found),
    ]
    return Table(columns, results.searches, "Searches")


def tuning_answer(results: TuningResults) -> str:
    """The expected best of each search that may be compared, the best first, in a sentence; empty without any."""
    done = [search for search in results.searches if search.curve]
    if not done or len(results.comparable()) != 1:
        return ""
    sign = -1 if done[0].mode == "max" else 1
    done.sort(key=lambda search: sign * search.curve[-1].expected)
    ends = ", ".join(f"{search.label} {search.curve[-1].expected:.4f}" for search in done[:MOST_NAMED])
    more = f" and {len(done) - MOST_NAMED} more" if len(done) > MOST_NAMED else ""
    said = f"The expected best {results.select} after all trials is {ends}{more}."
    return f"{said} Each trial is one training, so this is no test."


def _curves(searches: list[SearchResult]) -> Table:
    curves = {search.label: [(point.expected, point.low, point.high) for point in search.curve] for search in searches}
    longest = max(map(len, curves.values()))
    shown = sorted({n for n in SHOWN_BUDGETS if n <= longest} | {longest})
    rows = [{"n": n, **{label: dict(enumerate(curve, 1)).get(n) for label, curve in curves.items()}} for n in shown]
    numbers = [Column(label, ".4f", spare=int(place > 0)) for place, label in enumerate(curves)]
    return Table([Column("n", "d"), *numbers], rows)


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else text_of(value)
