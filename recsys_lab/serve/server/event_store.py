"""EventStore: the events of users, kept so that what was acknowledged is never lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recsys_lab.words import RecsysLabError

MAX_KEPT = 10_000
"""Newest events of a user that are read."""


class StoreError(Exception):
    """The events can't be written or read now."""


@dataclass(frozen=True)
class StoredEvent:
    """item: raw id. timestamp: seconds since 1970. id: of the caller, unique to the user. received: when it came."""

    user: str
    item: int | str
    timestamp: int
    received: float
    fields: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


class EventStore(Protocol):
    """Called from several threads. Each method raises StoreError when it can't do what it says."""

    def add(self, events: Sequence[StoredEvent]) -> list[bool]:
        """All or none. When it returns they outlive the process. -> which were new: others have the id of one that is
        there."""

    def of_users(self, users: Sequence[str]) -> list[list[StoredEvent]]:
        """The newest `MAX_KEPT` events of each, oldest first; of one second in the order in which they came."""

    def delete_user(self, user: str) -> int:
        """-> how many events are gone, for good."""

    def forget(self, before: float) -> int:
        """Removes what was received before that time. -> how many."""

    def check(self) -> None:
        """Raises StoreError when events could not be written now."""

    def close(self) -> None: ...


def open_store(place: str) -> EventStore:
    """A file, or `redis://HOST:PORT/NUMBER`.

    Raises:
        RecsysLabError: when it can't be opened.
    """
    try:
        if place.partition("://")[0] in ("redis", "rediss", "unix"):
            from recsys_lab.serve.server.redis_events import RedisEvents

            return RedisEvents(place)
        if "://" in place:
            raise RecsysLabError("--events is a file, or redis://HOST:PORT/NUMBER")
        from recsys_lab.serve.server.sqlite_events import SqliteEvents

        return SqliteEvents(Path(place))
    except StoreError as error:
        raise RecsysLabError(f"--events: {error}") from error
