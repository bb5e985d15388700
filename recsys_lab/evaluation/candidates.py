"""Which items are ranked: those of the training part; or all, where a model can say something of the others too; or
those others alone."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from recsys_lab.words import RecsysLabError

Candidates = Literal["trained", "all", "cold"]


def candidate_mask(datamodule: Any, model: Any, candidates: Candidates) -> Tensor:
    """(V,) bool on the model's device; False at padding.

    Raises:
        RecsysLabError: for `all` and `cold`, and a model to which an item without training events is nothing but an
            untrained row; for `cold` where every item trains.
    """
    counts: Tensor = datamodule.item_counts
    is_candidate = (counts > 0).to(model.device)
    if candidates == "trained":
        return is_candidate
    if not model.scorer.scores_untrained:
        raise RecsysLabError(
            f"--evaluation.candidates {candidates}: {type(model).__name__} knows items by their ids alone, and has "
            "learned nothing of those without a training event. Give it fields of the items (--data.fields "
            "'[item.NAME]') or --model.item_vectors in a mode other than init, or take --evaluation.candidates trained"
        )
    is_other = ~is_candidate[1:]
    if candidates == "cold" and not is_other.any():
        raise RecsysLabError(
            "--evaluation.candidates cold: every item has a training event, so there is nothing to rank. A split in "
            "time may leave some without one (--data.split GlobalTemporal)"
        )
    is_candidate[1:] = is_other if candidates == "cold" else True
    return is_candidate
