"""StoredField: what the manifest of a prepared set says of one field, and the names of its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from recsys_lab.words import RecsysLabError

Scope = Literal["event", "item", "user", "shown"]
Kind = Literal["categorical", "multi", "numeric", "vector", "text"]
KnownAt = Literal["before", "query"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDERS: dict[Scope, str] = {"event": "events", "item": "items", "user": "users", "shown": "shown"}
"""Where in a prepared folder the files of a scope lie."""


@dataclass(frozen=True)
class StoredField:
    """A column as it was prepared. What is fitted on the training part is not in it; see `contracts.Field` for that.

    `processed.field_array(key)` has a row for each event, item, user or shown item:

    - `categorical`: unsigned integers, 0 = missing, value v from 1 (`processed.field_values(key)[v - 1]`).
    - `numeric`: float32, NaN = missing. Dates are days since 1970, durations and times of day are seconds.
    - `vector`: (rows, width) float32; a missing row is all NaN.
    - `multi`: codes of all rows one after the other; row r has those from `field_offsets(key)[r]` to `[r + 1]`.
    - `text`: has none; `processed.field_text(key)` reads it, for people.

    Attributes:
        name: The column's.
        scope: Whose value it is.
        kind: As above.
        known_at: `query` where the value of the event to predict is known when the question is asked.
        num_values: Different values of a categorical or multi field.
        width: D of a vector; the most values that a row of a multi field has; else 1.
        missing: Rows without a value.
        file: The name of its files, without their endings and the folder of the scope.
        from_events: A column of the events that was declared to be of the item or user: `field_array` has the last
            value of all events, and `event_array` that of each event, to take the last of the training part from.
        conflicts: Where it is from events: items (or users) whose events don't agree.
        hash: 16 hex digits of the values, in their order.
    """

    name: str
    scope: Scope
    kind: Kind
    known_at: KnownAt = "before"
    num_values: int = 0
    width: int = 1
    missing: int = 0
    file: str = ""
    from_events: bool = False
    conflicts: int = 0
    hash: str = ""

    @property
    def key(self) -> str:
        """`name` of a field of the events, `item.name`, `user.name` or `shown.name` of the others."""
        return field_key(self.scope, self.name)

    @property
    def array(self) -> str:
        """Its array in the manifest and, with `.npy`, in the folder."""
        return f"{FOLDERS[self.scope]}/{self.file}"

    @property
    def offsets(self) -> str:
        """The array where the rows of a multi field begin and end."""
        return f"{self.array}.offsets"

    @property
    def event_array(self) -> str:
        """The array with the value of each event, where the field is of items or users and comes `from_events`."""
        return f"{FOLDERS['event']}/{self.file}.{self.scope}"

    @property
    def table(self) -> str:
        """The parquet file of its values (of a categorical or multi field) or its text."""
        return f"{self.array}.parquet"

    @property
    def has_values(self) -> bool:
        return self.kind in ("categorical", "multi")

    @property
    def has_text_file(self) -> bool:
        """Whether `table` has its text. That of items and users stands in their tables."""
        return self.kind == "text" and self.scope in ("event", "shown")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, about: dict[str, Any]) -> StoredField:
        return cls(**about)


def field_key(scope: str, name: str) -> str:
    return name if scope == "event" else f"{scope}.{name}"


def is_entry(about: Any) -> bool:
    """Whether a part of a manifest is what `StoredField.as_dict` gives."""
    return (
        isinstance(about, dict)
        and set(about) == {f.name for f in fields(StoredField)}
        and about["scope"] in SCOPES
        and about["kind"] in KINDS
        and all(isinstance(about[name], str) for name in ("name", "file", "hash"))
        and all(type(about[name]) is int and about[name] >= 0 for name in ("num_values", "width", "missing"))
    )


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Column name -> a name that every file system takes, different ones also where upper and lower case are one."""
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^a-z0-9_-]+", "_", name.lower())[:60]
        if plain != name or plain in RESERVED or plain in found.values():
            plain = f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        found[name] = plain
    return found


RESERVED = ("item_ids", "users", "timestamps", "labels", "offsets", "con", "prn", "aux", "nul")
"""Names of our own arrays of shown items, and of devices of Windows."""


def hash_of(*parts: str) -> str:
    """16 hex digits of some texts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def smallest_unsigned(most: int) -> str:
    """The smallest unsigned type that holds 0..most."""
    return "uint8" if most < 1 << 8 else "uint16" if most < 1 << 16 else "uint32"


def owners(scope: Scope) -> str:
    """Whose fields they are, in a sentence."""
    return "shown items" if scope == "shown" else f"{scope}s"


def check_named(
    fields: Mapping[str, StoredField], key: str, scope: Scope, kind: Kind, option: str, advice: str
) -> None:
    """Whether a setting names a field that it can take.

    Args:
        fields: of the data. option: as it is typed.
        advice: what to type instead, with `{known}` where the fields of that scope and kind are listed.

    Raises:
        RecsysLabError: for a field that is not there, or of another scope or kind.
    """
    found = fields.get(key)
    if found is not None and (found.scope, found.kind) == (scope, kind):
        return
    known = ", ".join(name for name, one in fields.items() if (one.scope, one.kind) == (scope, kind))
    problem = "is no field of the data" if found is None else f"is {found.kind}, of the {owners(found.scope)}"
    said = f"{option}: {key!r} {problem}; {advice.replace('{known}', known or 'none')}"
    if found is not None and found.scope == scope:
        numbers = ", if its values are numbers" if kind == "numeric" else ""
        said += f". It is one where the data is prepared with --fields {key.rpartition('.')[2]}={kind}{numbers}"
    raise RecsysLabError(said)
