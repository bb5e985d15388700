"""ShardStore: where the shards of a set lie, and which of them are open; ShardedArray: one column of all shards,
indexed by the flat positions of the whole set."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lab.data.histories import had_before
from recsys_lab.data.prepare.processed import SHARDS
from recsys_lab.data.prepare.store import exclusive
from recsys_lab.data.reading.addresses import shown, without_secrets
from recsys_lab.words import RecsysLabError

FOLDER = "shards"
MOST_OPEN = 64
"""Shards whose arrays are mapped at once."""


@dataclass
class Shard:
    """The events of some users. arrays: by name, `offsets` (local) and `users` (rows in the whole set) among them."""

    arrays: dict[str, np.ndarray]
    derived: dict[str, np.ndarray] = field(default_factory=dict)  # columns that are made of the others


def folder_name(number: int) -> str:
    return f"{number:05d}"


class ShardStore:
    """Opens shards; those of an address are fetched into a folder that holds at most `cache_bytes` of them.

    Args:
        root: the local folder of the set: its tables, and `shards/` with the shards or with copies of them.
        about: of `shards.json`.
        shard_of: (U,) shard of each user. offsets: (U + 1,) of the whole set.
        address: where the shards are, if they are not in `root`.
        cache_bytes: of copies; the one that was used longest ago goes first.
    """

    def __init__(
        self,
        root: Path,
        about: dict[str, Any],
        shard_of: np.ndarray,
        offsets: np.ndarray,
        address: str | None = None,
        cache_bytes: float = float("inf"),
    ) -> None:
        self.root, self.about, self.address, self.cache_bytes = root, about, address, cache_bytes
        self.shard_of, self.offsets = shard_of, np.asarray(offsets)
        largest = max((self.bytes_of(number) for number in range(len(self))), default=0)
        if address is not None and largest > cache_bytes:
            raise RecsysLabError(
                f"data.cache_gb {cache_bytes / 1e9:g} is less than a shard of {shown(address)} has: at least "
                f"{largest / 1e9:.3g}"
            )
        self._local_start: np.ndarray | None = None
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._last: tuple[Any, ...] = (None, None, None)
        self._files: tuple[int, Any, str] = (0, None, "")  # of the process that opened it

    def __len__(self) -> int:
        return len(self.about["shards"])

    def __getstate__(self) -> dict[str, Any]:
        """A worker process opens its own."""
        return self.__dict__ | {"_open": OrderedDict(), "_last": (None, None, None), "_files": (0, None, "")}

    def bytes_of(self, number: int) -> int:
        return sum(one["bytes"] for one in self.about["shards"][number]["files"].values())

    @property
    def local_start(self) -> np.ndarray:
        """(U,) where each user begins in the arrays of its shard."""
        if self._local_start is None:
            lengths = np.diff(self.offsets)
            order = np.argsort(self.shard_of, kind="stable")
            ends = np.cumsum(lengths[order])
            first = np.searchsorted(self.shard_of[order], np.arange(len(self)))  # of each shard in that order
            base = np.append(0, ends)[first]
            self._local_start = np.empty(len(lengths), dtype=np.int64)
            self._local_start[order] = ends - lengths[order] - base[self.shard_of[order]]
        return self._local_start

    def place(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flat positions of the whole set, any shape -> the shard of each, and its position there."""
        if self._last[0] is not position:  # items and times of a batch are asked for by one array
            user = np.searchsorted(self.offsets, position, side="right") - 1
            found = self.shard_of[user], self.local_start[user] + position - self.offsets[user]
            self._last = (position, *found)
        return self._last[1], self._last[2]

    def shard(self, number: int) -> Shard:
        """Maps its arrays, and fetches them first where they are not here."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        folder, files = self.root / FOLDER / folder_name(number), self.about["shards"][number]["files"]
        if self.address is None:
            found = self._mapped(folder, files)
        else:
            with exclusive(self.root / FOLDER):  # of all processes here: nobody takes away what another opens
                if not folder.is_dir():
                    self._make_room(self.bytes_of(number))
                    self._fetch(number, folder, files)
                os.utime(folder)
                found = self._mapped(folder, files)
        self._open[number] = Shard(found)
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return self._open[number]

    def each(self) -> Iterator[Shard]:
        for number in range(len(self)):
            yield self.shard(number)

    def forget(self) -> None:
        """Closes all maps."""
        self._open.clear()

    def _mapped(self, folder: Path, files: dict[str, Any]) -> dict[str, np.ndarray]:
        found = {}
        for name, about in files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != about["bytes"]:
                raise RecsysLabError(f"{path} is missing or has not the {about['bytes']} bytes that {SHARDS} says")
            found[name.removesuffix(".npy")] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        return found

    def _make_room(self, needed: int) -> None:
        kept = [path for path in (self.root / FOLDER).glob("[0-9]*") if path.is_dir()]
        sizes = {path: self.bytes_of(int(path.name)) for path in kept}
        for path in sorted(kept, key=lambda path: path.stat().st_mtime_ns):
            if sum(sizes.values()) + needed <= self.cache_bytes:
                break
            shutil.rmtree(path)  # who has it mapped keeps the pages
            del sizes[path]

    def _fetch(self, number: int, folder: Path, files: dict[str, Any]) -> None:
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for name, about in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            self.fetch_file(f"{FOLDER}/{folder_name(number)}/{name}", part / name)
            with (part / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != about["sha256"]:
                raise RecsysLabError(f"{name} of shard {number} of {shown(str(self.address))} is not what was prepared")
        os.replace(part, folder)

    def fetch_file(self, name: str, to: Path) -> None:
        """Raises RecsysLabError, without any password of the address, when it can't be had."""
        assert self.address is not None
        if self._files[0] != os.getpid():  # connections don't outlive a fork
            self._files = (os.getpid(), *opened(self.address))
        _, files, base = self._files
        get_file(files, f"{base}/{name}", to, self.address)


def opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    import fsspec

    try:
        files, base = fsspec.core.url_to_fs(address, skip_instance_cache=True)
    except (ImportError, ValueError) as error:
        raise RecsysLabError(
            f"{shown(address)} can't be read: {without_secrets(str(error), address)}. For s3:// install "
            "recsys-lab[remote]"
        ) from None
    return files, base.rstrip("/")


TRIES = 3


def get_file(files: Any, name: str, to: Path, address: str) -> None:
    for left in reversed(range(TRIES)):
        try:
            files.get_file(name, str(to))
            return
        except Exception as error:  # each store has its own
            with suppress(OSError):
                to.unlink()
            if not left or isinstance(error, FileNotFoundError):
                why = without_secrets(str(error), address) or type(error).__name__
                raise RecsysLabError(f"{name.rpartition('/')[2]} of {shown(address)} can't be read: {why}") from None
            time.sleep(2.0 ** (TRIES - left))


class ShardedArray:
    """A column of all events, as a numpy array is indexed by flat positions: only the shards that are asked for are
    opened. `np.asarray` reads everything.

    Args:
        name: of the array in the shards.
        dtype: of it. most: no value is larger.
        derive: what is made of a shard instead of reading it, and kept while it is open.
    """

    def __init__(
        self,
        store: ShardStore,
        name: str,
        dtype: str,
        most: int | None = None,
        derive: Callable[[dict[str, np.ndarray]], np.ndarray] | None = None,
    ) -> None:
        self.store, self.name, self.dtype, self.most, self.derive = store, name, np.dtype(dtype), most, derive
        self.shape = (int(store.offsets[-1]),)
        self.is_sharded = True  # nobody makes one array of it unasked
        self.ndim = 1

    def __len__(self) -> int:
        return self.shape[0]

    def of(self, number: int) -> np.ndarray:
        """Of one shard."""
        shard = self.store.shard(number)
        if self.derive is None:
            return shard.arrays[self.name]
        if self.name not in shard.derived:
            shard.derived[self.name] = self.derive(shard.arrays)
        return shard.derived[self.name]

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            at = np.arange(*at.indices(len(self)))
        elif not isinstance(at, np.ndarray):
            at = np.asarray(at)
        if at.dtype == np.bool_:
            at = np.flatnonzero(at)
        shard, local = self.store.place(at)
        numbers = np.unique(shard)
        if len(numbers) == 1:
            return self.of(int(numbers[0]))[local]
        found = np.empty(at.shape, dtype=self.dtype)
        for number in numbers:
            here = shard == number
            found[here] = self.of(int(number))[local[here]]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[np.arange(len(self))]
        return whole if dtype is None else whole.astype(dtype)

    def derived(self, name: str, dtype: str, derive: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Any:
        """Another column, made of the arrays of each shard when it is asked for."""
        return ShardedArray(self.store, name, dtype, None, derive)

    def had_before(self, user: np.ndarray, position: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """As `histories.had_before`, shard by shard."""
        store, found = self.store, np.zeros(asked.shape, dtype=bool)
        shard = store.shard_of[user]
        local = store.local_start[user] + position - store.offsets[user]
        for number in np.unique(shard):
            here, arrays = shard == number, store.shard(int(number)).arrays
            own = np.searchsorted(arrays["users"], user[here])
            found[here] = had_before(self.of(int(number)), arrays["offsets"], own, local[here], asked[here])
        return found

    def max(self, initial: int = 0) -> int:
        """A bound."""
        return int(np.asarray(self).max(initial=initial)) if self.most is None else max(self.most, initial)
