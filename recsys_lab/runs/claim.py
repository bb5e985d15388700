"""A claim on a run folder: one worker at a time, on one machine or on several that share a file system.

There are two: a study's worker claims the runs that it starts (`FILE`), and every `recsys-lab fit`, started by hand or
by a worker, claims the folder that it writes in (`FIT`).

A file that only one process can make holds the owner; its time of change is a heartbeat. A claim is stale when its
process is gone (same host) or its heart has stopped (another host).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "claim.json"
FIT = "fit_claim.json"
BEAT_SECONDS = 15.0
STALE_SECONDS = 180.0
"""Without a heartbeat for so long, a claim of another host counts as abandoned: clocks differ, file servers lag."""


def owner(folder: Path, file: str = FILE) -> dict[str, Any] | None:
    """Who works in `folder` now: host, pid, since; None for nobody."""
    path = folder / file
    try:
        age = time.time() - path.stat().st_mtime
        found: dict[str, Any] = json.loads(path.read_text() or "{}")
    except (OSError, ValueError):
        return None
    if found.get("host") == socket.gethostname():
        return found if is_alive(found.get("pid"), found.get("process_started")) else None
    return found if age < STALE_SECONDS else None


@contextlib.contextmanager
def claimed(folder: Path, file: str = FILE) -> Iterator[bool]:
    """Claims `folder` while the block runs; gives False, and claims nothing, where somebody else has it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _take(folder, file):
        yield False
        return
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(folder / file, done), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        done.set()
        beat.join()
        (folder / file).unlink(missing_ok=True)


def _take(folder: Path, file: str) -> bool:
    path = folder / file
    me = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    mine = folder / f"{file}.{me['host']}.{os.getpid()}.{threading.get_ident()}"
    try:
        mine.write_text(json.dumps(me))
        for _ in range(2):
            try:
                _make(mine, path)
                return True
            except FileExistsError:
                if owner(folder, file) is not None:
                    return False
                path.unlink(missing_ok=True)
        return False
    except OSError as error:
        error.add_note(f"writing {path}")  # a full disk's own error names no file
        raise
    finally:
        mine.unlink(missing_ok=True)


def _make(mine: Path, path: Path) -> None:
    """`path` with what `mine` holds, only where there is none.

    Raises:
        FileExistsError: where there is one.
    """
    try:
        os.link(mine, path)  # whole or not at all: also on network file systems
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links; an empty claim, for the moment that it is empty, counts
        text = mine.read_text()
        with path.open("x") as file:
            file.write(text)


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)


def is_alive(pid: Any, started: Any) -> bool:
    """Whether the process `pid` of this host is still the one that began at `started` (see `process_started`)."""
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process_started(pid) == started  # else the number was given to another process since


def process_started(pid: int) -> str | None:
    """When the kernel started it, in ticks since boot (Linux); None where that can't be read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
