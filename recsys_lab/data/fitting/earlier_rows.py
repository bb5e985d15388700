"""Which row of an earlier vocabulary's tables each row of today's is: matched by raw ids and raw values."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys_lab.data.fitting.fitted_fields import FIRST_VALUE
from recsys_lab.data.fitting.vocabulary import Vocabulary

ITEMS = "items"


def earlier_rows(now: Vocabulary, before: Vocabulary) -> dict[str, Tensor]:
    """Table -> (rows,) int64: the row in the tables of `before` that each row of `now` is, -1 where it has none.

    The tables are `items`, and each coded field by scope and name. An item that did not train before has no row there:
    what stands in it is what it was drawn as.
    """
    place = _places(before.item_ids, now.item_ids, first=1)
    rows = np.concatenate([[0], place])
    if before.item_counts is not None:
        counts = before.item_counts.cpu().numpy()
        rows[1:][counts[np.maximum(place, 0)] == 0] = -1
    found = {ITEMS: rows}
    earlier = {one.key: one for one in before.fields}
    for one in now.fields:
        if one.is_coded and one.key in earlier:
            fixed = np.arange(FIRST_VALUE)  # padding, and missing
            of_values = _places(earlier[one.key].values, one.values, first=FIRST_VALUE)
            found[f"{one.scope} {one.name}"] = np.concatenate([fixed, of_values])
    return {name: torch.from_numpy(values.astype(np.int64)) for name, values in found.items()}


def _places(known: pl.Series, asked: pl.Series, first: int) -> np.ndarray:
    """(N,) the row of each value of `asked`, where those of `known` have the rows from `first` on; -1 = none."""
    if known.dtype != asked.dtype:
        known, asked = known.cast(pl.String), asked.cast(pl.String)
    table = known.rename("value").to_frame().with_row_index("row", offset=first)
    joined = asked.rename("value").to_frame().join(table, on="value", how="left", maintain_order="left")
    return joined.select(pl.col("row").cast(pl.Int64).fill_null(-1)).to_series().to_numpy()
