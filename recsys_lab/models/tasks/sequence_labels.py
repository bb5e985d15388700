"""SequenceLabels: a field of an event is predicted: its type, its rating, the seconds that it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.batch import FIRST_VALUE
from recsys_lab.contracts import Batch, DataSpec, Label, Samples, Scorer, State, Task, UnitMetric
from recsys_lab.models.module import last_position
from recsys_lab.ops import label_metrics
from recsys_lab.words import PAD_ID, ArgumentError

UNKNOWN, MISSING = -1, -2
"""In place of a class: a value that the training part lacks, and none at all."""
NAMED_CLASSES = 20
"""So many classes have an F1 of their own in metrics.json."""


class SequenceLabels(Task):
    """A label for each event: classes by softmax, numbers by regression.

    A causal encoder is trained at every position, one that looks ahead at the end of each window
    (`--data.training_mode last_position`). No input tells a label that is asked for: that of the next event is in no
    window, and where labels of the event itself are asked, those among the inputs come one event late.

    Args:
        field: of the events, categorical or numeric.
        of: the `next` event, of which nothing is known; or the `event` itself, of which all but the label is known.
        error: of numbers: the `squared` error is learned, whose best answer is the mean; or the `absolute`, the median.
    """

    evaluation = "recsys_lab.evaluation.outcomes.OutcomeEvaluation"
    ranks = False
    shown_metrics: tuple[str, ...] = ("log_loss", "macro_f1", "accuracy", "calibration_error")
    watched = "loss"
    fact_names = ("loss", "mse", "mae", "f1_*", "missing_label_share", "unknown_label_share")
    head: nn.Module

    def __init__(
        self,
        field: str,
        of: Literal["next", "event"] = "next",
        error: Literal["squared", "absolute"] = "squared",
    ) -> None:
        super().__init__()
        self.field, self.of, self.error = field, of, error
        self.samples = Samples(labels=(field,), with_target_event=of == "event", only_labelled=True)
        self.label: Label | None = None

    @property
    def is_class(self) -> bool:
        """Else it is a number."""
        assert self.label is not None
        return self.label.kind == "categorical"

    def build(self, spec: DataSpec, model: Any) -> None:
        self.label = next((label for label in spec.labels if label.name == self.field), None)
        if self.label is None:
            problem = f"{self.field!r}: these data were not asked for it: pass a SequenceDataModule to the Trainer"
            raise ArgumentError(type(self).__name__, "field", problem, self.field)
        if not self.is_class:
            self.shown_metrics = ("mae", "mse") if self.error == "absolute" else ("mse", "mae")
        if getattr(model, "answers_labels", False):  # a counted model
            self.head = nn.Identity()
            return
        width = getattr(model.settings, "embedding_dim", None)
        if width is None:
            problem = f"{type(self).__name__}: {type(model).__name__} has no states of a known width (embedding_dim)"
            raise ArgumentError(type(model).__name__, "task", problem, type(self).__name__)
        self.head = nn.Linear(width, self.label.size - FIRST_VALUE if self.is_class else 1)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        freeze_unused(model)

    # -- training ------------------------------------------------------------------------------------------------------

    def loss(
        self, state: State, batch: Batch, scorer: Scorer, draws: torch.Generator | None
    ) -> tuple[Tensor, Tensor | int]:
        labels, weights = batch.target_labels[self.field], batch.target_weights
        if state.history is None:  # of an encoder that looks ahead
            assert state.query is not None
            hidden, labels = state.query, last_position(labels, batch.lengths)
            weights = None if weights is None else last_position(weights, batch.lengths)
        else:
            positions = batch.target_positions  # (N,)
            if positions is None:
                positions = (batch.target_ids != PAD_ID).flatten().nonzero().squeeze(1)
            hidden = state.history.flatten(0, 1).index_select(0, positions)  # (N, D)
            labels = labels.flatten(0, 1)[positions]
            weights = None if weights is None else weights.flatten()[positions]
        errors, known = self.errors(self.head(hidden).float(), labels)
        share = known.float() if weights is None else known * weights
        total = share.sum()
        return (errors * share).sum() / total.clamp_min(torch.finfo(total.dtype).tiny), total

    def errors(self, output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) or (N, 1) of the head, (N, ...) of `Batch.target_labels` -> (N,) errors, (N,) bool: there is a
        label."""
        if self.is_class:
            known = labels >= FIRST_VALUE
            return F.cross_entropy(output, (labels - FIRST_VALUE).clamp_min(0), reduction="none"), known
        value, missing = labels.unbind(-1)
        error = F.mse_loss if self.error == "squared" else F.l1_loss
        return error(output.squeeze(1), value, reduction="none"), missing == 0

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(self, state: State, batch: Batch, scorer: Scorer) -> dict[str, Tensor]:
        """-> `unit`, `user`, `label` and `output` of each row: where several targets share a history, of the first.

        `label` is the class, or the number as the data have it; `output` the logits (B, C), or the number (B,).
        """
        assert state.query is not None and batch.target_event is not None and self.label is not None
        unit, labels = batch.target_event, batch.target_labels[self.field]
        if batch.target_mask is not None:
            unit, labels = unit[:, 0], labels[:, 0]
        output = self.head(state.query).float()
        found = {"unit": unit, "user": batch.user_index, "history_length": batch.lengths}
        if self.is_class:
            label = torch.where(labels == 1, MISSING, (labels - FIRST_VALUE).clamp_min(UNKNOWN))
            return found | {"label": label, "output": output}
        value, missing = (part.double() for part in labels.unbind(-1))
        value = torch.where(missing > 0, torch.nan, value * self.label.std + self.label.mean)
        return found | {"label": value, "output": output.squeeze(1).double() * self.label.std + self.label.mean}

    def metrics(self, outcome: Mapping[str, np.ndarray]) -> dict[str, UnitMetric]:
        """Of the units with a label: those without have the weight 0."""
        label, output = outcome["label"], outcome["output"]
        if not self.is_class:
            known = ~np.isnan(label)
            error = np.where(known, output - np.where(known, label, 0), 0)
            values = {"mae": np.abs(error), "mse": error**2}
        else:
            known = label >= 0
            values = class_values(output, np.maximum(label, 0), known.astype(np.float64))
        weight = None if known.all() else known.astype(np.float64)
        return {name: UnitMetric(value, weight) for name, value in values.items()}

    def facts(self, outcome: Mapping[str, np.ndarray]) -> dict[str, float]:
        label, output = outcome["label"], outcome["output"]
        if not len(label):
            return {}
        deciding, weight = self.metrics(outcome)[self.shown_metrics[0]]
        learned = {"loss": float(np.average(deciding, weights=weight)) if weight is None or weight.any() else np.nan}
        if not self.is_class:
            return learned | {"missing_label_share": float(np.isnan(label).mean())}
        assert self.label is not None
        shares = {"missing_label_share": (label == MISSING).mean(), "unknown_label_share": (label == UNKNOWN).mean()}
        names = self.label.values
        if len(names) <= NAMED_CLASSES:
            known = label >= 0
            f1 = label_metrics.f1_of_classes(
                np.maximum(label, 0), output.argmax(axis=1), known.astype(np.float64), len(names)
            )
            shares |= {f"f1_{name}": value for name, value in zip(names, f1, strict=True) if not np.isnan(value)}
        return learned | {name: float(value) for name, value in shares.items()}

    def compared(self) -> dict[str, Any]:
        names = self.label.values if self.label is not None else ()
        values = {"values": list(names)} if 0 < len(names) <= NAMED_CLASSES else {}
        return {"field": self.field, "of": self.of} | values


def class_values(logits: np.ndarray, label: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """(N, C), (N,) classes, (N,) -> the metrics of classes, (N,) values of each. Of equally likely classes the first is
    the prediction."""
    log_p = label_metrics.log_softmax(logits)
    predicted = logits.argmax(axis=1)
    correct = predicted == label
    confidence = np.exp(log_p.max(axis=1, initial=-np.inf))
    return {
        "macro_f1": label_metrics.macro_f1_values(label, predicted, weight),
        "accuracy": correct.astype(np.float64),
        "log_loss": label_metrics.log_losses(log_p, label),
        "calibration_error": label_metrics.calibration_values(confidence, correct, weight),
    }


def freeze_unused(model: Any) -> None:
    """What only scores of items would train: DistributedDataParallel waits for a gradient of each parameter."""
    used = {id(p) for name, part in model.named_children() if name != "scorer" for p in part.parameters()}
    used |= {id(p) for p in model.parameters(recurse=False)}
    for parameter in model.scorer.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)
