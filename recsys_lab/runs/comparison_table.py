"""A comparison as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from recsys_lab.report.layout import Cells, csv_text, latex, markdown, prose, text
from recsys_lab.runs.comparison import Comparison, Row
from recsys_lab.statistics.pairs import ONE_SEED, Difference, Pair

FORMATS = ("text", "markdown", "latex", "csv", "json")
INTERVALS = {"t": "t", "bca": "BCa bootstrap", "percentile": "percentile bootstrap"}
LEFT = ("variant", "model", "loss", "trained on", "stopped by", "better", "other", "metric")
DETECTABLE = "MDE (80 % power)"
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
    tables = [[_cells(row, comparison, format) for row in comparison.rows]]
    legend = _legend(comparison)
    if pairs and comparison.pairs:
        tables.append([_pair_cells(pair, comparison) for pair in comparison.pairs])
        legend.insert(
            len(legend) - len(comparison.notes),
            f"p: corrected, of {comparison.deciding} alone; other metrics have uncorrected intervals and decide "
            "nothing. better: in the deciding metric",
        )
    return layout(tables, legend, format)


def layout(tables: list[list[Cells]], legend: list[str], format: str) -> str:
    """Tables of cells and the lines below them, as text, Markdown or LaTeX."""
    if format == "latex":
        shown = [latex([{k: v for k, v in c.items() if k not in NOT_IN_LATEX} for c in t], LEFT) for t in tables]
        return "\n".join([*(f"% {line}" for line in legend), "\n\n".join(shown)])
    if format == "markdown":
        return "\n".join(["\n\n".join(markdown(table) for table in tables), "", *(prose(line) for line in legend)])
    return "\n".join(["\n\n".join(text(table, LEFT) for table in tables), "", *legend])


def as_json(found: Any) -> str:
    """JSON without NaN, which JSON does not have."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(found), indent=2, default=str)


def as_csv(records: list[dict[str, Any]]) -> str:
    if not records:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_text(value) for name, value in row.items()} for row in records)
    return out.getvalue().rstrip("\n")


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


def mean_cell(mean: float, low: float, high: float, deviation: float | None) -> str:
    shown = f"{mean:.4f}" if math.isnan(low) else f"{mean:.4f} [{low:.4f}, {high:.4f}]"
    return shown if deviation is None else f"{shown} (sd {deviation:.4f})"


def p_text(value: float, untested: str = "") -> str:
    """Of a p value; of one that there is not, why."""
    return (untested or "-") if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def number(value: float | None, format: str = ".4f") -> str:
    return "-" if value is None or math.isnan(value) else f"{value:{format}}"


def difference_text(tested: Difference) -> str:
    """With its interval, where it was tested."""
    shown = f"{tested.difference:+.4f}"
    return shown if math.isnan(tested.low) else f"{shown} [{tested.low:+.4f}, {tested.high:+.4f}]"


def _cells(row: Row, comparison: Comparison, format: str) -> Cells:
    cells = {"variant": row.variant, "model": row.texts_of("model"), "loss": row.texts_of("loss")}
    if len(row.runs) > 1:
        cells["loss"] += f" ({len(row.runs)} seeds)"
    if any(one.trained_on for one in comparison.rows):
        cells["trained on"] = row.trained_on or "-"
    place = comparison.rows.index(row)
    for name in comparison.metrics:
        shown = mean_cell(row.estimates[name].mean, *row.intervals[name], row.seed_deviation[name])
        bold = format != "text" and name == comparison.deciding and comparison.is_significantly_best(place)
        cells[f"{name}@{comparison.cutoff}"] = f"**{shown}**" if bold else shown
    pair = row.against.get(comparison.deciding)
    if comparison.has_baseline:
        cells["vs baseline"] = difference_text(pair) if pair else "-"
    else:
        cells["behind best"] = difference_text(pair.turned()) if pair else "-"
    cells["p"] = p_text(pair.p_corrected, pair.untested) if pair else "-"
    cells["d"] = number(pair.effect_size, "+.2f") if pair else "-"
    cells[DETECTABLE] = number(pair.detectable) if pair else "-"
    for title, name in (("parameters", "parameters"), ("seconds", "train_seconds"), ("tokens/s", "tokens_per_second")):
        value = row.mean_of(name)
        cells[title] = f"{value:,.0f}" if value is not None else "-"
    cells["stopped by"] = row.texts_of("stopped_by")
    return cells


def _pair_cells(pair: Pair, comparison: Comparison) -> Cells:
    is_deciding = pair.metric == comparison.deciding
    return {
        "better": comparison.rows[pair.a].variant,
        "other": comparison.rows[pair.b].variant,
        "metric": f"{pair.metric}@{comparison.cutoff}",
        "better - other": difference_text(pair),
        "p": p_text(pair.p_corrected, pair.untested) if is_deciding else "-",
        "p uncorrected": p_text(pair.p_value),
        "d": number(pair.effect_size, "+.2f"),
        DETECTABLE: number(pair.detectable),
    }


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
