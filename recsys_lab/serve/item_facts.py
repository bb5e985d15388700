"""What is known of items beside their scores: one column of a frame, as vectors or as categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from recsys_lab.data.reading.frames import as_frame
from recsys_lab.serve.item_ids import ItemIds
from recsys_lab.words import ITEM_ID, RecsysLabError, did_you_mean

if TYPE_CHECKING:
    from recsys_lab.serve.predictor import Predictor


def item_frame(predictor: Predictor) -> pl.DataFrame:
    """The items of a model: `item_id`, `count` (training events) and, where scores are products with a table of
    vectors, `vector`."""
    blocks = list(predictor.model.scorer.linear_blocks() or ())
    counts = predictor.loaded.item_counts[1:].numpy(force=True)
    frame = pl.DataFrame({ITEM_ID: predictor.item_ids.raw, "count": counts})
    if not blocks:
        return frame
    rows = np.concatenate([block.weight.detach().float().numpy(force=True) for block in blocks])[1:]
    return frame.with_columns(pl.Series("vector", rows, dtype=pl.Array(pl.Float32, rows.shape[1])))


class ItemFacts:
    """A column of the items.

    Args:
        ids: (N,) raw ids. vectors: (N, D) of unit length, or zeros; else None. codes: of each item, those of its
            categories. names: code -> category.
    """

    def __init__(self, ids: pl.Series, vectors: np.ndarray | None, codes: list[list[int]], names: list[Any]) -> None:
        self.ids, self.vectors, self.codes, self.names = ids, vectors, codes, names

    @classmethod
    def of(cls, items: Any, by: str | None) -> ItemFacts:
        """Reads a frame with `item_id` and the column `by`.

        Raises:
            RecsysLabError: for a frame without them.
        """
        table = as_frame(items, "items")
        others = [name for name in table.columns if name != ITEM_ID]
        if ITEM_ID not in table.columns:
            raise RecsysLabError(f"items has no column {ITEM_ID!r}; it has {', '.join(others)}")
        if by is None and len(others) != 1:
            raise RecsysLabError(f"by: name one of the columns of items: {', '.join(others) or 'it has no other'}")
        by = others[0] if by is None else by
        if by not in others:
            raise RecsysLabError(f"by={by!r}: items has {', '.join(others)}.{did_you_mean(by, others)}")
        table = table.unique(ITEM_ID, keep="first", maintain_order=True)
        column, dtype = table[by], table[by].dtype
        inner = getattr(dtype, "inner", None)
        if inner is not None and inner.is_float():
            return cls(table[ITEM_ID], _unit(column, by), [], [])
        if dtype.is_float():
            raise RecsysLabError(f"by={by!r} holds decimals, and no vectors (lists of them) or categories")
        own = [[] if v is None else [v] for v in column.to_list()] if inner is None else column.to_list()
        own = [[one for one in values or [] if one is not None] for values in own]
        code: dict[Any, int] = {}
        codes = [sorted({code.setdefault(one, len(code)) for one in values}) for values in own]
        return cls(table[ITEM_ID], None, codes, list(code))

    def rows(self, ids: pl.Series) -> np.ndarray:
        """(n,) raw ids -> (n,) rows of the frame; -1 where it has none."""
        return ItemIds(self.ids).rows_of(ids) - 1

    def categories(self, rows: np.ndarray) -> list[list[int]]:
        """Codes of each."""
        return [self.codes[row] if row >= 0 else [] for row in rows.tolist()]

    def limits(self, at_most: int | Mapping[Any, int]) -> dict[int, int]:
        """Code -> how many.

        Raises:
            RecsysLabError: for vectors, for a category that no item has, and for what is no number.
        """
        if self.vectors is not None:
            raise RecsysLabError("a quota is of categories, and this column holds vectors: by= names another")
        wanted = dict(at_most) if isinstance(at_most, Mapping) else dict.fromkeys(self.names, at_most)
        for name, number in [("at_most", at_most)] if not isinstance(at_most, Mapping) else wanted.items():
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
                raise RecsysLabError(f"at_most must be a whole number from 0 on, not {number!r} ({name})")
        for name in wanted:
            if name not in self.names:
                meant = did_you_mean(str(name), map(str, self.names))
                raise RecsysLabError(f"at_most: no item has the category {name!r}.{meant}")
        code = {name: place for place, name in enumerate(self.names)}
        return {code[name]: int(number) for name, number in wanted.items()}

    def similarity(self, rows: np.ndarray) -> Callable[[int], np.ndarray]:
        """(n,) rows -> place -> (n,) similarity of each to the one there: cosine, or Jaccard."""
        if self.vectors is not None:
            own = np.where((rows >= 0)[:, None], self.vectors[rows], 0.0)
            return lambda place: own @ own[place]
        codes = self.categories(rows)
        used = {one: column for column, one in enumerate(sorted({one for own_codes in codes for one in own_codes}))}
        has = np.zeros((len(rows), max(1, len(used))))
        for place, own_codes in enumerate(codes):
            has[place, [used[one] for one in own_codes]] = 1.0
        number = has.sum(axis=1)

        def jaccard(place: int) -> np.ndarray:
            shared = has @ has[place]
            found: np.ndarray = shared / np.maximum(number + number[place] - shared, 1.0)
            return found

        return jaccard


def _unit(column: pl.Series, name: str) -> np.ndarray:
    """(N, D) of unit length; a missing one is zeros."""
    if isinstance(column.dtype, pl.Array) and not column.null_count():
        return _of_unit_length(column.to_numpy().astype(np.float64), name)
    values = column.to_list()
    width = max((len(one) for one in values if one is not None), default=1)
    if any(one is not None and len(one) != width for one in values):
        raise RecsysLabError(f"by={name!r} holds vectors of several lengths")
    rows = np.array([[0.0] * width if one is None else one for one in values], dtype=np.float64)
    return _of_unit_length(rows, name)


def _of_unit_length(rows: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(rows).all():
        raise RecsysLabError(f"by={name!r} holds a vector with a number that is missing or infinite")
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)
