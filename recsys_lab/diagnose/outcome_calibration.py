"""What the pages of calibration from an outcome share: of clicks and of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_lab.report.figure import Figure, data_of
from recsys_lab.report.page import Card, Page, Section
from recsys_lab.report.table import Table
from recsys_lab.runs.finished import Run
from recsys_lab.statistics.rule import estimate


def about(run: Run) -> dict[str, Any]:
    """`run` and `evaluation` of calibration.json: whose probabilities they are, and of which targets."""
    return {
        "run": {name: run.manifest.get(name) for name in ("study", "variant", "seed", "model")},
        "evaluation": {name: run.evaluation.get(name) for name in ("dataset", "split", "task")},
    }


def with_interval(value: np.ndarray, user: np.ndarray) -> list[float]:
    """Mean, low and high of its 95 % interval over users. value, user: (N,) of each unit."""
    found = estimate(value, user)
    half = found.half_width()
    return [found.mean, found.mean - half, found.mean + half]


def direction(gap: Sequence[float]) -> str:
    """How an answer begins. gap: what came true less what was predicted, and the ends of its interval."""
    middle, low, high = gap
    if low <= 0 <= high:
        return "Yes, on average"
    return f"No, they are too {'low' if middle > 0 else 'high'} on average"


def calibration_page(found: dict[str, Any], said: Sequence[str], figure: Figure, slices: Table, foot: str) -> Page:
    """The page: it holds no script. found: what calibration.json holds. said: the answer, and what is behind it."""
    run, evaluation = found["run"], found["evaluation"]
    return Page(
        "Calibration of",
        f"{run['study']}/{run['variant']}, seed {run['seed']}",
        "Do its probabilities come true?",
        said[0],
        [
            Section("reliability", "Reliability", [Card(figures=[figure])]),
            Section("slices", "Where", [Card(tables_first=[slices])]),
        ],
        foot,
        findings=said[1:],
        protocol=f"{run['model']} · {evaluation['dataset']}, {evaluation['split']}, {evaluation['task']}",
    )


def bins_figure(
    found: dict[str, Any], what: Sequence[str], titles: tuple[str, str], top: float, kind: str, note: str
) -> Figure:
    """The bins as dots beside the diagonal.

    Args:
        found: what calibration.json holds.
        what: of each bin, what a pointer that rests on it is told.
        titles: of the axes: what was predicted, what came true.
        top: where both axes end.
        kind: of the bins, such as `Bins of equal mass`.
        note: below the figure.
    """
    import altair as alt

    bins = found["bins"]
    rows = [
        {"predicted": p, "observed": o, "what": told}
        for p, o, told in zip(bins["predicted"], bins["observed"], what, strict=True)
    ]
    ideal = alt.Chart(data_of([{"predicted": 0, "observed": 0}, {"predicted": top, "observed": top}]))
    axis, scale = alt.Axis(format="~%"), alt.Scale(domain=[0, top])
    x = alt.X("predicted:Q", title=titles[0], axis=axis, scale=scale)
    y = alt.Y("observed:Q", title=titles[1], axis=axis, scale=scale)
    base = alt.Chart().encode(x=x, y=y)
    chart = alt.layer(
        ideal.mark_line(style="faint", strokeDash=[5, 4]).encode(x=x, y=y),
        base.mark_line(strokeWidth=1.8),
        base.mark_point(filled=True, opacity=1, size=60).encode(description=alt.Description("what:N")),
        data=data_of(rows),
    ).properties(height=300)
    return Figure("reliability", kind, chart, f"Reliability of {found['run']['variant']}", note)
