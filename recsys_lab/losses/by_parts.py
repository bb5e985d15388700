"""Full cross-entropy where scores are no product with one table: a part of the candidates at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from recsys_lab.contracts import Scorer
from recsys_lab.losses.candidates import wide

PART_ELEMENTS = 8_000_000
"""Logits of a part, or the numbers that a scorer holds for them: 32 MB."""


def by_parts(
    hidden: Tensor,
    target_ids: Tensor,
    scorer: Scorer,
    candidates: Tensor | None,
    label_smoothing: float,
    temperature: float,
) -> Tensor:
    """-log softmax of each target among the candidates. The logits of a part are made once more for the gradients, so
    that those of all items are never in memory together.

    Args:
        hidden: (N, D). target_ids: (N,), each a candidate.
        candidates: (C,) int64; None = all items.
        label_smoothing, temperature: see `CrossEntropy`.

    Returns:
        (N,) in float32 (float64 where scores are).
    """
    width = max(1, PART_ELEMENTS // (max(len(hidden), 1) * scorer.numbers_per_score))
    parts: list[Tensor | slice]
    if candidates is not None:
        parts = list(candidates.split(width))
    else:
        stop = scorer.num_rows
        parts = [slice(start, min(start + width, stop)) for start in range(1, stop, width)]

    def sums(hidden: Tensor, part: Tensor | slice) -> tuple[Tensor, Tensor]:
        logits = wide(scorer.scores(hidden, part)) / temperature  # (N, c)
        return logits.logsumexp(1), logits.sum(1)

    made = [checkpoint(sums, hidden, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    log_sums, totals = (torch.stack(found) for found in zip(*made, strict=True))  # (parts, N) each
    target = wide(scorer.scores(hidden, target_ids.unsqueeze(1))).squeeze(1) / temperature  # (N,)
    losses: Tensor = log_sums.logsumexp(0) - (1 - label_smoothing) * target
    if label_smoothing:
        number = scorer.num_rows - 1 if candidates is None else len(candidates)
        losses = losses - label_smoothing * totals.sum(0) / number
    return losses
