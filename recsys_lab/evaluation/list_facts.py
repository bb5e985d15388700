"""What is known of recommended items: their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.words import ITEM_ID, RecsysLabError


def item_features(table: pl.DataFrame, columns: Sequence[str] | None = None) -> Any:
    """Multi-hot features of the items.

    Args:
        table: row i - 1 belongs to item i.
        columns: which; None = the lists of names, and the names that two items share on average (so no titles).

    Returns:
        (V, F) scipy sparse matrix with row 0 empty, F = distinct (column, value); None where there are no features.

    Raises:
        RecsysLabError: for a column that is not there, or that holds no names.
    """
    from scipy import sparse

    missing = [name for name in columns or () if name not in table.columns]
    if missing:
        known = ", ".join(name for name in table.columns if name != ITEM_ID) or "none"
        raise RecsysLabError(f"the item table has no feature {', '.join(map(repr, missing))}; it has: {known}")
    parts = []
    for name in columns if columns is not None else [name for name in table.columns if name != ITEM_ID]:
        column = table[name]
        is_list = isinstance(column.dtype, pl.List)
        kind = column.dtype.inner if isinstance(column.dtype, pl.List) else column.dtype
        if columns is None and (kind not in (pl.String, pl.Categorical) or not (is_list or _is_shared(column))):
            continue
        if kind.is_nested() or kind.is_float():
            raise RecsysLabError(f"feature {name!r} holds {column.dtype}; diversity needs names or whole numbers")
        values = column.cast(pl.List(pl.String)) if is_list else column.cast(pl.String).reshape((-1, 1)).arr.to_list()
        frame = pl.DataFrame({"row": np.arange(1, len(table) + 1), "value": values}).explode("value").drop_nulls()
        parts.append(frame.select("row", pl.format(f"{name}={{}}", "value").alias("value")).unique())
    pairs = pl.concat(parts) if parts else None
    if pairs is None or not len(pairs):
        return None
    code = pairs["value"].rank("dense").to_numpy().astype(np.int64) - 1
    shape = (len(table) + 1, int(code.max()) + 1)
    return sparse.csr_matrix((np.ones(len(code)), (pairs["row"].to_numpy(), code)), shape=shape)


def _is_shared(column: pl.Series) -> bool:
    return 0 < 2 * column.drop_nulls().n_unique() <= len(column.drop_nulls())
