"""Slices as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from recsys_lab.diagnose.slice_values import FEW_USERS, Slice, Sliced
from recsys_lab.report.escapes import as_csv, as_json
from recsys_lab.report.shown_columns import ALL, Shown
from recsys_lab.report.table import Column, Table, document
from recsys_lab.runs.comparison_table import FORMATS, INTERVALS, evaluation_line, untested_text
from recsys_lab.words import number_of

__all__ = ["FORMATS", "render_slices"]

TESTED = {
    "minus_other": "difference",
    "minus_other_low": "low",
    "minus_other_high": "high",
    "p_value": "p_value",
    "p_holm": "p_corrected",
}
"""Of a difference: its name in a record of full precision -> the attribute."""


def render_slices(sliced: Sliced, format: str = "text", shown: Shown = ALL) -> str:
    """`sliced` in one of `FORMATS`. CSV and JSON have full precision; CSV one line per slice and variant. `shown`
    chooses columns, of tables that people read."""
    if format == "json":
        return as_json(
            {
                "metric": f"{sliced.metric}@{sliced.cutoff}",
                "evaluation": sliced.evaluation,
                "method": asdict(sliced.method),
                "notes": sliced.notes,
                "overall": _plain(sliced.overall),
                "slices": [_plain(one) for one in sliced.slices],
            }
        )
    if format == "csv":
        return as_csv([record for one in (sliced.overall, *sliced.slices) for record in _records(one, sliced)])
    table, left_out = shown.of(_table(sliced))
    return document([table], [*left_out, *_legend(sliced)], format, shown.width)


def _plain(one: Slice) -> dict[str, Any]:
    return asdict(one) | {"is_small": one.is_small}


def _records(one: Slice, sliced: Sliced) -> list[dict[str, Any]]:
    name, records = f"{sliced.metric}@{sliced.cutoff}", []
    for place, part in enumerate(one.parts):
        pair = one.pair if one.pair is not None and place == one.pair.a else None
        tested = {shown: getattr(pair, of, None) for shown, of in TESTED.items()} if len(one.parts) == 2 else {}
        records.append(
            {
                "by": one.dimension,
                "slice": one.name,
                "targets": one.targets,
                "users": one.users,
                "share_of_targets": one.share_of_targets,
                "is_small": one.is_small,
                "variant": part.variant,
                name: part.mean,
                f"{name}_low": part.low,
                f"{name}_high": part.high,
                "share_of_metric": part.share_of_metric,
                **tested,
            }
        )
    return records


def _table(sliced: Sliced) -> Table:
    def part(name: str, place: int) -> Callable[[Slice], Any]:
        return lambda one: getattr(one.parts[place], name)

    columns = [
        Column("by", value=lambda one: one.dimension),
        Column("slice", value=lambda one: one.name + "*" * one.is_small),
        Column("targets", ",", spare=1),
        Column("share", ".1%", value=lambda one: one.share_of_targets, spare=4),
    ]
    variants = sliced.variants
    for place, variant in enumerate(variants):
        # the same variant may be there twice: of two studies, or with two losses
        title = f"{variant} ({place + 1})" if variants.count(variant) > 1 else variant
        title, of = (title, f"of {title}") if len(variants) > 1 else (f"{sliced.metric}@{sliced.cutoff}", "of it")
        columns.append(Column(title, ".4f", value=part("spread", place), spare=2 * (place > 1)))
        columns.append(Column(of, ".1%", value=part("share_of_metric", place), spare=3))
    if sliced.overall.pair is not None:  # the overall difference is no slice: it is not among what is corrected for
        columns.append(Column("difference", "+.4f", value=lambda one: one.pair and one.pair.spread, spare=2))
        columns.append(Column("p", "p", value=lambda one: one.pair and one.pair.p_or_reason, spare=2))
    return Table(columns, (sliced.overall, *sliced.slices))


def _legend(sliced: Sliced) -> list[str]:
    method, count = sliced.method, len(sliced.slices)
    lines = [
        evaluation_line(sliced.evaluation),
        f"{sliced.metric}@{sliced.cutoff} [low, high]: mean over the slice's targets, {method.level} interval over "
        f"users ({INTERVALS[method.interval]}); of: the share of the overall metric that the slice brings",
    ]
    if sliced.overall.pair is not None:
        better, other = (sliced.variants[place] for place in (sliced.overall.pair.a, sliced.overall.pair.b))
        tests = (
            untested_text([sliced.overall.pair])
            if sliced.overall.pair.untested
            else f"interval and p over users and seeds, Holm-corrected over {number_of(count, 'slice')} (the first "
            "line, of all targets, is not corrected)"
        )
        lines.append(f"difference: {better} minus {other}; {tests}")
    if any(one.is_small for one in sliced.slices):
        lines.append(f"*: fewer than {FEW_USERS} users, too few for the interval to be relied on")
    return lines + sliced.notes
