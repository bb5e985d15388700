"""TaskQueue: rounds of independent tasks in a folder, for any number of processes on any machines that see it."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

try:
    import fcntl
except ImportError:  # Windows: no lock; a task may be done twice, and the first result stays
    fcntl = None  # type: ignore[assignment]

LONGEST_WAIT = 0.5
OVER = "over"


class Over(Exception):
    """Another process has done the last task."""


class TaskQueue:
    """A task is a number in a round, and done when its folder is there: `<round>/<number>`. A process takes a task by a
    lock, which the system frees when the process ends or is killed; whoever takes it next begins it anew.

    Args:
        root: the folder.
        first: the task that this process looks at first.
        parent: the process that started this one; when that is gone, this one ends.
    """

    def __init__(self, root: Path, first: int = 0, parent: int | None = None) -> None:
        self.root, self.first, self.parent = root, first, parent

    def do(self, name: str, number: int, task: Callable[[int, Path], None]) -> Path:
        """One round: returns its folder when all its tasks are done, here or elsewhere. task: writes into a folder."""
        home = self.root / name
        home.mkdir(parents=True, exist_ok=True)
        left, wait = [(self.first + one) % number for one in range(number)], 0.01
        while left:
            before = len(left)
            left = [one for one in left if not self._is_done(home, one, task)]
            if left and len(left) == before:
                self._still_wanted()
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
        return home

    def end(self) -> None:
        """Removes what the rounds wrote; processes that still look for tasks find that all is over."""
        (self.root / OVER).touch()
        for path in self.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def _still_wanted(self) -> None:
        if (self.root / OVER).exists():
            raise Over
        if self.parent is not None and os.getppid() != self.parent:
            os._exit(1)  # not an exception: nobody is there to take it

    def _is_done(self, home: Path, number: int, task: Callable[[int, Path], None]) -> bool:
        done = home / f"{number:05d}"
        if done.is_dir():
            return True
        self._still_wanted()
        with _taken(home / f".{done.name}.lock") as lock:
            if lock != "of another" and not done.is_dir():
                for left in home.glob(f".{done.name}.part-*") if lock == "mine" else ():  # of killed processes
                    shutil.rmtree(left, ignore_errors=True)
                part = home / f".{done.name}.part-{uuid.uuid4().hex[:12]}"
                part.mkdir()
                task(number, part)
                try:
                    os.replace(part, done)
                except OSError:
                    shutil.rmtree(part, ignore_errors=True)
                    if not done.is_dir():
                        raise
            return done.is_dir()


@contextmanager
def _taken(path: Path) -> Iterator[Literal["mine", "of another", "none"]]:
    """Tries to take a lock. "none": here are no locks."""
    lock: Literal["mine", "of another", "none"] = "none"
    with path.open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock = "mine"
            except BlockingIOError:
                lock = "of another"
            except OSError:  # this file system has none
                pass
        yield lock
