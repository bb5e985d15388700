"""A comparison as text, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from recsys_lab.study.compare import DECIDING, METRICS, Comparison, Row

FORMATS = ("text", "markdown", "csv", "json")


def render(comparison: Comparison, format: str = "text") -> str:
    """`comparison` in one of `FORMATS`."""
    if format in ("csv", "json"):
        records = [record(row, comparison.cutoff) for row in comparison.rows]
        if format == "json":
            plain = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in r.items()} for r in records]
            return json.dumps(
                {"evaluation": comparison.evaluation, "notes": comparison.notes, "rows": plain}, indent=2, default=str
            )
        out = io.StringIO()
        writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue().rstrip("\n")
    cells = [_cells(row, comparison.cutoff) for row in comparison.rows]
    table = _markdown(cells) if format == "markdown" else _text(cells)
    return "\n".join([table, "", *_legend(comparison)])


def record(row: Row, cutoff: int) -> dict[str, Any]:
    """One row with full precision."""
    found: dict[str, Any] = {
        "variant": row.variant,
        "model": row.texts_of("model"),
        "loss": row.texts_of("loss"),
        "seeds": len(row.runs),
    }
    for name in METRICS:
        found[f"{name}@{cutoff}"] = row.estimates[name].mean
        found[f"{name}@{cutoff}_half_width"] = row.estimates[name].half_width()
        found[f"{name}@{cutoff}_seed_deviation"] = row.seed_deviation[name]
    test = row.against_best
    found |= {
        f"{DECIDING}@{cutoff}_minus_best": test.difference if test else None,
        "p_holm": row.p_corrected if test else None,
        "effect_size": test.effect_size if test else None,
        "parameters": row.mean_of("parameters"),
        "train_seconds": row.mean_of("train_seconds"),
        "tokens_per_second": row.mean_of("tokens_per_second"),
        "stopped_by": row.texts_of("stopped_by"),
        "folders": " ".join(str(run.folder) for run in row.runs),
    }
    return found


def _cells(row: Row, cutoff: int) -> dict[str, str]:
    test = row.against_best
    cells = {"variant": row.variant, "model": row.texts_of("model"), "loss": row.texts_of("loss")}
    if len(row.runs) > 1:
        cells["loss"] += f" ({len(row.runs)} seeds)"
    for name in METRICS:
        found, deviation = row.estimates[name], row.seed_deviation[name]
        cells[f"{name}@{cutoff}"] = f"{found.mean:.4f} ±{found.half_width():.4f}"
        if deviation is not None:
            cells[f"{name}@{cutoff}"] += f" (sd {deviation:.4f})"
    cells["vs best"] = f"{test.difference:+.4f}" if test else "-"
    cells["p"] = ("<0.001" if row.p_corrected < 0.001 else f"{row.p_corrected:.3f}") if test else "-"
    cells["d"] = f"{test.effect_size:+.2f}" if test else "-"
    for title, name in (("parameters", "parameters"), ("seconds", "train_seconds"), ("tokens/s", "tokens_per_second")):
        value = row.mean_of(name)
        cells[title] = f"{value:,.0f}" if value is not None else "-"
    cells["stopped by"] = row.texts_of("stopped_by")
    return cells


def _legend(comparison: Comparison) -> list[str]:
    e = comparison.evaluation
    return [
        f"{e.get('dataset')}: {e.get('test_targets')} test targets, split {e.get('split')}, full ranking, "
        f"exclude_seen {e.get('exclude_seen')}, ties {e.get('ties')}, cold targets {e.get('cold_targets')}",
        f"±: 95 % interval over users; vs best, p, d: {DECIDING}@{comparison.cutoff} against the first row, paired "
        "t-test over users, Holm-corrected, effect size; seconds: until the fit ended, validation included",
        *comparison.notes,
    ]


def _text(cells: list[dict[str, str]]) -> str:
    titles = list(cells[0])
    widths = {t: max(len(t), *(len(c[t]) for c in cells)) for t in titles}
    left = ("variant", "model", "loss", "stopped by")

    def line(values: dict[str, str]) -> str:
        parts = [values[t].ljust(widths[t]) if t in left else values[t].rjust(widths[t]) for t in titles]
        return "  ".join(parts).rstrip()

    return "\n".join([line({t: t for t in titles}), *(line(c) for c in cells)])


def _markdown(cells: list[dict[str, str]]) -> str:
    titles = list(cells[0])
    rows = [titles, ["---"] * len(titles), *([c[t] for t in titles] for c in cells)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
