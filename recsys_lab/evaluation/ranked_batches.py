"""RankedBatches: what a `RankingEvaluation` does with each batch: the targets are ranked once, without holding the
scores, or in row blocks that stay under a memory bound."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from recsys_lab.contracts import Batch, Scorer
from recsys_lab.evaluation.candidates import Candidates
from recsys_lab.evaluation.divided_items import divided_rows
from recsys_lab.evaluation.measure import Measure, ScoredRows
from recsys_lab.evaluation.ranked_targets import COLUMNS
from recsys_lab.evaluation.row_blocks import scored_rows
from recsys_lab.ops.linear_ranks import linear_target_ranks
from recsys_lab.ops.ranks import Ranks, Ties
from recsys_lab.words import QUERY


class RankedBatches:
    """The part of a `RankingEvaluation` that runs for each batch."""

    cutoffs: tuple[int, ...]
    ties: Ties
    cold_targets: Literal["miss", "drop"]
    candidates: Candidates
    max_score_bytes: int
    _running: list[Measure]  # those of the evaluation that is under way
    _rows: list[Tensor]
    _is_asked: bool
    _is_candidate: Tensor | None

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        self._add(pl_module, outputs, batch)

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        self._add(pl_module, outputs, batch)

    def _add(self, model: Any, outputs: Any, batch: Batch) -> None:
        if self._is_asked and batch.target_event is not None:  # else a batch of another task
            query = outputs[QUERY] if isinstance(outputs, dict) else outputs  # a dict of several tasks
            self._rows.append(self.counted(self.rank_batch(model, query, batch)))

    def counted(self, table: Tensor) -> Tensor:
        """Without the targets that are another question: where cold items alone are candidates, those that train."""
        return table[table[:, COLUMNS.index("is_cold")] == 0] if self.candidates == "cold" else table

    def rank_batch(self, model: Any, query: Tensor, batch: Batch) -> Tensor:
        """query (B, ...) as `model.query` gave it -> (N, 6) int64 rows as in `COLUMNS`, one for each target."""
        assert batch.target_event is not None and self._is_candidate is not None
        k = max(self.cutoffs) if self._running else 0
        divided = divided_rows(model, query, batch, self._is_candidate, self.ties, k)
        if divided is not None:
            rows, first = divided
            if first is not None:
                self._measure(first)
            return _table(rows.target_event, rows.ranks)
        ranks = self._product_ranks(model.scorer, query, batch)
        if ranks is None:
            return self._block_ranks(model, query, batch)
        return _table(batch.target_event, ranks)

    def _product_ranks(self, scorer: Scorer, query: Tensor, batch: Batch) -> Ranks | None:
        """Without the scores, where nobody else needs them and they are a matrix product; None where that can't be."""
        if self._running or query.device.type != "cpu" or batch.target_mask is not None:
            return None
        assert self._is_candidate is not None and batch.seen_ids is not None and batch.seen_offsets is not None
        seen = (batch.seen_ids, batch.seen_offsets)
        return linear_target_ranks(query, scorer, batch.target_ids, self._is_candidate, *seen, self.ties)

    def _block_ranks(self, model: Any, query: Tensor, batch: Batch) -> Tensor:
        assert self._is_candidate is not None
        blocks = []
        for rows in scored_rows(model, query, batch, self._is_candidate, self.max_score_bytes, self.ties):
            if self._running and rows.is_first:
                self._measure(rows)
            blocks.append(_table(rows.target_event, rows.ranks))
        return torch.cat(blocks)

    def _measure(self, rows: ScoredRows) -> None:
        if self.cold_targets == "drop" or self.candidates == "cold":
            rows = rows.select(~rows.ranks.is_cold)  # those that are no candidates
        for measure in self._running:
            measure.add(rows)


def _table(target_event: Tensor, ranks: Ranks) -> Tensor:
    """(N, 6) rows as in `COLUMNS`."""
    return torch.stack([target_event, *(getattr(ranks, name).long() for name in COLUMNS[1:])], dim=1)
