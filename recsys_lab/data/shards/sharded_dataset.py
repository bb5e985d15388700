"""ShardedDataset: a prepared set whose events lie in shards. Everything else of it is as of any prepared set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lab.data.prepare.manifest import ProcessedDatasetError, read_manifest
from recsys_lab.data.prepare.processed import MANIFEST, SHARDS, ProcessedDataset
from recsys_lab.data.reading.addresses import shown
from recsys_lab.data.shards.shard_store import FOLDER, ShardedArray, ShardStore, folder_name, get_file, opened
from recsys_lab.words import RecsysLabError

SHARD_OF = "shard_of.npy"


class ShardedDataset(ProcessedDataset):
    """As `ProcessedDataset`: the same manifest, hashes, users and items; event columns are `ShardedArray`s.

    Attributes:
        store: opens the shards.
        shard_of: (U,) the shard of each user.
    """

    store: ShardStore
    shard_of: np.ndarray

    @classmethod
    def open(cls, path: str | Path, verify: bool = False) -> ShardedDataset:
        """Opens the folder that `cut` wrote. verify: read every file of every shard and compare it with its hash."""
        data = cls._opened(Path(path).absolute(), None, float("inf"))
        if verify:
            data.verify()
        return data

    @classmethod
    def open_remote(cls, address: str, cache_dir: Path, cache_gb: float) -> ShardedDataset:
        """Opens what lies at an address (`s3://bucket/name`): its tables are fetched now, shards when they are asked
        for.

        Args:
            cache_dir: folder of copies, one below it for each address.
            cache_gb: the most that copies of shards of this address take, in 10^9 bytes.
        """
        root = cache_dir.absolute() / hashlib.sha256(address.encode()).hexdigest()[:12]
        root.mkdir(parents=True, exist_ok=True)
        files, base = opened(address)
        get_file(files, f"{base}/{SHARDS}", root / SHARDS, address)
        about = json.loads((root / SHARDS).read_text())
        for name, one in about["files"].items():
            if not _is_whole(root / name, one):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                get_file(files, f"{base}/{name}", root / name, address)
                if not _is_whole(root / name, one):
                    raise RecsysLabError(f"{name} of {shown(address)} is not what was prepared: fetch it anew")
        return cls._opened(root, address, cache_gb * 1e9)

    @classmethod
    def _opened(cls, root: Path, address: str | None, cache_bytes: float) -> ShardedDataset:
        about = json.loads((root / SHARDS).read_text())
        manifest = read_manifest(root)
        shard_of = np.load(root / SHARD_OF, mmap_mode="r")
        in_shards: dict[str, str] = about["arrays"]
        arrays: dict[str, Any] = {
            name: np.load(root / f"{name}.npy", mmap_mode="r") for name in manifest["arrays"] if name not in in_shards
        }
        store = ShardStore(root, about, np.asarray(shard_of), arrays["offsets"], address, cache_bytes)
        for name, dtype in in_shards.items():
            most = manifest["num_items"] if name == "item_ids" else None
            arrays[name] = ShardedArray(store, name, dtype, most)
        data = cls(root, manifest, arrays)
        data.store, data.shard_of, data.about = store, store.shard_of, about
        return data

    about: dict[str, Any]

    def __reduce__(self) -> Any:
        return ShardedDataset._opened, (self.path, self.store.address, self.store.cache_bytes)

    def fact(self, name: str, train_stop: np.ndarray, count: Callable[[], Any]) -> Any:
        """What was counted over the training part when the shards were cut, where it is the same part; else counted
        now, which reads every shard."""
        known = self.about["facts"]
        if known["train_hash"] == hashlib.sha256(np.ascontiguousarray(train_stop).tobytes()).hexdigest():
            return np.load(self.path / "item_counts.npy") if name == "item_counts" else known[name]
        return count()

    def verify(self) -> None:
        """Raises RecsysLabError naming the first file that is not what was prepared."""
        wanted = {
            f"{FOLDER}/{folder_name(number)}/{name}": one
            for number, about in enumerate(self.about["shards"])
            for name, one in about["files"].items()
        }
        for name, one in {**self.about["files"], **wanted}.items():
            if not _is_whole(self.path / name, one):
                raise ProcessedDatasetError(f"{self.path / name} is not what was prepared: cut the shards again")


def _is_whole(path: Path, about: dict[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != about["bytes"]:
        return False
    with path.open("rb") as file:
        return bool(hashlib.file_digest(file, "sha256").hexdigest() == about["sha256"])


def is_sharded(folder: Path) -> bool:
    return (folder / SHARDS).is_file() and (folder / MANIFEST).is_file()
