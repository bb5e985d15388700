"""SequenceModel: what every model is, whatever trains it. The contract between a model and the rest of the house.

    training:    batch -> encode -> history (B, L, D) -> task.loss -> mean over the targets
    evaluation:  batch -> query (B, D) -> task.evaluate -> ranks, by scorer.scores(query, items)

An encoder defines `build` and `encode`, and sets `self.scorer`; `encoders/gru4rec.py` is the shortest. What is done
with each batch is in `training_steps.py` and `evaluation_steps.py`, and what Lightning needs beside that in
`lightning.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recsys_lab.config import Configurable
from recsys_lab.contracts import Batch, DataSpec, ItemBlock, Scorer, State
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.user_token import with_token
from recsys_lab.words import RecsysLabError


class MissingMethodError(RecsysLabError, NotImplementedError):
    """A class lacks what every model defines."""


class SequenceModel(Configurable):
    """Sizes of tables come from the data: `build(spec)` is called once, when they are known."""

    causal: bool = True
    """hidden[:, t] depends on events 0..t only."""
    encodes_prefixes: bool = True
    """hidden[:, t] does not depend either on how many events follow: a causal model then answers for each prefix of a
    window in one pass. False where positions are counted from the window's end, for example."""
    uses_query_time: bool = False
    """Reads `batch.query_time`, the time of the event to predict. Tables say so: such numbers are another task."""
    query_time_of_each_target: bool = False
    """Reads at each position the time of that position's own target, so that it may train on all positions."""
    uses_target_fields: tuple[str, ...] = ()
    """Names of the fields that it reads of `batch.target`, which are known of the event to predict: another task."""
    scores_whole_rows: bool = False
    """Counted models define `score(query)`, and their scorer is made of it."""
    begins_with_user: bool = False
    """Its windows begin with a token of the user: `--model.inputs.user first`."""
    scorer: Scorer
    """State -> scores of items. A model that scores in another way sets another one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "score" in cls.__dict__ and not cls.scores_whole_rows:
            raise RecsysLabError(
                f"{cls.__name__} defines score(query), which losses, ranks and lists would not ask: set self.scorer in "
                "build(spec) to a Scorer of its own"
            )
        if "encode" in cls.__dict__:  # the shortcuts of a base class belong to the base's own `encode`
            for name in ("encode_last", "start", "step", "event_weights"):
                if name not in cls.__dict__:
                    setattr(cls, name, SequenceModel.__dict__[name])

    # -- what an encoder defines ---------------------------------------------------------------------------------------

    def build(self, spec: DataSpec) -> None:
        """Creates the modules whose sizes depend on the data; must set `self.scorer`."""
        raise MissingMethodError(f"{type(self).__name__} must define build(spec)")

    def encode(self, batch: Batch) -> Tensor:
        """-> hidden (B, L, D); what stands at padding is ignored."""
        raise MissingMethodError(f"{type(self).__name__} must define encode(batch)")

    # -- what it may define --------------------------------------------------------------------------------------------

    def encode_last(self, batch: Batch) -> Tensor:
        """-> (B, D): `encode` at each row's last real event. Defined anew where that is cheaper than every position."""
        return last_position(self.encode(batch), batch.lengths)

    def start(self, rows: int) -> State | None:
        """The state of `rows` users before their first event, for `step`; None where a model can't go on from a state,
        and whoever predicts encodes the window again."""
        return None

    def step(self, state: State, event: Batch) -> State | None:
        """One more event of each row: afterwards `state.query` is what `encode_last` gives for all events so far. None
        where it can't go on from this state, since the window is full: whoever predicts encodes the newest window.

        Args:
            state: of `start`, or of the last step.
            event: windows of one event, L = 1.
        """
        raise NotImplementedError(f"{type(self).__name__} can't go on from a state: encode the window")

    def event_weights(self, batch: Batch) -> EventWeights | None:
        """How much the state of each row's last event takes of each event, by the model's own attention or gates; None
        where it has none, or none that says so. They are no proof of what a score rests on: docs/explain.md."""
        return None

    def hidden(self, batch: Batch) -> Tensor:
        """`encode` for whoever has a batch as the data gives it: with the user's token in front, where the model has
        one, and without its state."""
        return self.encode(with_token(batch))[:, 1:] if self.begins_with_user else self.encode(batch)

    @property
    def last_positions_only(self) -> bool:
        """It trains on `last_position` windows only, where no state but a window's last has a target, since states read
        what comes after their event. A class whose states never read their own target may say False."""
        return not self.causal or (self.uses_query_time and not self.query_time_of_each_target)

    # -- what evaluation asks for --------------------------------------------------------------------------------------

    def score(self, query: Tensor) -> Tensor:
        """(rows, D) -> (rows, V) scores of all items in float32; column 0 is padding and means nothing."""
        with torch.autocast(query.device.type, enabled=False):  # ranking is always float32
            return self.scorer.all_scores(query.float() if query.is_floating_point() else query)

    def score_table(self) -> ItemBlock | None:
        """The table whose product with a query `score` is; None where scores are made in another way."""
        return None if self.scores_whole_rows else self.scorer.one_block()


def last_position(hidden: Tensor, lengths: Tensor) -> Tensor:
    """(B, L, D), (B,) -> (B, D): each row at its last real event."""
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), lengths - 1]
