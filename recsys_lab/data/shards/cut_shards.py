"""`prepare --shards N`: a prepared set -> the same set in N shards of whole users, by a hash of the raw user id.

plan    which user goes where, tables, offsets: seconds at any size
shard   copies the events of one shard; each is a task of its own, in any process, in any order
finish  hashes, and what the training part of leave-one-out counts; the folder is whole from then on
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.histories import positions
from recsys_lab.data.prepare.processed import MANIFEST, SHARDS, ProcessedDataset
from recsys_lab.data.prepare.stamp import STAMP
from recsys_lab.data.prepare.store import exclusive
from recsys_lab.data.prepare.tie_order import hashed_ids
from recsys_lab.data.shards.shard_store import FOLDER, folder_name
from recsys_lab.data.shards.sharded_dataset import SHARD_OF, ShardedDataset
from recsys_lab.data.split.leave_one_out import LeaveOneOut
from recsys_lab.data.training_counts import count_items, mean_gap
from recsys_lab.words import RecsysLabError

USERS_AT_ONCE = 1 << 16
MOST_SHARDS = 60_000
PART = "part.json"
"""Of a shard that is written whole."""


def shards_of(users: pl.Series, number: int) -> np.ndarray:
    """(U,) uint16 from the raw ids alone: the same in every process and version, and whatever other users there are."""
    return (hashed_ids(users) % np.uint64(number)).astype(np.uint16)


def plan(folder: Path, output: Path, number: int) -> list[int]:
    """Begins `output`, or goes on with it; -> the shards that are still to be written."""
    data = ProcessedDataset.open(folder)
    if isinstance(data, ShardedDataset):
        raise RecsysLabError(f"{folder} is in shards already")
    if data.num_impressions:
        raise RecsysLabError(f"{data.name!r} has impressions, which can't be in shards yet")
    if not 1 <= number <= MOST_SHARDS:
        raise RecsysLabError(f"--shards must be between 1 and {MOST_SHARDS:,}, got {number}")
    wanted = {"data": _digest(folder / MANIFEST), "shards": number}
    note = output / PART
    with exclusive(output):  # all tasks of a job array come here at once
        if not output.exists() or not note.is_file() or json.loads(note.read_text()) != wanted:
            if output.exists() and not (note.is_file() or (output / SHARD_OF).is_file() or (output / SHARDS).is_file()):
                raise RecsysLabError(f"{output} is there already and holds no shards: choose another --output")
            shutil.rmtree(output, ignore_errors=True)
            output.mkdir(parents=True)
            np.save(output / SHARD_OF, shards_of(data.user_ids, number))
            note.write_text(json.dumps(wanted))
    return [one for one in range(number) if not (output / FOLDER / folder_name(one) / PART).is_file()]


def write_shard(folder: Path, output: Path, number: int) -> None:
    """One task: the events of one shard, from the prepared set in `folder`."""
    data, shard_of = ProcessedDataset.open(folder), np.load(output / SHARD_OF, mmap_mode="r")
    offsets, users = np.asarray(data.offsets), np.flatnonzero(shard_of == number)
    lengths = np.diff(offsets)[users]
    home = output / FOLDER / folder_name(number)
    part = home.with_name(f".{home.name}.part-{os.getpid()}")
    files: dict[str, Any] = {}

    def write(name: str, dtype: Any, length: int, pieces: Any) -> None:
        path = part / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(length,))
        start = 0
        for piece in pieces:
            array[start : start + len(piece)] = piece
            start += len(piece)
        array.flush()
        files[path.relative_to(part).as_posix()] = about_file(path)

    write("users", np.int64, len(users), [users])
    write("offsets", np.int64, len(users) + 1, [np.append(0, np.cumsum(lengths))])
    blocks = [slice(first, first + USERS_AT_ONCE) for first in range(0, len(users), USERS_AT_ONCE)]
    for name in event_arrays(data):
        array = data.arrays[name]
        pieces = (array[positions(offsets[users[at]], lengths[at])] for at in blocks)
        write(name, array.dtype, int(lengths.sum()), pieces)
    (part / PART).write_text(json.dumps({"users": len(users), "events": int(lengths.sum()), "files": files}))
    if not (home / PART).is_file():  # else another task was faster, with the same
        shutil.rmtree(home, ignore_errors=True)
        os.replace(part, home)
    shutil.rmtree(part, ignore_errors=True)


def finish(folder: Path, output: Path) -> ShardedDataset:
    """When all shards are written.

    Raises:
        RecsysLabError: naming the shards that are not.
    """
    data = ProcessedDataset.open(folder)
    number = int(json.loads((output / PART).read_text())["shards"])
    missing = [one for one in range(number) if not (output / FOLDER / folder_name(one) / PART).is_file()]
    if missing:
        raise RecsysLabError(
            f"{output}: {len(missing)} of {number} shards are not written yet, the first is {missing[0]}"
        )
    shards = [json.loads((output / FOLDER / folder_name(one) / PART).read_text()) for one in range(number)]
    in_shards = {name: str(data.arrays[name].dtype) for name in event_arrays(data)}
    for path in sorted(data.path.rglob("*")):
        name = path.relative_to(data.path).as_posix()
        if path.is_file() and name.removesuffix(".npy") not in in_shards and name != STAMP:
            (output / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, output / name)
    stop = LeaveOneOut().apply(np.asarray(data.offsets), None).train_stop
    offsets = np.asarray(data.offsets)
    np.save(output / "item_counts.npy", count_items(np.asarray(data.item_ids), offsets, stop, data.num_items))
    used = stop[stop > offsets[:-1]]
    facts = {
        "train_hash": hashlib.sha256(np.ascontiguousarray(stop).tobytes()).hexdigest(),
        "mean_gap": mean_gap(np.asarray(data.timestamps), offsets, stop),
        "newest": int(data.timestamps[used - 1].max()) if len(used) else None,
    }
    kept = [path for path in sorted(output.rglob("*")) if path.is_file() and path.parts[len(output.parts)] != FOLDER]
    files = {path.relative_to(output).as_posix(): about_file(path) for path in kept if path.name not in (PART, SHARDS)}
    about = {"format": "recsys_lab.shards", "arrays": in_shards, "facts": facts, "files": files, "shards": shards}
    (output / f"{SHARDS}.part").write_text(json.dumps(about, indent=1))
    os.replace(output / f"{SHARDS}.part", output / SHARDS)  # last: a folder with it is whole
    return ShardedDataset.open(output)


def cut(folder: Path, output: Path, number: int, processes: int = 1) -> ShardedDataset:
    """All of it, or what is left of it after an interruption; what is whole and of the same data is opened."""
    left = plan(folder, output, number)
    if processes > 1 and len(left) > 1:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            list(pool.map(_task, [(write_shard, folder, output, one) for one in left]))
    else:
        for one in left:
            write_shard(folder, output, one)
    with exclusive(output):
        return finish(folder, output)


def _task(job: tuple[Callable[..., None], Any, Any, Any]) -> None:
    job[0](*job[1:])


def event_arrays(data: ProcessedDataset) -> list[str]:
    """Names of the arrays with a value for each event.

    Raises:
        RecsysLabError: where the events have lists or vectors.
    """
    found = ["item_ids", "timestamps"]
    for field in data.fields.values():
        if field.scope != "event" or field.kind == "text":
            if field.from_events:
                raise RecsysLabError(f"{field.key} comes from the events, which can't be in shards yet: {WAY_OUT}")
            continue
        if field.kind in ("multi", "vector"):
            raise RecsysLabError(f"the field {field.key} is {field.kind}, which can't be in shards yet: {WAY_OUT}")
        found.append(field.array)
    return found


WAY_OUT = "leave it out (--fields NAME=drop)"


def about_file(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
