"""Files with vectors of the user's own: raw ids, and a vector for each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys_lab.words import ITEM_ID, RecsysLabError

OPTION = "--model.item_vectors"


def matched(path: str | Path, raw_ids: pl.Series) -> tuple[Tensor, Tensor]:
    """-> (V, width) float32 vectors, zeros where there is none, and (V,) bool which items have one.

    Args:
        raw_ids: (num_items,) those of the data set: entry i - 1 belongs to item i.

    Raises:
        RecsysLabError: when no item of the data set has a vector in the file.
    """
    ids, vectors = read(path)
    place = pl.DataFrame({"id": ids.cast(pl.String), "row": range(len(ids))})
    wanted = raw_ids.rename("id").cast(pl.String).to_frame()
    row = wanted.join(place, on="id", how="left", maintain_order="left")["row"]
    if row.null_count() == len(row):
        raise RecsysLabError(
            f"{OPTION} {path}: none of its {len(ids)} ids is an item of the data set: its first is {ids[0]!r}, that of "
            f"the data set {raw_ids[0]!r}"
        )
    found = torch.zeros(len(raw_ids) + 1, vectors.shape[1])
    has_vector = torch.zeros(len(raw_ids) + 1, dtype=torch.bool)
    has_vector[1:] = row.is_not_null().to_torch()
    found[has_vector] = vectors[row.drop_nulls().cast(pl.Int64).to_torch()]
    return found, has_vector


def read(path: str | Path) -> tuple[pl.Series, Tensor]:
    """Ids (N,) and vectors (N, width) float32 of a file. Its ending says how it is read:

    `.parquet`: a column `item_id` and one of lists. `.npy`: the vectors, with the ids in `NAME.ids.npy` beside it.
    `.safetensors`: one tensor of two dimensions, and the ids as a tensor of whole numbers `item_id`, or as a JSON list
    in the metadata under `item_id`.

    Raises:
        RecsysLabError: for a file that is not there, is none of these, or whose ids or vectors can't be right.
    """
    kinds: dict[str, Callable[[Path], tuple[pl.Series, np.ndarray]]] = {
        ".parquet": _parquet,
        ".npy": _npy,
        ".safetensors": _safetensors,
    }
    kind = kinds.get(Path(path).suffix)
    if kind is None:
        raise RecsysLabError(f"{OPTION} {path}: the name must end in {', '.join(kinds)}")
    if not Path(path).is_file():
        raise RecsysLabError(f"{OPTION} {path} can't be read: no such file")
    try:
        ids, vectors = kind(Path(path))
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecsysLabError(f"{OPTION} {path} can't be read as a {Path(path).suffix} file: {why}") from error
    if vectors.ndim != 2 or not vectors.size or vectors.dtype.kind not in "fiu":
        shape = f"{vectors.dtype} of shape {vectors.shape}"
        raise RecsysLabError(f"{OPTION} {path}: its vectors are {shape}, and must be numbers of shape (N, D)")
    if len(ids) != len(vectors):
        raise RecsysLabError(f"{OPTION} {path} has {len(ids)} ids and {len(vectors)} vectors")
    if ids.null_count():
        raise RecsysLabError(f"{OPTION} {path}: {ids.null_count()} of {len(ids)} rows have no {ITEM_ID}")
    if ids.n_unique() != len(ids):
        twice = ids.filter(ids.is_duplicated())
        raise RecsysLabError(
            f"{OPTION} {path}: {ITEM_ID} must be there only once, and {twice[0]!r} is in "
            f"{ids.eq(twice[0]).sum()} rows; {twice.n_unique()} of {ids.n_unique()} ids have several"
        )
    numbers = torch.from_numpy(np.array(vectors, dtype=np.float32))
    bad = ~torch.isfinite(numbers).all(dim=1)
    if bad.any():
        raise RecsysLabError(
            f"{OPTION} {path}: {int(bad.sum())} of {len(ids)} vectors hold a value that is no finite number; the first "
            f"is that of {ITEM_ID} {ids[int(bad.int().argmax())]!r}"
        )
    return _whole(ids), numbers


def _whole(ids: pl.Series) -> pl.Series:
    """Whole numbers where floats are, as pandas writes them: 1.0 is the item 1."""
    if not ids.dtype.is_float() or not ((ids == ids.floor()) & ids.is_finite() & (ids.abs() < 2**53)).all():
        return ids
    return ids.cast(pl.Int64)


def _parquet(path: Path) -> tuple[pl.Series, np.ndarray]:
    frame = pl.read_parquet(path)
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if ITEM_ID not in frame.columns or len(lists) != 1:
        raise RecsysLabError(
            f"{OPTION} {path} must have a column {ITEM_ID} and one column of lists, the vectors; it has "
            f"{', '.join(f'{name} ({kind})' for name, kind in frame.schema.items())}"
        )
    column = frame[lists[0]].cast(pl.List(pl.Float32))
    lengths = column.list.len().fill_null(0)
    width = max(lengths.mode().to_list(), default=0)
    if not width or lengths.n_unique() != 1:
        which = frame.filter(lengths != (width or -1))[ITEM_ID].head(1).to_list()
        said = f": most have {width} numbers, and the first that doesn't is {ITEM_ID} {which[0]!r}" if which else ""
        raise RecsysLabError(
            f"{OPTION} {path}: the vectors in {lists[0]} are missing, empty or not of one length{said}"
        )
    flat = column.explode().fill_null(float("nan"))
    return frame[ITEM_ID], flat.to_numpy().reshape(len(frame), int(lengths[0]))


def _npy(path: Path) -> tuple[pl.Series, np.ndarray]:
    beside = path.with_suffix(".ids.npy")
    if not beside.is_file():
        raise RecsysLabError(f"{OPTION} {path} needs the ids of its rows, in the file {beside}: there is none")
    return pl.Series(ITEM_ID, np.load(beside, allow_pickle=False)), np.load(path, allow_pickle=False)


def _safetensors(path: Path) -> tuple[pl.Series, np.ndarray]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise RecsysLabError(
            f"{OPTION} {path} needs the package safetensors: pip install 'recsys-lab[text]'"
        ) from error
    try:
        with safe_open(path, framework="numpy") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            stated = (opened.metadata() or {}).get(ITEM_ID)
    except Exception as error:  # it raises a class of its own
        raise ValueError(str(error)) from error
    ids = tensors.pop(ITEM_ID, None)
    if (ids is None and stated is None) or len(tensors) != 1:
        names = ", ".join(f"{name} {value.shape}" for name, value in tensors.items()) or "none"
        raise RecsysLabError(
            f"{OPTION} {path} must hold one tensor of vectors, and the ids as a tensor {ITEM_ID} or in the metadata "
            f"under {ITEM_ID}; beside ids it has: {names}"
        )
    (vectors,) = tensors.values()
    return pl.Series(ITEM_ID, json.loads(str(stated)) if ids is None else ids), vectors
