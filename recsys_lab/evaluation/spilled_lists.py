"""SpilledLists: the lists of many users, of several processes and in any order, brought into one order through files.

Nothing but one range of users is ever held: memory grows neither with the users nor with the length of the lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

RANGE_ROWS = 1 << 20
"""Places of lists (users times K) that are held at once: 8 bytes each here, some 50 as a table."""


class SpilledLists:
    """Each process appends to files of its own, one for each range of users; then one process reads range by range.

    Args:
        folder: exists, and every process sees it.
        k: K, length of the lists.
        process: number of this process.
    """

    def __init__(self, folder: Path, k: int, process: int = 0) -> None:
        self.folder, self.process = folder, process
        self.record = np.dtype([("user", "i8"), ("time", "i8"), ("items", "i4", (k,)), ("scores", "f4", (k,))])
        self.users_per_range = max(1, RANGE_ROWS // k)
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0

    def add(self, user: np.ndarray, time: np.ndarray, items: np.ndarray, scores: np.ndarray) -> None:
        """user, time: (B,) integers. items: (B, K) integers below 2^31. scores: (B, K) float32."""
        lists = np.empty(len(user), dtype=self.record)
        lists["user"], lists["time"], lists["items"], lists["scores"] = user, time, items, scores
        self._waiting.append(lists)
        self._num_waiting += len(lists)
        if self._num_waiting >= self.users_per_range:
            self.flush()

    def flush(self) -> None:
        """Writes what waits: to be called before anybody reads."""
        if not self._waiting:
            return
        lists = _in_order(self._waiting)
        self._waiting, self._num_waiting = [], 0
        number = lists["user"] // self.users_per_range
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        for start, part in zip(starts, np.split(lists, starts[1:]), strict=True):
            with (self.folder / f"{number[start]}.{self.process}").open("ab") as file:
                part.tofile(file)

    def ranges(self) -> Iterator[np.ndarray]:
        """The lists of all processes, range by range: (n,) records `user, time, items (K,), scores (K,)`, ascending."""
        files: dict[int, list[Path]] = {}
        for file in self.folder.iterdir():
            files.setdefault(int(file.name.partition(".")[0]), []).append(file)
        for number in sorted(files):
            yield _in_order([np.fromfile(file, dtype=self.record) for file in sorted(files[number])])


def _in_order(parts: list[np.ndarray]) -> np.ndarray:
    lists = np.concatenate(parts)
    return lists[np.lexsort((lists["time"], lists["user"]))]
