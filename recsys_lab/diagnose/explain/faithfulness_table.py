"""The rows of `diagnose faithfulness`: one for each method, its difference to random order, tested by the one rule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from recsys_lab.diagnose.explain.explained_text import TITLES
from recsys_lab.diagnose.explain.faithfulness import CURVES, Faithfulness
from recsys_lab.report.escapes import prose
from recsys_lab.report.table import Column, Table, markdown, text
from recsys_lab.report.terminal import wrapped
from recsys_lab.statistics.pairs import Difference, Method, Sample, Seeds, correct
from recsys_lab.statistics.rule import estimate
from recsys_lab.words import number_of

ALIKE = 0.5
"""Rank correlation from which an explanation says more of the encoder's form than of what it learned."""


def rows_of(seeds: Sequence[Faithfulness], user: np.ndarray, method: Method | None = None) -> list[dict[str, Any]]:
    """Faithfulness of the same lists by the seeds of one system -> one row for each method.

    Of one seed the difference is tested over users alone: it is said of that trained model. With more the variance over
    seeds is added, as in `compare`.

    Args:
        seeds: of each run. user: (N,) whose lists they are.
    """
    method = method or Method(interval="t")
    names = [name for name in seeds[0].curves if not np.isnan(seeds[0].curves[name]).any()]
    by_seed = np.stack([[one.curves[name].T for name in names] for one in seeds]) if names else np.zeros((1, 0, 2, 0))
    tested: dict[str, list[Difference]] = {}
    if names:
        values = by_seed.mean(axis=0)  # (methods, 2, N)
        means = by_seed.mean(axis=3)  # (S, methods, 2)
        spread = means.var(axis=0, ddof=1) / len(seeds) if len(seeds) > 1 else np.zeros(means.shape[1:])
        known = [Seeds(len(seeds) if len(seeds) > 1 else 0, spread[row]) for row in range(len(names))]
        zero = Seeds(0, np.zeros(len(CURVES)))
        sample = Sample(np.concatenate([values, np.zeros_like(values[:1])]), user, CURVES, method, [*known, zero])
        tested = {name: list(sample.pairs(row, len(names))) for row, name in enumerate(names)}
        correct([one for of in tested.values() for one in of], method.alpha, *CURVES)
    rows = []
    for name in seeds[0].curves:
        row: dict[str, Any] = {"method": name, "note": seeds[0].notes[name], "seeds": len(seeds)}
        for one in tested.get(name, []):
            row[one.metric] = [one.difference, one.low, one.high]
            row[f"{one.metric}_p"] = one.p_corrected
        alike = np.stack([one.likeness[name] for one in seeds])
        of_list = np.array([of[~np.isnan(of)].mean() if (~np.isnan(of)).any() else np.nan for of in alike.T])
        is_known = ~np.isnan(of_list)
        if is_known.any():
            found = estimate(of_list[is_known], user[is_known])
            half = found.half_width()
            row["likeness"] = [found.mean, found.mean - half, found.mean + half]
        rows.append(row)
    return rows


def faithfulness_table(rows: Sequence[dict[str, Any]], is_narrow: bool = False) -> Table:
    """is_narrow: for a terminal: two decimals, and no interval of what shuffled weights say."""
    form = "+.2f" if is_narrow else "+.3f"
    columns = [Column("method", value=lambda row: TITLES[row["method"]])]
    for name in CURVES:
        columns.append(Column(name, form, value=partial(_interval, name)))
        columns.append(Column("p", "p", value=partial(_value, f"{name}_p")))
    if is_narrow:
        columns.append(Column("shuffled", "+.2f", value=lambda row: row.get("likeness", [None])[0]))
    else:
        columns.append(Column("shuffled weights", "+.2f", value=partial(_interval, "likeness")))
    return Table(columns, rows)


def as_text(found: dict[str, Any], width: int = 80) -> str:
    """`found`: what faithfulness.json holds."""
    title = f"{found['model']} on {found['dataset']}: {number_of(found['lists'], 'list')} explained, the first item"
    table = text(faithfulness_table(found["rows"], is_narrow=True), width=width)
    return "\n".join([wrapped(title, width), "", table, "", wrapped("\n".join(sentences(found)), width)])


def as_markdown(found: dict[str, Any]) -> str:
    said = [f"* {prose(line)}" for line in sentences(found)]
    title = (
        f"# Explanations of {prose(found['model'])} on {prose(found['dataset'])}: {number_of(found['lists'], 'list')}"
    )
    return "\n".join([title, "", markdown(faithfulness_table(found["rows"])), "", *said]) + "\n"


def sentences(found: dict[str, Any]) -> list[str]:
    lines = []
    for row in found["rows"]:
        title = TITLES[row["method"]]
        if "deletion" not in row:
            lines.append(f"{title}: none: {row['note'] or 'not of every list'}.")
            continue
        bad = [name for name in CURVES if not (row[f"{name}_p"] < found["alpha"] and row[name][0] > 0)]
        if any(np.isnan(row[f"{name}_p"]) for name in CURVES):
            lines.append(f"{title}: not tested: too few users. --lists asks for more.")
            continue
        if bad:
            lines.append(f"{title}: not better than random order in {' and '.join(bad)}: not shown to be faithful.")
        if row.get("likeness", [0])[0] > ALIKE:
            lines.append(f"{title}: much the same with shuffled weights: it says little of what was learned.")
    if found["largest_gap"] is not None:
        lines.append(f"gradients: the sum misses the difference by {found['largest_gap']:.2g} nats at most.")
    return [
        *lines,
        "deletion, insertion: nats gained over random order, mean over the curve [95 % interval over users"
        + (" and seeds" if found["seeds"] > 1 else "")
        + "]; p is Holm-corrected.",
        "shuffled: rank correlation with the explanation of the same list by shuffled weights; 0 is good.",
    ]


def _value(name: str, row: dict[str, Any]) -> Any:
    return row.get(name)


def _interval(name: str, row: dict[str, Any]) -> Any:
    return tuple(row[name]) if name in row else None
