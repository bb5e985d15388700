"""A comparison as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from recsys_lab.report.escapes import as_csv, as_json
from recsys_lab.report.shown_columns import ALL, Shown
from recsys_lab.report.table import UNKNOWN, Column, Table, document
from recsys_lab.runs.comparison import Comparison, Row
from recsys_lab.statistics.pairs import ONE_SEED, Difference, Pair
from recsys_lab.words import number_of, titled

FORMATS = ("text", "markdown", "latex", "csv", "json")
INTERVALS = {"t": "t", "bca": "BCa bootstrap", "percentile": "percentile bootstrap"}
DETECTABLE = "MDE (80 % power)"
COSTS = {"parameters": "parameters", "seconds": "train_seconds", "tokens/s": "tokens_per_second"}
TESTED = {
    "minus_reference": "difference",
    "minus_reference_low": "low",
    "minus_reference_high": "high",
    "p": "p_value",
    "p_holm": "p_corrected",
    "effect_size": "effect_size",
    "minimum_detectable": "detectable",
}
"""Of a difference: its name in a record of full precision -> the attribute."""
NOT_IN_LATEX = ("seconds", "tokens/s")


def render(
    comparisons: Comparison | Sequence[Comparison], format: str = "text", pairs: bool = False, shown: Shown = ALL
) -> str:
    """A comparison in one of `FORMATS`, or one for each task of the same runs. `pairs` adds the table of all tested
    pairs (CSV holds one kind of row: the pairs; JSON always holds both, and further tasks in `also`). `shown` chooses
    columns, of tables that people read."""
    each = [comparisons] if isinstance(comparisons, Comparison) else list(comparisons)
    if format == "json":
        first, *others = map(_as_plain, each)
        return as_json(first | ({"also": others} if others else {}))
    if format == "csv":
        return as_csv(
            _united(
                [pair_record(pair, of) for of in each for pair in of.pairs]
                if pairs
                else [record(row, of) for of in each for row in of.rows]
            )
        )
    return "\n\n".join(_rendered(one, format, pairs, shown) for one in each)


def _as_plain(comparison: Comparison) -> dict[str, Any]:
    return {
        "evaluation": comparison.evaluation,
        "method": asdict(comparison.method),
        "reference": comparison.rows[comparison.reference].variant,
        "notes": comparison.notes,
        "rows": [record(row, comparison) for row in comparison.rows],
        "pairs": [pair_record(pair, comparison) for pair in comparison.pairs],
    }


def _united(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same columns in each, empty where a task has no such metric."""
    names = dict.fromkeys(name for one in records for name in one)
    return [{name: one.get(name) for name in names} for one in records]


def _rendered(comparison: Comparison, format: str, pairs: bool, shown: Shown) -> str:
    table, left_out = shown.of(rows_table(comparison))
    tables, legend = [table], [*left_out, *_legend(comparison)]
    if pairs and comparison.pairs:
        tables.append(replace(shown, names=()).of(_pairs_table(comparison))[0])
        legend.insert(
            len(legend) - len(comparison.notes),
            f"p is corrected, of {comparison.deciding} alone; intervals of other metrics are not corrected, and decide "
            "nothing; better is in the deciding metric",
        )
    return document(
        [table.without(NOT_IN_LATEX * (format == "latex")) for table in tables], legend, format, shown.width
    )


def record(row: Row, comparison: Comparison) -> dict[str, Any]:
    """One row with full precision."""
    cutoff = comparison.cutoff
    found: dict[str, Any] = {
        "variant": row.variant,
        "model": row.texts_of("model"),
        "loss": row.texts_of("loss"),
        "seeds": len(row.runs),
        "reference": comparison.rows[comparison.reference].variant,
    }
    for name in comparison.metrics:
        found[titled(name, cutoff)] = row.estimates[name].mean
        found[f"{titled(name, cutoff)}_low"], found[f"{titled(name, cutoff)}_high"] = row.intervals[name]
        found[f"{titled(name, cutoff)}_seed_deviation"] = row.seed_deviation[name]
    for name in comparison.metrics:
        tested = row.against.get(name)
        found |= {f"{titled(name, cutoff)}_{part}": getattr(tested, of, None) for part, of in TESTED.items()}
    return found | {
        "untested": row.untested,
        "trained_on": row.trained_on,
        **{name: row.mean_of(name) for name in COSTS.values()},
        "stopped_by": row.texts_of("stopped_by"),
        "folders": " ".join(str(run.folder) for run in row.runs),
    }


def pair_record(pair: Pair, comparison: Comparison) -> dict[str, Any]:
    """One pair and metric with full precision: `a`, the better one in the deciding metric, minus `b`."""
    return {
        "a": comparison.rows[pair.a].variant,
        "b": comparison.rows[pair.b].variant,
        "metric": titled(pair.metric, comparison.cutoff),
        "is_significant": pair.is_significant(comparison.method.alpha),
    } | {name: value for name, value in asdict(pair).items() if name not in ("a", "b", "metric")}


def rows_table(comparison: Comparison) -> Table:
    """All rows, best first."""
    deciding, rows = titled(comparison.deciding, comparison.cutoff), comparison.rows
    best = [row for place, row in enumerate(rows) if comparison.is_significantly_best(place)]

    def marked(column: Column) -> Column:
        if column.title != deciding or not best:
            return column
        return replace(column, value=lambda row: replace(column.cell(row), style="bold" if row in best else ""))

    def loss(row: Row) -> str:
        return row.texts_of("loss") + (f" ({len(row.runs)} seeds)" if len(row.runs) > 1 else "")

    columns = [
        Column("variant", shortest=16),
        Column("model", value=lambda row: row.texts_of("model"), spare=4),
        Column("loss", value=loss, spare=5),
        *trained_on_column(comparison),
        *map(marked, number_columns(comparison)),
        Column("stopped by", value=lambda row: row.texts_of("stopped_by"), spare=6),
    ]
    return Table(columns, rows)


def trained_on_column(comparison: Comparison) -> list[Column]:
    """None where every row was trained on what the split says."""
    column = Column("trained on", value=lambda row: row.trained_on or UNKNOWN)
    return [column] * any(row.trained_on for row in comparison.rows)


def number_columns(comparison: Comparison) -> list[Column]:
    """Of the rows of a comparison: each metric, the difference to the reference with its test, the costs."""
    deciding = comparison.deciding
    means = f"mean, {comparison.method.level} interval over users of these models; sd over seeds"
    versus = "vs baseline" if comparison.has_baseline else "behind best"
    against = "minus the baseline" if comparison.has_baseline else "of the best row minus this"

    def name_of(metric: str) -> str:
        return titled(metric, comparison.cutoff)

    def mean(name: str) -> Callable[[Row], Any]:
        return lambda row: (row.estimates[name].mean, *row.intervals[name], row.seed_deviation[name])

    def difference(row: Row) -> Any:
        pair = row.against.get(deciding)
        return pair and (pair if comparison.has_baseline else pair.turned()).spread

    def cost(name: str) -> Callable[[Row], Any]:
        return lambda row: row.mean_of(name)

    helps = {"seconds": "until the fit ended, validation included; mean over seeds"}
    return [
        *(
            Column(titled(name, comparison.cutoff), ".4f", means, mean(name), spare=0 if name == deciding else 3)
            for name in comparison.metrics
        ),
        Column(
            versus,
            "+.4f",
            f"{titled(deciding, comparison.cutoff)} {against}; over users and seeds",
            difference,
            spare=1,
        ),
        *test_columns(lambda row: row.against.get(deciding)),
        *(Column(title, ",.0f", helps.get(title, ""), cost(name), spare=7) for title, name in COSTS.items()),
    ]


def test_columns(tested: Callable[[Any], Difference | None]) -> list[Column]:
    """What a test found; `UNKNOWN` without one."""

    def part(name: str) -> Callable[[Any], Any]:
        return lambda row: getattr(tested(row), name, None)

    return [
        Column("p", "p", "over users and seeds, corrected", part("p_or_reason"), spare=1),
        Column(
            "d", "+.2f", "effect size: difference over its standard deviation over users", part("effect_size"), spare=6
        ),
        Column(DETECTABLE, ".4f", "minimum detectable effect, at the same correction", part("detectable"), spare=6),
    ]


def _pairs_table(comparison: Comparison) -> Table:
    corrected, size, detectable = test_columns(lambda pair: pair)
    columns = [
        Column("better", value=lambda pair: comparison.rows[pair.a].variant),
        Column("other", value=lambda pair: comparison.rows[pair.b].variant),
        Column("metric", value=lambda pair: titled(pair.metric, comparison.cutoff)),
        Column("better - other", "+.4f", value=lambda pair: pair.spread),
        replace(corrected, value=lambda pair: pair.p_or_reason if pair.metric == comparison.deciding else None),
        Column("p uncorrected", "p", value=lambda pair: pair.p_value, spare=5),
        *(size, detectable),
    ]
    return Table(columns, comparison.pairs)


def evaluation_line(e: dict[str, Any], is_titled: bool = False) -> str:
    """On what and how rows were evaluated; data set and split are left out where a title above says them."""
    start, split = ("", "") if is_titled else (f"{e.get('dataset')}: ", f", split {e.get('split')}")
    if e.get("task"):
        field = (e.get("task_settings") or {}).get("field")
        return f"{start}{e['task']}{f' of {field}' if field else ''}{split}"
    among = {
        "trained": f"cold targets {e.get('cold_targets')}",
        "all": "cold items among the candidates",
        "cold": "cold targets among cold items alone",
    }[e.get("candidates") or "trained"]
    targets = e.get("cold_test_targets" if e.get("candidates") == "cold" else "test_targets")
    return (
        f"{start}{targets} test targets{split}, full ranking, "
        f"exclude_seen {e.get('exclude_seen')}, ties {e.get('ties')}, {among}"
    )


def untested_text(pairs: Sequence[Pair]) -> str:
    """Why none of `pairs` was tested."""
    reasons = sorted({pair.untested for pair in pairs if pair.untested})
    if reasons == [ONE_SEED]:
        return "one seed each: not tested over seeds"
    return f"not tested: {', '.join(reasons)}" if reasons else "not tested"


def _legend(comparison: Comparison) -> list[str]:
    method, reference = comparison.method, comparison.rows[comparison.reference].variant
    name = titled(comparison.deciding, comparison.cutoff)
    column = (
        f"vs baseline is this row minus {reference}"
        if comparison.has_baseline
        else f"behind best is {reference} minus this row"
    )
    automatic = [row.variant for row in comparison.rows if row.is_automatic]
    tested = [pair for pair in comparison.pairs if not math.isnan(pair.p_corrected)]
    lines = [
        evaluation_line(comparison.evaluation),
        f"[low, high] of a row is its {method.level} interval over users ({INTERVALS[method.interval]}), of these "
        "trained models; sd is the standard deviation over seeds; seconds are counted until the fit ended, with "
        "validation",
    ]
    if tested:
        lines.append(
            f"{column}, in {name}; its interval and p are over users and seeds (t, Welch-Satterthwaite, degrees of "
            f"freedom at most the seeds'), with Holm's correction over {number_of(len(tested), 'pair')} in {name}"
        )
        lines.append(f"d is Cohen's d over users, and {DETECTABLE} is the minimum detectable effect")
    elif comparison.pairs:
        lines.append(f"{column}, in {name}; {untested_text(comparison.pairs)}; d is Cohen's d over users")
    if any(comparison.is_significantly_best(i) for i in range(len(comparison.rows))):
        lines.append(f"a row in bold is significantly better in {name} than every other row")
    if automatic:
        lines.append(
            f"untrained baselines take part in every comparison: {', '.join(automatic)}; the best of them, "
            f"{automatic[0]}, is {'tested' if tested else 'compared'} with each other row, and the others are not"
        )
    return [*lines, *comparison.notes]
