"""What the rooms promise each other: `Field`, `Batch`, `DataSpec`, `Scorer`, `Loss`, `NegativeSampler`.

Shape letters are in `words.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from recsys_lab.config import Configurable
from recsys_lab.words import ArgumentError

if TYPE_CHECKING:
    from typing import Self


Scope = Literal["event", "item", "user", "shown"]
Kind = Literal["categorical", "multi", "numeric", "vector", "text"]
KnownAt = Literal["before", "query"]


@dataclass(frozen=True)
class Field:
    """A column of the data beside ids and times, as a model meets it.

    What a tensor of the field holds, with `...` = (B, L) for events, (B,) for users, (B, C) for shown items and (V,)
    for the catalogue:

    - `categorical`: (...) int64 rows of a table with `size` rows. Row 0 is padding and every value that the training
      part doesn't have, and stays zero; row 1 is a missing value; the values follow from row 2.
    - `multi`: (..., width) int64, the rows of several values, 0 behind the last; a missing one is a single 1.
    - `numeric`: (..., 2) float32, the standardised value and 1.0 where it is missing (the value is then 0).
    - `vector`: (..., size) float32; a missing one is zeros.
    - `text` is kept for people, and fed to no model.
    """

    name: str
    scope: Scope
    kind: Kind
    size: int = 1
    width: int = 1
    known_at: KnownAt = "before"
    """`query`: the value of the event to predict is known when the question is asked, as its time is."""


@dataclass(frozen=True)
class Batch:
    """One batch of windows, padded on the right.

    Training: `target_ids` is (B, L), `PAD_ID` where a position has no target (padding, or context only); `query_time`
    is the time of the last target, so only a model that trains on last positions may read it.
    Evaluation: `target_ids` is (B,), and `seen_ids`/`seen_offsets`/`query_time`/`target_event` are set. With several
    targets for each row `target_ids` and `target_event` are (B, T), and `target_mask` is set.
    Impressions: `shown_ids`, `shown` and `labels` are set: the C items that a user was shown, and what came of each.
    """

    item_ids: Tensor  # (B, L) int64, PAD_ID on the right
    target_ids: Tensor  # (B, L) in training, (B,) or (B, T) in evaluation
    valid_mask: Tensor  # (B, L) bool, True = a real event
    timestamps: Tensor  # (B, L) int64 seconds; 0 at padding; positions 0,1,2.. where the data has no time
    lengths: Tensor  # (B,) int64, real events per row, at least 1
    user_index: Tensor  # (B,) int64, 0-based user row of the processed data set
    event: dict[str, Tensor] = field(default_factory=dict)
    """Fields of the events, by name: (B, L, ...), 0 at padding; see `Field`."""
    target: dict[str, Tensor] = field(default_factory=dict)
    """Fields of the event to predict that are known at query time: (B, L, ...) in training, (B, ...) in evaluation."""
    user: dict[str, Tensor] = field(default_factory=dict)
    """Fields of the user, by name: (B, ...)."""
    seen_ids: Tensor | None = None  # (S,) int64, unique within a row: the items that ranking leaves out
    seen_offsets: Tensor | None = None  # (B + 1,) int64: row b owns seen_ids[seen_offsets[b]:seen_offsets[b + 1]]
    query_time: Tensor | None = None  # (B,) int64, the time of the event to predict
    target_event: Tensor | None = None  # as target_ids, int64, in evaluation: where the event stands in the data
    target_mask: Tensor | None = None  # (B, T) bool, True = a target; None: one target for each row
    shown_ids: Tensor | None = None  # (B, C) int64, PAD_ID on the right
    shown: dict[str, Tensor] = field(default_factory=dict)  # fields of the shown items, by name: (B, C, ...)
    labels: Tensor | None = None  # (B, C) float32, 1.0 = clicked; NaN = not known, 0 at padding
    prefix_of: Tensor | None = None
    """(B,) int64: the row of this batch whose window begins with this row's whole window (itself, where none is
    longer), so that a causal model need encode only those rows. None: no row is another's prefix, or nobody looked.
    Whoever changes events of a batch sets it to None."""
    target_positions: Tensor | None = None
    """(N,) int64, in training: where `target_ids.flatten()` is not `PAD_ID`, ascending. None: the model looks itself.
    Whoever changes which positions of a batch are targets sets it to None."""
    target_weights: Tensor | None = None  # as target_ids, float32 above 0 at targets, in training: how much each counts
    begins_with_user: bool = False
    """Position 0 is a token of the user and no event: see `models/blocks/user_token.py`."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """A copy with every tensor moved; Lightning calls this to bring a batch to the device.

        From pinned memory the copy runs beside what the device does; the device reads it only when it is there.
        """
        return self._map(lambda tensor: tensor.to(*args, **{"non_blocking": tensor.is_pinned(), **kwargs}))

    def pin_memory(self) -> Self:
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Any) -> Self:
        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: function(tensor) for name, tensor in value.items()}
            return function(value) if isinstance(value, Tensor) else value

        return type(self)(**{f.name: moved(getattr(self, f.name)) for f in fields(self)})

    def windows(self, rows: Tensor) -> Self:
        """The windows of some rows alone, to encode: without targets to rank and seen items. rows: (R,) int64."""
        bare = replace(self, seen_ids=None, seen_offsets=None, prefix_of=None, target_positions=None)
        return bare._map(lambda tensor: tensor[rows])

    def __len__(self) -> int:
        return self.item_ids.shape[0]


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data: table sizes, and hashes that tell one data set from another.

    Kept in every checkpoint as a plain dict, so that a checkpoint loads without the data.
    """

    dataset: str  # name for people
    num_items: int
    num_users: int
    max_length: int
    has_timestamps: bool
    mean_gap_seconds: float  # mean time between neighbouring training events of a user; 1.0 without time
    data_hash: str  # of the prepared arrays
    vocabulary_hash: str  # of the item ids: the order of the rows of an item table
    split: str  # for people, e.g. "leave_one_out (leaky)"
    fields: tuple[Field, ...] = ()  # those that a model is fed
    training_hash: str = ""  # of `training`; empty in checkpoints of versions that did not record it
    training: dict[str, Any] = field(default_factory=dict)
    """Which events train, and in which windows: what must agree for a model to be tested as it was trained."""

    def fields_of(self, scope: Scope, *kinds: Kind) -> list[Field]:
        """The fields of a scope; of some kinds only, where they are named."""
        return [f for f in self.fields if f.scope == scope and (not kinds or f.kind in kinds)]

    @property
    def num_rows(self) -> int:
        """V: rows of an item table."""
        return self.num_items + 1

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# ----------------------------------------------------------------------------------------------------------------------
# contracts between model, loss and sampler: each side knows only these


class State(NamedTuple):
    """What a model knows of B rows."""

    query: Tensor | None  # (B, D), in evaluation: what the scores depend on; counted models have shapes of their own
    history: Tensor | None = None  # (B, L, D), in training: the hidden state at each position
    memory: Any = None  # what a model that takes one event at a time goes on from


class ItemBlock(NamedTuple):
    """Some rows of an item table: `scores(hidden, items) == hidden @ weight.T + bias`."""

    items: slice  # of ids, start and stop written out
    weight: Tensor  # (n, D) float
    bias: Tensor | None  # (n,) float


class Scorer(nn.Module, ABC):
    """What a model knows of a row, its state, -> scores of items.

    A linear scorer also shows its table block by block: fused losses and fast ranks use it, and everything else works
    without. A prior, a rule or a mask is a scorer around a scorer.
    """

    numbers_per_score: int = 1
    """What it holds for a score until the gradients are made: losses go over fewer items at once where it is more."""
    scores_untrained: bool = False
    """Says something of items without a training event, by what else is known of them."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """V: ids go from 0, which is padding, to V - 1."""

    @abstractmethod
    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        """Scores of chosen items.

        Args:
            state: (N, D), for most models the hidden state.
            items: ids (C,) that all rows share, ids (N, C) of each row's own, or a slice of the ids.

        Returns:
            (N, C). What stands at `PAD_ID` means nothing.
        """

    def all_scores(self, state: Tensor) -> Tensor:
        """(N, D) -> (N, V)."""
        return self.scores(state, slice(0, self.num_rows))

    def linear_blocks(self) -> Iterator[ItemBlock] | None:
        """The table, where scores are the product of state and table: blocks that lie side by side and cover the ids
        0..V-1 in ascending order, made one at a time. None where scores are not of that form."""
        return None

    def one_block(self) -> ItemBlock | None:
        """The whole table, where `linear_blocks` gives it as one block; else None."""
        first = next(self.linear_blocks() or iter(()), None)
        return first if first is not None and first.items == slice(0, self.num_rows) else None


@dataclass(frozen=True)
class Negatives:
    """Sampled items that are not meant as targets; they may collide with one: the loss says how it handles that."""

    item_ids: Tensor  # (C,) shared by all positions, or (N, C)
    log_q: Tensor  # same shape as item_ids: log of the expected number of draws of the item among the C
    target_log_q: Tensor  # (N,): the same for each target


MANY_NEGATIVES = 1024
"""So many may be drawn, with replacement, from any number of items: the defaults of the losses are below it."""


def candidate_ids(item_counts: Tensor) -> Tensor:
    """(V,) training events of each item -> (C,) int64 ascending: the candidates, which are the items with any. Losses,
    negatives, ranks and probabilities use this one set; rows of other items are never scored, drawn or trained."""
    return item_counts[1:].nonzero().squeeze(1) + 1


class NegativeSampler(Configurable, ABC):
    """Draws negatives. `prepare` is called once with the counts of the training part."""

    @abstractmethod
    def prepare(self, item_counts: Tensor) -> None:
        """item_counts: (V,) int64 events per item in the training part, [0] = 0. Items without any are never drawn."""

    def check_number(self, num_items: int) -> None:
        """Raises ArgumentError for many more draws than there are items: a slip, or a task for full cross-entropy."""
        number = getattr(self, "num_negatives", None) or 0
        if number > max(num_items, MANY_NEGATIVES):
            problem = f"is {number:,}, and there are {num_items:,} items: the loss CrossEntropy takes each of them once"
            raise ArgumentError(type(self).__name__, "num_negatives", problem, number)

    @abstractmethod
    def sample(self, target_ids: Tensor, generator: torch.Generator | None) -> Negatives:
        """target_ids: (N,) ids in 1..num_items."""


class Loss(Configurable, nn.Module, ABC):
    """loss(hidden (N, D), target_ids (N,), scorer, negatives, weights) -> scalar, the mean over the N targets."""

    default_negatives: int = 0
    """How many uniform negatives the task draws when the user names no sampler; 0 = this loss takes none."""
    compiles: bool = True
    """`torch.compile` may have it. False where it would compile for every number of targets anew, or gain nothing."""
    all_items: bool = False
    """Its gradient reaches every item and not only targets and negatives: not for row-sparse optimisers."""

    def prepare(self, item_counts: Tensor) -> None:
        """Called once before training, as a sampler's `prepare` is; for losses that go over the items themselves. One
        that was not prepared takes every item for a candidate.

        Args:
            item_counts: (V,) int64 events per item in the training part, [0] = 0; see `candidate_ids`.
        """
        return None

    @abstractmethod
    def forward(
        self,
        hidden: Tensor,
        target_ids: Tensor,
        scorer: Scorer,
        negatives: Negatives | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """-> scalar in float32, the mean over the targets. With `weights` (N,), not negative, their weighted mean."""


class AuxiliaryLoss(Configurable, nn.Module, ABC):
    """One more loss beside that of the task, which it is added to: share x its value."""

    share: float

    @abstractmethod
    def forward(
        self,
        encode: Callable[[Batch], Tensor],
        state: State,
        batch: Batch,
        scorer: Scorer,
        draws: torch.Generator | None,
    ) -> Tensor:
        """-> scalar, the mean over this process's rows or targets.

        Args:
            encode: of the model, for another view of the batch: each call draws dropout masks of its own.
            state: with the `history` that the task has. draws: for random numbers that are not dropout.
        """


class Task(Configurable, nn.Module, ABC):
    """What is predicted: which targets, which loss, and what evaluation is given. No encoder knows one."""

    evaluation: str
    """Class path of the callback that turns what `evaluate` gives into values, where the user names none."""
    compiled: tuple[str, ...] = ()
    """Names of methods that `--model.compile_model true` compiles."""

    def prepare(self, item_counts: Tensor) -> None:
        """Called once before training. item_counts: (V,) int64 events per item in the training part, [0] = 0."""
        return None

    @abstractmethod
    def loss(
        self, state: State, batch: Batch, scorer: Scorer, draws: torch.Generator | None
    ) -> tuple[Tensor, Tensor | int]:
        """The mean over the targets of this process, and the sum of their weights (without weights their number), by
        which means of processes and of accumulated steps are weighed.

        Args:
            state: with `history` (B, L, D).
            draws: for negatives, on the device.
        """

    @abstractmethod
    def evaluate(self, state: State, batch: Batch, scorer: Scorer) -> Any:
        """What the callback `evaluation` is given for a batch. state: with `query` (B, D)."""
