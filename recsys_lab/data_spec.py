"""DataSpec: what a model must know of its data.

Shape letters are in `words.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from recsys_lab.batch import Field, Kind, Label, Scope


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
    labels: tuple[Label, ...] = ()  # those that a task predicts

    def fields_of(self, scope: Scope, *kinds: Kind) -> list[Field]:
        """The fields of a scope; of some kinds only, where they are named."""
        return [f for f in self.fields if f.scope == scope and (not kinds or f.kind in kinds)]

    @property
    def num_rows(self) -> int:
        """V: rows of an item table."""
        return self.num_items + 1

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
