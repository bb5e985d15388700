"""Batch: the windows that a model is given, and `Field`, what a column beside ids and times looks like in them.

Shape letters are in `words.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

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


FIRST_VALUE = 2
"""The row of a categorical field's first value: 0 and 1 are no values."""


@dataclass(frozen=True)
class Label(Field):
    """A field that a task predicts, and what its numbers mean."""

    values: tuple[str, ...] = ()  # of a categorical one, as text: the first is row `FIRST_VALUE`
    mean: float = 0.0  # of a numeric one: it was taken away, and what was left
    std: float = 1.0  # was divided by this


@dataclass(frozen=True)
class Batch:
    """One batch of windows, padded on the right.

    Training: `target_ids` is (B, L), `PAD_ID` where a position has no target (padding, or context only); `query_time`
    is the time of the last target, so only a model that trains on last positions may read it.
    Evaluation: `target_ids` is (B,), and `seen_ids`/`seen_offsets`/`query_time`/`target_event` are set. With several
    targets for each row `target_ids` and `target_event` are (B, T), and `target_mask` is set.
    Impressions: `shown_ids`, `shown`, `labels` and `shown_rows` are set: the C items that a user was shown, and what
    came of each. An impression without an event before it has one that stands for none: item `PAD_ID`, valid.
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
    shown_ids: Tensor | None = None  # (B, C) int64, PAD_ID on the right, and for items that training doesn't have
    shown: dict[str, Tensor] = field(default_factory=dict)  # fields of the shown items, by name: (B, C, ...)
    labels: Tensor | None = None  # (B, C) float32, 1.0 = clicked; NaN = not known, 0 at padding
    shown_rows: Tensor | None = None  # (B, C) int64, which of all shown items of the data; -1 = padding
    shown_before: Tensor | None = None
    """(B, C, 2) float32: ln(1 + events of the window that are of this very item), and 1.0 where the last one is."""
    shown_weights: Tensor | None = None  # (B, C) float32, how much each counts; 0 at padding; None = all alike
    prefix_of: Tensor | None = None
    """(B,) int64: the row of this batch whose window begins with this row's whole window (itself, where none is
    longer), so that a causal model need encode only those rows. None: no row is another's prefix, or nobody looked.
    Whoever changes events of a batch sets it to None."""
    target_positions: Tensor | None = None
    """(N,) int64, in training: where `target_ids.flatten()` is not `PAD_ID`, ascending. None: the model looks itself.
    Whoever changes which positions of a batch are targets sets it to None."""
    target_weights: Tensor | None = None  # as target_ids, float32 above 0 at targets, in training: how much each counts
    target_labels: dict[str, Tensor] = field(default_factory=dict)
    """Fields to predict, of the events that `target_ids` names: (B, L, ...) in training, (B, ...) or (B, T, ...) in
    evaluation. Read by tasks, and by no encoder."""
    beside: Batch | None = None
    """In training, where a task learns from windows and from what was shown: impressions, with rows of their own."""
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
            if isinstance(value, Batch):
                return value._map(function)
            return function(value) if isinstance(value, Tensor) else value

        return type(self)(**{f.name: moved(getattr(self, f.name)) for f in fields(self)})

    def windows(self, rows: Tensor) -> Self:
        """The windows of some rows alone, to encode: without targets to rank and seen items. rows: (R,) int64."""
        bare = replace(self, seen_ids=None, seen_offsets=None, prefix_of=None, target_positions=None, beside=None)
        return bare._map(lambda tensor: tensor[rows])

    def __len__(self) -> int:
        return self.item_ids.shape[0]
