"""ClickThrough: whether a user clicks on each of the items that are shown, from the history before that moment.

Samples are impressions (`--data.shown Impressions`). The probability is that of a click given that the item is shown,
at its position. Each shown item is a unit of the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Range
from recsys_lab.contracts import Batch, DataSpec, Samples, Scorer, State, Task, UnitMetric
from recsys_lab.models.blocks.click_heads import ClickHead, DotHead
from recsys_lab.models.blocks.field_vectors import FED, field_vectors, reset
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.module import last_position
from recsys_lab.ops import click_metrics
from recsys_lab.words import PAD_ID, RecsysLabError

FIRST_VECTORS = 0.02
"""Standard deviation of the vectors of fields at first, as of those of items."""


LOWEST_RATE = 1e-4
"""Of clicks, that a model begins with."""
SIMILAR_ROWS = 16
"""Lists that a head with a history takes at once."""


class ClickThrough(Task):
    """Binary cross-entropy over the shown items, and log-loss, AUC, GAUC and ndcg within the impression.

    Args:
        head: `DotHead`, `DeepHead` or `TargetAttention` (DIN); None = `DotHead`.
        history: False: the user's events are not looked at, only what is shown.
        repeats: how often the window has the very item that is shown, and whether its last event has, are inputs too:
            of an item that training lacks that is all that a history says.
        keep_negatives: the share of shown items without a click that a training step draws; the probabilities are
            corrected for it (He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook").
        served: raw values of fields of shown items which are not known when a model serves, such as `{position: 1}`:
            whoever asks for probabilities gets those under these values, the same for each item. What the position
            does to a click is then learned, and given to none of the items.
    """

    ranks = False
    evaluation = "recsys_lab.evaluation.outcomes.OutcomeEvaluation"
    samples = Samples(windows=False, shown=True)
    shown_metrics = ("auc", "log_loss", "gauc", "ndcg", "brier")
    fact_names = ("calibration_error", "click_rate", "mean_probability", "one_class_users", "*_share")

    trained: Tensor  # (V,) bool: items of which the training part knows something

    def __init__(
        self,
        head: ClickHead | None = None,
        history: bool = True,
        repeats: bool = True,
        keep_negatives: Annotated[float, Range(above=0, at_most=1)] = 1.0,
        served: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.head = DotHead() if head is None else head
        self.history, self.repeats = history, repeats and history
        self.keep_negatives, self.served = keep_negatives, dict(served or {})
        self.samples = Samples(windows=False, shown=True, served=tuple(self.served.items()))
        self.reads_history = self.head.reads_history

    def build(self, spec: DataSpec, model: Any) -> None:
        items = next((module for module in model.modules() if isinstance(module, ItemTable)), None)
        if items is None:
            raise RecsysLabError(f"ClickThrough needs a table of item vectors, and {type(model).__name__} has none")
        freeze_scorer(model)
        self._items = (items,)  # in a tuple: it is the model's own, and once in its checkpoint
        width = items.embedding_dim
        self.shown_fields = spec.fields_of("shown", *FED)
        unknown = sorted(set(self.served) - {field.name for field in self.shown_fields})
        if unknown:
            known = ", ".join(field.name for field in self.shown_fields) or "none (--data.fields '[shown.NAME]')"
            raise RecsysLabError(
                f"--model.task.served names {unknown[0]!r}; fields of shown items that are fed: {known}"
            )
        self.fields = nn.ModuleList(field_vectors(field, width) for field in self.shown_fields)
        self.of_repeats = nn.Linear(2, width, bias=False) if self.repeats else None
        reset([*self.fields, *([self.of_repeats] if self.of_repeats is not None else [])], FIRST_VECTORS)
        self.head.build(width)
        self.bias = nn.Parameter(torch.zeros(()))
        self.register_buffer("trained", torch.ones(spec.num_rows, dtype=torch.bool))
        self.nobody = None if self.history else nn.Parameter(torch.randn(width) * FIRST_VECTORS)

    @torch.no_grad()
    def start_at(self, click_rate: float) -> None:
        """The logits begin at the rate of clicks among what a step draws. From 0, where a click is as likely as none,
        a rate of one in twenty-five takes an optimiser hundreds of steps."""
        if np.isnan(click_rate):  # no label is known
            return
        rate = min(max(click_rate, LOWEST_RATE), 1 - LOWEST_RATE)
        self.bias.fill_(float(np.log(rate / (1 - rate) / self.keep_negatives)))

    def prepare_shown(self, item_counts: Tensor) -> None:
        self.trained = item_counts > 0

    def loss(
        self, state: State, batch: Batch, scorer: Scorer, draws: torch.Generator | None
    ) -> tuple[Tensor, Tensor | int]:
        query = state.query
        if query is None:
            assert state.history is not None
            query = last_position(state.history, batch.lengths)
        logits = self.logits(query, state.history, batch)
        labels, counts = batch.labels, self.counts(batch)
        assert labels is not None
        if self.keep_negatives < 1:
            drawn = torch.rand(labels.shape, generator=draws, device=labels.device) < self.keep_negatives
            counts = counts & (drawn | (labels > 0))
        weight = counts.float() if batch.shown_weights is None else batch.shown_weights * counts
        each = F.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), reduction="none")
        total = weight.sum()
        return (each * weight).sum() / total.clamp_min(1e-12), total

    def logits(self, query: Tensor, history: Tensor | None, batch: Batch) -> Tensor:
        """(B, C), of a click in the training data as it is drawn. query: (B, D). history: (B, L, D) of the encoder."""
        if batch.shown_ids is None:
            raise RecsysLabError("ClickThrough learns from what was shown: --data.shown Impressions")
        items = self._items[0]
        shown = items(batch.shown_ids)  # (B, C, D)
        for field, vectors in zip(self.shown_fields, self.fields, strict=True):
            shown = shown + vectors(batch.shown[field.name])
        if self.of_repeats is not None:
            assert batch.shown_before is not None
            shown = shown + self.of_repeats(batch.shown_before)
        valid = batch.valid_mask & (batch.item_ids != PAD_ID)
        if self.nobody is not None:
            query = self.nobody + 0 * query  # with several processes each weight wants a gradient
            valid = torch.zeros_like(valid)
        if self.reads_history and getattr(self.head, "history", "states") == "items":
            history = items(batch.item_ids)
        if history is not None and batch.shown_rows is not None and shown.device.type == "cpu":
            lengths = (batch.shown_rows >= 0).sum(1)
            found: Tensor = in_similar_rows(self.head, lengths, query, shown, history, valid)
        else:
            found = self.head(query, shown, history, valid)
        return found + self.bias

    def counts(self, batch: Batch) -> Tensor:
        """(B, C) bool: shown items of which it is known what came."""
        assert batch.shown_rows is not None and batch.labels is not None
        return (batch.shown_rows >= 0) & ~batch.labels.isnan()

    def probabilities(self, state: State, batch: Batch) -> Tensor:
        """(B, C) float64, corrected for negatives that training did not draw."""
        assert state.query is not None
        logits = self.logits(state.query.float(), state.history, batch).double()
        return torch.sigmoid(logits + float(np.log(self.keep_negatives)))

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(self, state: State, batch: Batch, scorer: Scorer) -> dict[str, Tensor]:
        return self.outcome(self.probabilities(state, batch), batch)

    def outcome(self, probability: Tensor, batch: Batch) -> dict[str, Tensor]:
        """One row for each shown item whose label is known. probability: (B, C)."""
        assert batch.shown_rows is not None and batch.labels is not None and batch.shown_ids is not None
        keep = self.counts(batch)
        first = batch.shown_rows[:, :1]  # names the impression
        seen = torch.where(batch.item_ids[:, :1] == PAD_ID, 0, batch.lengths[:, None])
        rows = {
            "unit": batch.shown_rows,
            "user": batch.user_index[:, None].expand_as(keep),
            "impression": first.expand_as(keep),
            "place": batch.shown_rows - first + 1,
            "history_length": seen.expand_as(keep),
            "is_cold": batch.shown_ids == PAD_ID,
            "label": batch.labels.nan_to_num().to(torch.int8),
            "probability": probability,
        }
        if batch.shown_weights is not None:
            rows["weight"] = batch.shown_weights
        return {name: column[keep] for name, column in rows.items()}

    def metrics(self, outcome: Mapping[str, np.ndarray]) -> dict[str, UnitMetric]:
        label, p, weight = outcome["label"], outcome["probability"], outcome.get("weight")
        return {
            "auc": click_metrics.auc(label, p, weight),
            "log_loss": click_metrics.log_loss(label, p, weight),
            "gauc": click_metrics.grouped_auc(label, p, outcome["user"], weight),
            "ndcg": click_metrics.impression_ndcg(label, p, outcome["impression"]),
            "brier": click_metrics.brier(label, p, weight),
        }

    def facts(self, outcome: Mapping[str, np.ndarray]) -> dict[str, float]:
        label, p, weight = outcome["label"], outcome["probability"], outcome.get("weight")
        return {
            "calibration_error": click_metrics.reliability(label, p, weight).error,
            "click_rate": float(np.average(label, weights=weight)),
            "mean_probability": float(np.average(p, weights=weight)),
            "one_class_users": float(click_metrics.one_class_groups(label, outcome["user"])),
            "empty_history_share": float((outcome["history_length"] == 0).mean()),
            "cold_shown_share": float(outcome["is_cold"].mean()),
        }


def in_similar_rows(
    head: ClickHead, lengths: Tensor, query: Tensor, shown: Tensor, history: Tensor, valid: Tensor
) -> Tensor:
    """(B, C) of a head that goes over all pairs of events and shown items: for lists of similar length together, so
    that little of it is padding. lengths: (B,) items of each list. On an accelerator each look at a length would wait
    for it."""
    order, found = lengths.argsort(), []
    for rows in order.split(SIMILAR_ROWS):
        width = int(lengths[rows].max())
        logits = head(query[rows], shown[rows, :width], history[rows], valid[rows])
        found.append(F.pad(logits, (0, shown.shape[1] - width)))
    return torch.cat(found)[order.argsort()]


def freeze_scorer(model: Any) -> None:
    """What only the scores of a ranking train: with several processes each weight wants a gradient."""
    others = {id(p) for name, part in model.named_children() if name != "scorer" for p in part.parameters()}
    for parameter in model.scorer.parameters():
        if id(parameter) not in others:
            parameter.requires_grad_(False)
