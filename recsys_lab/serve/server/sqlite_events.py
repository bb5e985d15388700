"""SqliteEvents: events in one file on this machine."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from recsys_lab.serve.server.event_store import MAX_KEPT, StoredEvent, StoreError

log = logging.getLogger("recsys_lab")

Result = TypeVar("Result")

SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY,
    user TEXT NOT NULL, item TEXT NOT NULL, timestamp INTEGER NOT NULL, received REAL NOT NULL, fields TEXT NOT NULL,
    id TEXT, UNIQUE (user, id)
) STRICT;
CREATE INDEX IF NOT EXISTS by_user ON events (user, timestamp, number);
CREATE INDEX IF NOT EXISTS by_age ON events (received);
PRAGMA user_version = 1;
COMMIT;
"""


def _make(path: Path) -> None:
    """The file, where it is not there, for this user alone: it holds what others did.

    Raises:
        StoreError: for a database of another program or of a newer version, which stays as it is.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    look = sqlite3.connect(path, timeout=5, isolation_level=None)
    try:
        version = look.execute("PRAGMA user_version").fetchone()[0]
        tables = [name for (name,) in look.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    finally:
        look.close()
    if version == 0 and tables:
        raise StoreError(f"{path} is a database of another program: it has a table {tables[0]!r}")
    if version not in (0, 1):
        raise StoreError(f"{path} has format {version}, and this version of recsys_lab reads 1")


class SqliteEvents:
    """See `EventStore`. Several servers of one machine may share the file.

    A commit waits for the disk (`synchronous = FULL`); what is deleted is overwritten, also in the log of the changes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reading, self._writing = threading.Lock(), threading.Lock()  # who needs both takes them in this order
        self._log_holds_deleted = False
        try:
            _make(path)
            self._writer, self._reader = self._connection(), self._connection()
            self._writer.executescript(SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path} can't be opened: {getattr(error, 'strerror', None) or error}") from error

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def add(self, events: Sequence[StoredEvent]) -> list[bool]:
        rows = [(e.user, json.dumps(e.item), e.timestamp, e.received, json.dumps(e.fields), e.id) for e in events]
        add = "INSERT OR IGNORE INTO events (user, item, timestamp, received, fields, id) VALUES (?, ?, ?, ?, ?, ?)"
        return self._write(lambda to: [to.execute(add, row).rowcount == 1 for row in rows])

    def of_users(self, users: Sequence[str]) -> list[list[StoredEvent]]:
        read = (
            "SELECT user, item, timestamp, received, fields, id FROM events WHERE user = ? "
            f"ORDER BY timestamp DESC, number DESC LIMIT {MAX_KEPT}"
        )
        with self._reading:
            try:
                rows = [self._reader.execute(read, (user,)).fetchall() for user in users]
            except sqlite3.Error as error:
                raise StoreError(f"the events can't be read: {error}") from error
        return [
            [
                StoredEvent(u, json.loads(item), at, came, json.loads(fields), id)
                for u, item, at, came, fields, id in own
            ]
            for own in (own[::-1] for own in rows)
        ]

    def delete_user(self, user: str) -> int:
        return self._remove("DELETE FROM events WHERE user = ?", user)

    def forget(self, before: float) -> int:
        return self._remove("DELETE FROM events WHERE received < ?", before)

    def check(self) -> None:
        self._write(lambda to: to.execute("SELECT 1 FROM events LIMIT 1").fetchone())

    def close(self) -> None:
        with self._reading, self._writing:
            self._reader.close()
            self._writer.close()

    def _remove(self, delete: str, value: str | float) -> int:
        with self._reading, self._writing:  # a reader would keep the old pages in the log of the changes
            gone = self._write_alone(lambda to: to.execute(delete, (value,)).rowcount)
            if gone or self._log_holds_deleted:
                self._empty_the_log()
        return gone

    def _empty_the_log(self) -> None:
        """What was deleted also stands in the log of the changes, until that is emptied."""
        try:
            busy = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error:
            busy = 1
        self._log_holds_deleted = bool(busy)
        if busy:
            log.warning(
                "%s-wal still holds what was deleted, since another program reads the events: it is tried again at the "
                "next deletion, and the last program that closes them removes it",
                self.path,
            )

    def _write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._writing:
            return self._write_alone(work)

    def _write_alone(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """With `_writing` held: the connection has one transaction at a time."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                done = work(self._writer)
                self._writer.execute("COMMIT")
                return done
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"the events can't be written: {error}") from error
