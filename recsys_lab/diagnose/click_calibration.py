"""Are the probabilities of clicks as large as what then happens, and where: by position and by length of the history?
From outcomes.parquet alone: nothing is opened or scored again."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.contracts import UnitMetric
from recsys_lab.diagnose.outcome_calibration import about, bins_figure, calibration_page, direction, with_interval
from recsys_lab.diagnose.slice_values import HISTORY_BINS, history_length
from recsys_lab.evaluation.outcomes import mean_of
from recsys_lab.ops import click_metrics
from recsys_lab.report.page import Page
from recsys_lab.report.shown_columns import ALL, Shown, fitted
from recsys_lab.report.table import Column, Table, show
from recsys_lab.runs.finished import Run
from recsys_lab.runs.measured import MeasuredRun, of_weight_one
from recsys_lab.words import RecsysLabError, number_of

FOOT = (
    "A dot is a bin of shown items, equally many in each: to the right, how likely the model called a click; up, how "
    "many were clicked. On the dashed line the two agree. Every number is in calibration.json beside this page."
)
MOST_PLACES = 10
"""Positions that are slices of their own; the rest is one."""


def is_of_clicks(run: Run) -> bool:
    return isinstance(run, MeasuredRun) and {"probability", "place"} <= set(run.ranks.columns)


def click_calibration(run: Run, num_bins: int = 15) -> dict[str, Any]:
    """What calibration.json holds of a run of ClickThrough.

    Raises:
        RecsysLabError: for a run of another task.
    """
    if not is_of_clicks(run):
        raise RecsysLabError(f"{run.folder}: calibration of clicks needs a run of ClickThrough that was tested")
    frame = run.ranks
    outcome = {name: frame[name].to_numpy() for name in frame.columns if name != "user_id"}
    outcome["user"] = frame["user_id"].rank("dense").to_numpy()
    place = np.minimum(outcome["place"], MOST_PLACES + 1)
    names = [str(number) for number in range(1, MOST_PLACES + 1)] + [f"{MOST_PLACES + 1}+"]
    cuts = {"position": (names, place - 1), "history_length": history_length(frame, HISTORY_BINS)}
    slices = [
        {"slice": dimension, "name": name} | _numbers(_part(outcome, code == number), num_bins)
        for dimension, (listed, code) in cuts.items()
        for number, name in enumerate(listed)
        if (code == number).any()
    ]
    found = click_metrics.reliability(outcome["label"], outcome["probability"], outcome.get("weight"), num_bins)
    return about(run) | {
        "test": _numbers(outcome, num_bins),
        "bins": {name: getattr(found, name).tolist() for name in ("predicted", "observed", "count")},
        "slices": slices,
    }


def _part(outcome: dict[str, np.ndarray], keep: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[keep] for name, column in outcome.items()}


def _numbers(outcome: dict[str, np.ndarray], bins: int) -> dict[str, Any]:
    """Means over these shown items; intervals of the log-loss and of what was clicked less what was predicted, over
    users."""
    label, p, weight = outcome["label"], outcome["probability"], outcome.get("weight")
    loss = click_metrics.log_loss(label, p, weight)
    return {
        "shown": len(label),
        "users": len(np.unique(outcome["user"])),
        "click_rate": mean_of(UnitMetric(label.astype(np.float64), weight)),
        "mean_probability": mean_of(UnitMetric(p, weight)),
        "clicked_less_predicted": _with_interval(UnitMetric(label - p, weight), outcome["user"]),
        "log_loss": _with_interval(loss, outcome["user"]),
        "auc": mean_of(click_metrics.auc(label, p, weight)),
        "calibration_error": click_metrics.reliability(label, p, weight, bins).error,
    }


def _with_interval(metric: UnitMetric, user: np.ndarray) -> list[float]:
    """Mean, low and high of its 95 % interval over users."""
    weight = np.ones(len(metric.value)) if metric.weight is None else metric.weight.astype(np.float64)
    return with_interval(of_weight_one(metric.value, weight), user)


def click_text(found: dict[str, Any], shown: Shown = ALL) -> str:
    """For the terminal. `found`: of `click_calibration`."""
    return "\n".join([*click_said(found), "", fitted(_slices(found), shown)])


def click_said(found: dict[str, Any]) -> list[str]:
    """The answer, and what is behind it."""
    test = found["test"]
    gap, low, high = test["clicked_less_predicted"]
    how = direction(test["clicked_less_predicted"])
    return [
        f"{how}: {show(test['mean_probability'], '.2%')} were predicted and {show(test['click_rate'], '.2%')} of "
        f"{number_of(test['shown'], 'shown item')} clicked.",
        f"Clicked less predicted is {gap:+.4f} [{low:+.4f}, {high:+.4f}]; the calibration error is "
        f"{test['calibration_error']:.4f}.",
    ]


def _slices(found: dict[str, Any]) -> Table:
    rows = [{"slice": "all", "name": "all"} | found["test"], *found["slices"]]
    columns = [
        Column("slice"),
        Column("name"),
        Column("shown", ",.0f"),
        Column("users", ",.0f", spare=3),
        Column("clicked", ".2%", value=lambda row: row["click_rate"]),
        Column("predicted", ".2%", value=lambda row: row["mean_probability"]),
        Column("clicked - predicted", "+.4f", value=lambda row: tuple(row["clicked_less_predicted"])),
        Column("log_loss", ".4f", value=lambda row: tuple(row["log_loss"]), spare=1),
        Column("auc", ".4f"),
        Column("calibration error", ".4f", value=lambda row: row["calibration_error"], spare=2),
    ]
    return Table(columns, rows, "By position and length of the history")


def click_page(found: dict[str, Any]) -> Page:
    """The page: it holds no script. `found`: of `click_calibration`."""
    bins = found["bins"]
    what = [
        f"{c:,.0f} shown items: {p:.2%} predicted, {o:.2%} clicked"
        for p, o, c in zip(bins["predicted"], bins["observed"], bins["count"], strict=True)
    ]
    top = max(*bins["predicted"], *bins["observed"]) * 1.05
    note = f"Calibration error {found['test']['calibration_error']:.4f} in {number_of(len(what), 'bin')} of equal mass."
    figure = bins_figure(found, what, ("predicted", "clicked"), top, "Bins of equal mass", note)
    return calibration_page(found, click_said(found), figure, _slices(found), FOOT)
