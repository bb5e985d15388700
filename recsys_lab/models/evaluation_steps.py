"""EvaluationSteps: what a model does with each batch of an evaluation; no metric names, nothing of one encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import Batch, State, Task
from recsys_lab.models.base import Base
from recsys_lab.models.blocks.user_token import with_token
from recsys_lab.models.module import SequenceModel, last_position
from recsys_lab.words import RecsysLabError


class EvaluationSteps(SequenceModel, Base):
    """The part of a `NextItemModule` that runs for each batch in validation, test and prediction."""

    task: Task

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        return self._evaluated(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        return self._evaluated(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        """The query, with which lists are made: what else a task evaluates has no outcome yet."""
        with torch.autocast(self.device.type, enabled=False):
            return self.query(batch)

    def _evaluated(self, batch: Batch) -> Any:
        with torch.autocast(self.device.type, enabled=False):  # mixed precision is for training only
            return self.task.evaluate(self.evaluation_state(batch), batch, self.scorer)

    def evaluation_state(self, batch: Batch) -> State:
        """What the task is given: the query, and where it wants that the history."""
        if not self.task.reads_history:
            return State(query=self.query(batch))
        history = self.hidden(batch)  # (B, L, D)
        return State(query=last_position(history, batch.lengths), history=history)

    def check_ranks(self) -> None:
        """Raises RecsysLabError for a model that learned to rank nothing: its lists would be of an untrained scorer."""
        if not self.task.ranks:
            raise RecsysLabError(
                f"a model of {self.task.name} ranks no items, so there are no lists of it: Predictor.score gives the "
                "probabilities of clicks, recsys_lab.serve.labels.predict_labels those of labels"
            )

    # -- what evaluation asks for; baselines define these --------------------------------------------------------------

    def query(self, batch: Batch) -> Tensor:
        """What the scores of each row depend on, (B, D): the hidden state at the last real event.

        Rows that are prefixes of another row are read off that row's states, where the model allows it.
        """
        if batch.prefix_of is None or not self.shares_prefixes:
            return self.encode_last(with_token(batch) if self.begins_with_user else batch)
        rows, row = batch.prefix_of.unique(return_inverse=True)
        return self.hidden(batch.windows(rows))[row, batch.lengths - 1]  # (R, L, D) -> (B, D)

    @property
    def shares_prefixes(self) -> bool:
        """One row's states answer for its prefixes too."""
        return self.causal and self.encodes_prefixes and not (self.uses_query_time or self.uses_target_fields)
