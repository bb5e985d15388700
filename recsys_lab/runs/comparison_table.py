"""A comparison as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from recsys_lab.report.escapes import as_csv, as_json
from recsys_lab.report.table import UNKNOWN, Column, Table, document, show
from recsys_lab.runs.comparison import Comparison, Row
from recsys_lab.statistics.pairs import ONE_SEED, Difference, Pair

FORMATS = ("text", "markdown", "latex", "csv", "json")
INTERVALS = {"t": "t", "bca": "BCa bootstrap", "percentile": "percentile bootstrap"}
DETECTABLE = "MDE (80 % power)"
COSTS = {"parameters": "parameters", "seconds": "train_seconds", "tokens/s": "tokens_per_second"}
NOT_IN_LATEX = ("seconds", "tokens/s")


def render(comparison: Comparison, format: str = "text", pairs: bool = False) -> str:
    """`comparison` in one of `FORMATS`; `pairs` adds the table of all tested pairs (CSV holds one table: the pairs;
    JSON always holds both)."""
    if format == "json":
        return as_json(
            {
                "evaluation": comparison.evaluation,
                "method": asdict(comparison.method),
                "reference": comparison.rows[comparison.reference].variant,
                "notes": comparison.notes,
                "rows": [record(row, comparison) for row in comparison.rows],
                "pairs": [pair_record(pair, comparison) for pair in comparison.pairs],
            }
        )
    if format == "csv":
        return as_csv(
            [pair_record(pair, comparison) for pair in comparison.pairs]
            if pairs
            else [record(row, comparison) for row in comparison.rows]
        )
    tables = [rows_table(comparison)]
    legend = _legend(comparison)
    if pairs and comparison.pairs:
        tables.append(_pairs_table(comparison))
        legend.insert(
            len(legend) - len(comparison.notes),
            f"p: corrected, of {comparison.deciding} alone; other metrics have uncorrected intervals and decide "
            "nothing. better: in the deciding metric",
        )
    return document([table.without(NOT_IN_LATEX * (format == "latex")) for table in tables], legend, format)


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
        found[f"{name}@{cutoff}"] = row.estimates[name].mean
        found[f"{name}@{cutoff}_low"], found[f"{name}@{cutoff}_high"] = row.intervals[name]
        found[f"{name}@{cutoff}_seed_deviation"] = row.seed_deviation[name]
    for name in comparison.metrics:
        pair = row.against.get(name)
        found[f"{name}@{cutoff}_minus_reference"] = pair.difference if pair else None
        found[f"{name}@{cutoff}_minus_reference_low"] = pair.low if pair else None
        found[f"{name}@{cutoff}_minus_reference_high"] = pair.high if pair else None
        found[f"{name}@{cutoff}_p"] = pair.p_value if pair else None
        found[f"{name}@{cutoff}_p_holm"] = pair.p_corrected if pair else None
        found[f"{name}@{cutoff}_effect_size"] = pair.effect_size if pair else None
        found[f"{name}@{cutoff}_minimum_detectable"] = pair.detectable if pair else None
    return found | {
        "untested": row.untested,
        "trained_on": row.trained_on,
        "parameters": row.mean_of("parameters"),
        "train_seconds": row.mean_of("train_seconds"),
        "tokens_per_second": row.mean_of("tokens_per_second"),
        "stopped_by": row.texts_of("stopped_by"),
        "folders": " ".join(str(run.folder) for run in row.runs),
    }


def pair_record(pair: Pair, comparison: Comparison) -> dict[str, Any]:
    """One pair and metric with full precision: `a`, the better one in the deciding metric, minus `b`."""
    return {
        "a": comparison.rows[pair.a].variant,
        "b": comparison.rows[pair.b].variant,
        "metric": f"{pair.metric}@{comparison.cutoff}",
        "is_significant": pair.is_significant(comparison.method.alpha),
    } | {name: value for name, value in asdict(pair).items() if name not in ("a", "b", "metric")}


def rows_table(comparison: Comparison) -> Table:
    """All rows, best first."""
    deciding = f"{comparison.deciding}@{comparison.cutoff}"
    versus = "vs baseline" if comparison.has_baseline else "behind best"
    rows = [row_values(row, comparison, versus) for row in comparison.rows]
    for place, row in enumerate(rows):
        if comparison.is_significantly_best(place):
            row[deciding] = replace(show(row[deciding], ".4f"), style="bold")
    columns = [Column("variant"), Column("model"), Column("loss")]
    columns += [Column("trained on")] * any(row.trained_on for row in comparison.rows)
    columns += [*metric_columns(comparison), Column(versus, "+.4f"), *test_columns()]
    columns += [*(Column(title, ",.0f") for title in COSTS), Column("stopped by")]
    return Table(columns, rows)


def row_values(row: Row, comparison: Comparison, versus: str) -> dict[str, Any]:
    """What a table can show of one row, by title; `versus`: of the difference to the reference."""
    pair = row.against.get(comparison.deciding)
    seeds = f" ({len(row.runs)} seeds)" if len(row.runs) > 1 else ""
    return {
        "variant": row.variant,
        "model": row.texts_of("model"),
        "loss": row.texts_of("loss") + seeds,
        "trained on": row.trained_on or UNKNOWN,
        **{
            f"{name}@{comparison.cutoff}": (row.estimates[name].mean, *row.intervals[name], row.seed_deviation[name])
            for name in comparison.metrics
        },
        versus: pair and (pair if comparison.has_baseline else pair.turned()).spread,
        **test_values(pair),
        **{title: row.mean_of(name) for title, name in COSTS.items()},
        "stopped by": row.texts_of("stopped_by"),
    }


def metric_columns(comparison: Comparison) -> list[Column]:
    level = f"{100 * (1 - comparison.method.alpha):g} %"
    means = f"mean, {level} interval over users of these models; sd over seeds"
    return [Column(f"{name}@{comparison.cutoff}", ".4f", means) for name in comparison.metrics]


def test_columns() -> list[Column]:
    """Of `test_values`."""
    return [
        Column("p", "p", "over users and seeds, corrected"),
        Column("d", "+.2f", "effect size: difference over its standard deviation over users"),
        Column(DETECTABLE, ".4f", "minimum detectable effect, at the same correction"),
    ]


def test_values(tested: Difference | None) -> dict[str, Any]:
    """What a test found, by title; `UNKNOWN` without one."""
    if tested is None:
        return {"p": None, "d": None, DETECTABLE: None}
    return {"p": tested.p_or_reason, "d": tested.effect_size, DETECTABLE: tested.detectable}


def _pairs_table(comparison: Comparison) -> Table:
    columns = [Column("better"), Column("other"), Column("metric"), Column("better - other", "+.4f"), Column("p", "p")]
    columns += [Column("p uncorrected", "p"), Column("d", "+.2f"), Column(DETECTABLE, ".4f")]
    rows = [
        test_values(pair)
        | {
            "better": comparison.rows[pair.a].variant,
            "other": comparison.rows[pair.b].variant,
            "metric": f"{pair.metric}@{comparison.cutoff}",
            "better - other": pair.spread,
            "p uncorrected": pair.p_value,
        }
        | ({} if pair.metric == comparison.deciding else {"p": None})
        for pair in comparison.pairs
    ]
    return Table(columns, rows)


def evaluation_line(e: dict[str, Any]) -> str:
    return (
        f"{e.get('dataset')}: {e.get('test_targets')} test targets, split {e.get('split')}, full ranking, "
        f"exclude_seen {e.get('exclude_seen')}, ties {e.get('ties')}, cold targets {e.get('cold_targets')}"
    )


def untested_text(pairs: Sequence[Pair]) -> str:
    """Why none of `pairs` was tested."""
    reasons = sorted({pair.untested for pair in pairs if pair.untested})
    if reasons == [ONE_SEED]:
        return "one seed each: not tested over seeds"
    return f"not tested: {', '.join(reasons)}" if reasons else "not tested"


def _legend(comparison: Comparison) -> list[str]:
    method, reference = comparison.method, comparison.rows[comparison.reference].variant
    level, name = f"{100 * (1 - method.alpha):g} %", f"{comparison.deciding}@{comparison.cutoff}"
    column = (
        f"vs baseline: minus {reference}" if comparison.has_baseline else f"behind best: {reference} minus this row"
    )
    automatic = [row.variant for row in comparison.rows if row.is_automatic]
    tested = [pair for pair in comparison.pairs if not math.isnan(pair.p_corrected)]
    lines = [
        evaluation_line(comparison.evaluation),
        f"[low, high] of a row: {level} interval over users ({INTERVALS[method.interval]}) of these trained models; "
        "sd: over seeds; seconds: until the fit ended, with validation",
    ]
    if tested:
        lines.append(
            f"{column}, in {name}; interval and p over users and seeds (t, Welch-Satterthwaite, degrees of freedom at "
            f"most the seeds'), Holm-corrected over {len(tested)} pair{'s' if len(tested) > 1 else ''} in {name}; d: "
            f"Cohen's d over users; {DETECTABLE}: the minimum detectable effect"
        )
    elif comparison.pairs:
        lines.append(f"{column}, in {name}; {untested_text(comparison.pairs)}; d: Cohen's d over users")
    if any(comparison.is_significantly_best(i) for i in range(len(comparison.rows))):
        lines.append(f"bold: significantly better in {name} than every other row")
    if automatic:
        lines.append(
            f"untrained baselines take part in every comparison: {', '.join(automatic)}; the best of them, "
            f"{automatic[0]}, is {'tested' if tested else 'compared'} with each other row, the rest of them are not"
        )
    return [*lines, *comparison.notes]
