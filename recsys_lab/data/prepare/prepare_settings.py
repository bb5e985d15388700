"""PrepareSettings: every choice that changes which events a prepared data set holds, and in which order."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from recsys_lab.arguments import Commas, Count, Repeated, Seed, check_fields
from recsys_lab.data.fields.wishes import parse_wish
from recsys_lab.data.prepare.condition import Condition
from recsys_lab.data.reading.spelling import option
from recsys_lab.words import ArgumentError, RecsysLabError

Duplicates = Literal["keep", "drop", "first", "last"]
ConsecutiveRepeats = Literal["keep", "drop"]
NEWER = ("keep", "fields")
TieOrder = Literal["file", "hash", "random", "item_id"]


@dataclass(frozen=True)
class PrepareSettings:
    """Filters and tie order, applied in the order of the fields. The defaults keep every event.

    Args:
        min_rating: Keep events with a rating of at least this; events without a rating are dropped. Default: keep all.
        event_types: Keep events of these types, by name. Default: keep all.
        duplicates: Events of one user with the same item, timestamp and event type: 'keep' all or 'drop' all but one.
            'first' and 'last' are stricter: one event per user and item, the earliest or the latest.
        consecutive_repeats: The same item several times in a row for one user: 'keep' all or 'drop' all but the first.
        min_user_events: Drop users with fewer events than this (k-core, user side).
        min_item_events: Drop items with fewer events than this (k-core, item side).
        k_core_iterate: Repeat until both minima (and consecutive_repeats) hold at once. Otherwise one pass: items are
            counted and dropped first, users then, so that an item may end below its minimum.
        min_length: Drop users with fewer events than this, after everything else; items are not counted again.
        tie_order: Order of one user's events with equal timestamps. 'file' keeps the order of the source; 'hash'
            depends on user, item and seed, not on the file; 'random' is drawn by seed; 'item_id' sorts by item and
            inflates metrics, since neighbouring ids are often related: a warning says so.
        seed: Needed by the tie orders 'hash' and 'random'.
        keep: Keep the events that meet each of these conditions on a column: `rating>=4`, `country!=DE`, `event_type in
            buy,cart`. Events without a value are dropped by all but `!=`.
        fields: How further columns are stored: `price=numeric`, `price=item.numeric` (a column of the events that
            belongs to the item), `device=categorical@query` (known when the question is asked), `note=drop`, `*=drop`
            (all that are not named). Kinds: categorical, multi, numeric, vector, text. Default: by what is in them.
    """

    min_rating: float | None = None
    event_types: Annotated[list[str], Commas] | None = None
    duplicates: Duplicates = "keep"
    consecutive_repeats: ConsecutiveRepeats = "keep"
    min_user_events: Count = 1
    min_item_events: Count = 1
    k_core_iterate: bool = True
    min_length: Count = 1
    tie_order: TieOrder = "file"
    seed: Seed | None = None
    keep: Annotated[list[str], Repeated] | None = None
    fields: Annotated[list[str], Commas] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.event_types is not None:
            if not self.event_types:
                problem = "must be a list of at least one name, not an empty one"
                raise ArgumentError(type(self).__name__, "event_types", problem, self.event_types)
            # the order in which the types are written changes nothing, so it must not look like another setting
            object.__setattr__(self, "event_types", sorted({str(name) for name in self.event_types}))
        if self.keep is not None:
            object.__setattr__(self, "keep", [Condition.parse(text).text for text in self.keep] or None)
        if self.fields is not None:
            for text in self.fields:
                parse_wish(text)
            object.__setattr__(self, "fields", sorted(text.strip() for text in self.fields) or None)
        if self.tie_order in ("hash", "random") and self.seed is None:
            raise RecsysLabError(f"{option('tie_order', self.tie_order)} needs a seed; give {option('seed')} a number")

    def as_dict(self) -> dict[str, Any]:
        """Plain data. `keep` and `fields` only where they are used: sets prepared before keep their name and hash."""
        return {name: value for name, value in asdict(self).items() if name not in NEWER or value is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PrepareSettings:
        """Settings from plain data.

        Raises:
            RecsysLabError: for an unknown name, listing the known ones.
        """
        known = [f.name for f in fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise RecsysLabError(f"unknown prepare setting {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
        return cls(**values)
