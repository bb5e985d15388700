"""Raw ids and values as tensors, for checkpoints: a million take tenths of a second, and no pickle is needed to read
them."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import torch
from torch import Tensor


def pack(values: pl.Series) -> dict[str, Tensor]:
    """Values as plain tensors.

    Args:
        values: (N,) whole numbers, or what has a text (strings, truth values, numbers); none of them null.

    Returns:
        `numbers` (N,) int64; or `utf8` (bytes,) uint8, all texts back to back, and `ends` (N,) int64, where each ends.
    """
    if values.dtype.is_integer() and values.dtype != pl.UInt64:
        return {"numbers": torch.from_numpy(values.cast(pl.Int64).to_numpy().copy())}
    text = values.cast(pl.String)
    ends = np.cumsum(text.str.len_bytes().cast(pl.Int64).to_numpy(), dtype=np.int64)
    utf8 = np.frombuffer("".join(text.to_list()).encode(), dtype=np.uint8).copy()
    return {"utf8": torch.from_numpy(utf8), "ends": torch.from_numpy(ends)}


def unpack(packed: dict[str, Tensor]) -> pl.Series:
    """The values that `pack` packed: int64, or strings."""
    if "numbers" in packed:
        return pl.Series(packed["numbers"].numpy(), dtype=pl.Int64)
    whole, ends = packed["utf8"].numpy().tobytes(), packed["ends"].tolist()
    starts = [0, *ends[:-1]]
    return pl.Series([whole[a:b].decode() for a, b in zip(starts, ends, strict=False)], dtype=pl.String)


def digest(values: pl.Series) -> str:
    """16 hex digits of the values in their order; the same on every machine."""
    found = hashlib.sha256()
    for name, tensor in pack(values).items():
        found.update(name.encode())
        found.update(tensor.numpy().astype(tensor.numpy().dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()[:16]
