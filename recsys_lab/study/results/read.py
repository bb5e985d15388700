"""From a plan to its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recsys_lab.study.compare import METRICS
from recsys_lab.study.pairs import Method
from recsys_lab.study.plan import Plan
from recsys_lab.study.results.study_results import StudyResults
from recsys_lab.study.runs import Run

Automatic = Callable[[Sequence[Run]], tuple[list[Run], list[str]]]
"""The runs of one block -> counted baselines on the same targets, and a line for each that could not be had."""


def read_results(
    plan: Plan,
    automatic: Automatic | None = None,
    method: Method | None = None,
    cutoff: int | None = None,
    metrics: Sequence[str] = METRICS,
) -> StudyResults:
    """Reads every finished run of a plan once and compares what is comparable.

    Args:
        plan: of `make_plan`.
        automatic: gives the counted baselines of a block; None leaves them out.
        method: of intervals and tests.
        cutoff: K of the metrics; None = that of the study's `select`.
        metrics: which are shown, and so corrected for.

    Raises:
        RecsysLabError: when no run is finished.
    """
    raise NotImplementedError
