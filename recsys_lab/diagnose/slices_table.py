"""Slices as text, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from recsys_lab.diagnose.slice_values import FEW_USERS, Slice, Sliced
from recsys_lab.report.escapes import as_csv, as_json
from recsys_lab.report.table import Cell, Column, Table, document
from recsys_lab.runs.comparison_table import FORMATS, INTERVALS, evaluation_line, untested_text

__all__ = ["FORMATS", "render_slices"]


def render_slices(sliced: Sliced, format: str = "text") -> str:
    """`sliced` in one of `FORMATS`. CSV and JSON have full precision; CSV one line per slice and variant."""
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
    return document([_table(sliced)], _legend(sliced), format)


def _plain(one: Slice) -> dict[str, Any]:
    return asdict(one) | {"is_small": one.is_small}


def _records(one: Slice, sliced: Sliced) -> list[dict[str, Any]]:
    shared = {
        "by": one.dimension,
        "slice": one.name,
        "targets": one.targets,
        "users": one.users,
        "share_of_targets": one.share_of_targets,
        "is_small": one.is_small,
    }
    name = f"{sliced.metric}@{sliced.cutoff}"
    records = []
    for place, part in enumerate(one.parts):
        record = shared | {"variant": part.variant, name: part.mean, f"{name}_low": part.low, f"{name}_high": part.high}
        record["share_of_metric"] = part.share_of_metric
        if len(one.parts) == 2:
            pair = one.pair if one.pair is not None and place == one.pair.a else None
            record["minus_other"] = pair.difference if pair else None
            record["minus_other_low"], record["minus_other_high"] = (pair.low, pair.high) if pair else (None, None)
            record["p_value"], record["p_holm"] = (pair.p_value, pair.p_corrected) if pair else (None, None)
        records.append(record)
    return records


def _table(sliced: Sliced) -> Table:
    variants, metric = sliced.variants, f"{sliced.metric}@{sliced.cutoff}"
    titles = {metric: "of it"} if len(variants) == 1 else {}
    for number, variant in enumerate(variants, start=1):
        if len(variants) > 1:  # the same variant may be there twice: of two studies, or with two losses
            title = f"{variant} ({number})" if variants.count(variant) > 1 else variant
            titles[title] = f"of {title}"
    columns = [Column("by"), Column("slice"), Column("targets", ","), Column("share", ".1%")]
    columns += [column for title, of in titles.items() for column in (Column(title, ".4f"), Column(of, ".1%"))]
    columns += [Column("difference", "+.4f"), Column("p", "p")] * (sliced.overall.pair is not None)
    return Table(columns, [_values(one, titles) for one in (sliced.overall, *sliced.slices)])


def _values(one: Slice, titles: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"by": one.dimension, "slice": one.name, "share": one.share_of_targets}
    row["targets"] = Cell(f"{one.targets:,}*") if one.is_small else one.targets
    for (title, of), part in zip(titles.items(), one.parts, strict=True):
        row |= {title: (part.mean, part.low, part.high), of: part.share_of_metric}
    if one.pair is not None:  # the overall difference is no slice: it is not among what is corrected for
        row |= {"difference": one.pair.spread, "p": one.pair.p_or_reason}
    return row


def _legend(sliced: Sliced) -> list[str]:
    method, count = sliced.method, len(sliced.slices)
    level = f"{100 * (1 - method.alpha):g} %"
    lines = [
        evaluation_line(sliced.evaluation),
        f"{sliced.metric}@{sliced.cutoff} [low, high]: mean over the slice's targets, {level} interval over users "
        f"({INTERVALS[method.interval]}); of: the share of the overall metric that the slice brings",
    ]
    if sliced.overall.pair is not None:
        better, other = (sliced.variants[place] for place in (sliced.overall.pair.a, sliced.overall.pair.b))
        tests = (
            untested_text([sliced.overall.pair])
            if sliced.overall.pair.untested
            else f"interval and p over users and seeds, Holm-corrected over {count} slices (the first line, of all "
            "targets, is not corrected)"
        )
        lines.append(f"difference: {better} minus {other}; {tests}")
    if any(one.is_small for one in sliced.slices):
        lines.append(f"*: fewer than {FEW_USERS} users, too few for the interval to be relied on")
    return lines + sliced.notes
