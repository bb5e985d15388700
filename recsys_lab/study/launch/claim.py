"""A claim on a run folder: one worker at a time, on one machine or on several that share a file system.

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
BEAT_SECONDS = 15.0
STALE_SECONDS = 180.0
"""Without a heartbeat for so long, a claim of another host counts as abandoned: clocks differ, file servers lag."""


def owner(folder: Path) -> dict[str, Any] | None:
    """Who works in `folder` now: host, pid, since; None for nobody."""
    path = folder / FILE
    try:
        age = time.time() - path.stat().st_mtime
        found: dict[str, Any] = json.loads(path.read_text() or "{}")
    except (OSError, ValueError):
        return None
    if found.get("host") == socket.gethostname():
        return found if is_alive(found.get("pid"), found.get("process_started")) else None
    return found if age < STALE_SECONDS else None


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Claims `folder` while the block runs; gives False, and claims nothing, where somebody else has it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _take(folder):
        yield False
        return
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(folder / FILE, done), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        done.set()
        beat.join()
        (folder / FILE).unlink(missing_ok=True)


def _take(folder: Path) -> bool:
    path = folder / FILE
    me = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    mine = folder / f"{FILE}.{me['host']}.{os.getpid()}.{threading.get_ident()}"
    mine.write_text(json.dumps(me))
    try:
        for _ in range(2):
            try:
                os.link(mine, path)  # whole or not at all, and only where there is none: also on network file systems
                return True
            except FileExistsError:
                if owner(folder) is not None:
                    return False
                path.unlink(missing_ok=True)
        return False
    finally:
        mine.unlink(missing_ok=True)


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
