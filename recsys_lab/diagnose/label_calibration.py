"""Are the probabilities of labels as large as what then happens, and where: by label and by length of the history? From
outcomes.parquet alone: nothing is opened or scored again."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.diagnose.outcome_calibration import about, bins_figure, calibration_page, direction, with_interval
from recsys_lab.diagnose.slice_values import HISTORY_BINS, history_length
from recsys_lab.models.tasks.sequence_labels import class_values
from recsys_lab.ops.label_metrics import log_softmax, reliability
from recsys_lab.report.page import Page
from recsys_lab.report.shown_columns import ALL, Shown, fitted
from recsys_lab.report.table import Column, Table, show
from recsys_lab.runs.finished import Run
from recsys_lab.runs.measured import MeasuredRun
from recsys_lab.words import number_of

FOOT = (
    "A dot is a bin of events: to the right, how likely the model called its first label; up, how often that was the "
    "label. On the dashed line the two agree. Every number is in calibration.json beside this page."
)


def is_of_classes(run: Run) -> bool:
    """A run of SequenceLabels with classes."""
    return isinstance(run, MeasuredRun) and "log_loss" in run.metric_names and "output" in run.ranks.columns


def label_calibration(run: Run, num_bins: int = 15) -> dict[str, Any]:
    """What calibration.json holds."""
    frame = run.ranks.filter(run.ranks["label"] >= 0)
    logits, label = frame["output"].to_numpy(), frame["label"].to_numpy()
    user = frame["user_id"].rank("dense").to_numpy()
    confidence, correct = np.exp(log_softmax(logits).max(axis=1)), logits.argmax(axis=1) == label
    names = run.evaluation["task_settings"].get("values") or [str(c) for c in range(logits.shape[1])]
    cuts = {"label": (names, label), "history_length": history_length(frame, HISTORY_BINS)}
    bins = reliability(confidence, correct, num_bins)
    return about(run) | {
        "test": _numbers(logits, label, user, num_bins),
        "error": bins["error"],
        "bins": {name: bins[name].tolist() for name in ("predicted", "observed", "count")},
        "slices": [
            {"slice": dimension, "name": name} | _numbers(logits[of], label[of], user[of], num_bins)
            for dimension, (listed, code) in cuts.items()
            for number, name in enumerate(listed)
            if (of := np.asarray(code) == number).any()
        ],
    }


def _numbers(logits: np.ndarray, label: np.ndarray, user: np.ndarray, bins: int) -> dict[str, Any]:
    """Means over these events, and their intervals over users."""
    values = class_values(logits, label, np.ones(len(label)))
    confidence = np.exp(log_softmax(logits).max(axis=1))
    correct = values["accuracy"]
    return {
        "events": len(label),
        "users": len(np.unique(user)),
        "confidence": float(confidence.mean()),
        "accuracy": with_interval(correct, user),
        "accuracy_less_confidence": with_interval(correct - confidence, user),
        "log_loss": with_interval(values["log_loss"], user),
        "calibration_error": reliability(confidence, correct > 0, bins)["error"],
    }


def label_text(found: dict[str, Any], shown: Shown = ALL) -> str:
    """For the terminal. `found`: of `label_calibration`."""
    return "\n".join([*said(found), "", fitted(_slices(found), shown)])


def said(found: dict[str, Any]) -> list[str]:
    """The answer, and what is behind it."""
    test = found["test"]
    gap, low, high = test["accuracy_less_confidence"]
    how = direction(test["accuracy_less_confidence"])
    return [
        f"{how}: the first label is called {show(test['confidence'], '.2%')} likely, and "
        f"{show(test['accuracy'][0], '.2%')} of {number_of(test['events'], 'event')} have it.",
        f"The difference is {gap:+.4f} [{low:+.4f}, {high:+.4f}]; the calibration error is {found['error']:.4f}.",
    ]


def _slices(found: dict[str, Any]) -> Table:
    rows = [{"slice": "all", "name": "all"} | found["test"], *found["slices"]]
    columns = [
        Column("slice"),
        Column("name"),
        Column("events", ",.0f"),
        Column("users", ",.0f", spare=3),
        Column("confidence", ".2%"),
        Column("accuracy", ".4f", value=lambda row: tuple(row["accuracy"])),
        Column("log_loss", ".4f", value=lambda row: tuple(row["log_loss"]), spare=1),
        Column("calibration error", ".4f", value=lambda row: row["calibration_error"], spare=2),
    ]
    return Table(columns, rows, "By label and length of the history")


def label_page(found: dict[str, Any]) -> Page:
    """The page: it holds no script. `found`: of `label_calibration`."""
    bins = found["bins"]
    what = [
        f"{c:,.0f} events: called {p:.2%} likely, {o:.2%} have the label"
        for p, o, c in zip(bins["predicted"], bins["observed"], bins["count"], strict=True)
    ]
    note = f"Calibration error {found['error']:.4f} in {number_of(len(what), 'bin')} of equal width."
    figure = bins_figure(found, what, ("called so likely", "came true"), 1.0, "Bins of equal width", note)
    return calibration_page(found, said(found), figure, _slices(found), FOOT)
