"""Raw ids of items, as a caller writes them -> rows of the item table, and back."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl

from recsys_lab.words import PAD_ID, RecsysLabError

log = logging.getLogger("recsys_lab")

Unknown = Literal["skip", "error"]
FEW = 256
"""Rows of which a list in Python gives the ids faster than polars does."""


class ItemIds:
    """The items that a model knows.

    Args:
        raw: (num_items,) ids, int64 or strings: entry i - 1 belongs to row i.
        unknown: what happens to ids that the model does not know: `skip` counts them and warns once; `error`.
    """

    def __init__(self, raw: pl.Series, unknown: Unknown = "skip") -> None:
        if unknown not in ("skip", "error"):
            raise RecsysLabError(f"unknown={unknown!r}; known: skip, error")
        self.raw, self.unknown = raw, unknown
        self.skipped = 0
        """Unknown ids that were skipped so far, each as often as it came."""

    def __len__(self) -> int:
        return len(self.raw)

    def rows(self, ids: Iterable[Any], what: str) -> np.ndarray:
        """(N,) ids -> (N,) int64 rows, `PAD_ID` for what the model does not know.

        Args:
            ids: numbers or texts; a Series is looked up as a whole. A text that is a number means the number where the
                model's ids are numbers.
            what: they are, for messages: `histories`.

        Raises:
            RecsysLabError: for an unknown id, where that is an error.
        """
        given = ids if isinstance(ids, pl.Series) else list(ids)
        found = self.rows_of(given) if isinstance(given, pl.Series) else self._rows_of_list(given)
        missing = np.flatnonzero(found == PAD_ID)
        if len(missing):
            self._tell(len(missing), len(found), given[int(missing[0])], what)
        return found

    def row(self, raw_id: Any) -> int:
        """The row of one item.

        Raises:
            RecsysLabError: when the model does not know it.
        """
        found = int(self._rows_of_list([raw_id])[0])
        if found == PAD_ID:
            raise RecsysLabError(f"the model does not know the item {raw_id!r}: its ids are like {self.raw[0]!r}")
        return found

    def known(self, ids: list[Any]) -> list[bool]:
        """Of each, whether the model knows it, without a word."""
        return [row != PAD_ID for row in self._rows_of_list(ids)]

    def at(self, rows: np.ndarray) -> pl.Series:
        """(N,) rows from 1 on -> (N,) raw ids."""
        if len(rows) > FEW:
            return self.raw.gather(rows - 1)
        return pl.Series(self.raw.name, self.listed(rows), dtype=self.raw.dtype)

    def listed(self, rows: np.ndarray) -> list[Any]:
        """(N,) rows from 1 on -> their raw ids, as Python has them."""
        raw = self._listed
        return [raw[row - 1] for row in rows.tolist()]

    @cached_property
    def _listed(self) -> list[Any]:
        return self.raw.to_list()

    @cached_property
    def _row_of(self) -> dict[Any, int]:
        return {raw: row for row, raw in enumerate(self._listed, start=1)}

    def _rows_of_list(self, ids: list[Any]) -> np.ndarray:
        row_of = self._row_of
        return np.array([row_of.get(raw) or row_of.get(self._as_ours(raw), PAD_ID) for raw in ids], dtype=np.int64)

    def _as_ours(self, raw: Any) -> Any:
        """12 for '12' where ids are numbers, '12' for 12 where they are texts."""
        if self.raw.dtype == pl.String:
            return str(raw)
        try:
            number = int(raw)
            return number if isinstance(raw, str) or number == raw else None
        except (TypeError, ValueError, OverflowError):
            return None

    def rows_of(self, ids: pl.Series) -> np.ndarray:
        """(N,) ids -> (N,) rows, `PAD_ID` for what is unknown, without a word."""
        asked = ids.rename("id")
        if asked.dtype.is_float():
            asked = asked.set(asked.is_nan() | (asked != asked.floor()), None)
        if asked.dtype != self.raw.dtype:
            asked = (asked.cast(pl.Int64) if asked.dtype.is_float() else asked).cast(self.raw.dtype, strict=False)
        table = self.raw.rename("id").to_frame().with_row_index("row", offset=1)
        found = asked.to_frame().join(table, on="id", how="left", maintain_order="left")
        return found["row"].fill_null(PAD_ID).cast(pl.Int64).to_numpy().copy()

    def _tell(self, missing: int, given: int, first: Any, what: str) -> None:
        text = f"{missing:,} of {given:,} items in the {what} are unknown to the model, the first {first!r}"
        if self.unknown == "error":
            raise RecsysLabError(f"{text}. They are skipped with unknown='skip' (--unknown skip)")
        if not self.skipped:
            log.warning("%s: skipped, and from now on only counted", text)
        self.skipped += missing
