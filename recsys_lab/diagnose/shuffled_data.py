"""Evaluation samples whose histories are shuffled: does a model read the order of events at all?

Klenitskiy et al. 2024, "Does It Look Sequential? An Analysis of Datasets for Evaluation of Sequential Recommendations"
(RecSys 2024). As in the paper's experiments the whole history before the target is shuffled, and the model then sees
the newest `max_length` events of the shuffled order. What differs: several seeds, and `all_but_last`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch

from recsys_lab.contracts import Batch
from recsys_lab.data.batches.gather import WindowDataset
from recsys_lab.data.prepare.split_mix import STEP, mixed
from recsys_lab.words import RecsysLabError

Kind = Literal["all", "all_but_last"]
Scope = Literal["history", "window"]

STREAM = 0x53485546464C4544
"""Sets these draws apart from every other use of the same small seed."""


class ShuffledWindows(WindowDataset):
    """The samples of an evaluation dataset, one target each, with shuffled histories.

    Items and the fields of their events move together. Time stamps stay where they are, so they remain sorted; targets,
    seen items and the number of events in each window stay as well. What a history becomes depends on the seed, the
    user and the place of the target alone: neither on the batch nor on the process that asks.

    Args:
        original: samples of mode `evaluate`.
        kind: `all` events of the history, or `all_but_last`: the most recent event stays the most recent.
        seed: another seed is another shuffle.
        scope: what is shuffled: the whole `history` (the window then shows a random part of a history longer than
            itself), or only what the `window` holds (the same events in another order).
    """

    def __init__(self, original: WindowDataset, kind: Kind = "all", seed: int = 0, scope: Scope = "history") -> None:
        for name, value, known in (("kind", kind, get_args(Kind)), ("scope", scope, get_args(Scope))):
            if value not in known:
                raise RecsysLabError(f"unknown {name} of shuffle {value!r}; known: {', '.join(known)}")
        if original.mode != "evaluate":
            raise RecsysLabError(f"only evaluation samples can be shuffled, these are of mode {original.mode!r}")
        super().__init__(
            original.events, original.windows, original.mode, original.exclude_seen, queries=original.queries
        )
        self.kind, self.seed, self.scope = kind, seed, scope

    def __getitems__(self, indices: list[int] | np.ndarray) -> Batch:
        batch = super().__getitems__(indices)
        rows = np.asarray(indices, dtype=np.int64)
        start, stop = self.windows.start[rows], self.windows.stop[rows]
        begin = self.events.offsets[:-1][self.windows.user_index[rows]]
        first = begin if self.scope == "history" else start
        order = shuffled_positions(
            first, stop, self.kind, row_keys(self.seed, self.windows.user_index[rows], stop - begin)
        )
        # the newest of each row's shuffled order: as many as its window holds
        end, held = np.cumsum(stop - first), stop - start
        column = np.arange(batch.item_ids.shape[1])
        valid = column < held[:, None]  # (B, L)
        position = order[np.where(valid, (end - held)[:, None] + column, 0)]  # (B, L)
        items = torch.from_numpy((self.events.item_ids[position] * valid).astype(np.int64))
        moved = {name: column.take(position, valid) for name, column in self.events.fields.items()}
        return replace(batch, item_ids=items, event=moved)


def shuffled_positions(first: np.ndarray, stop: np.ndarray, kind: Kind, keys: np.ndarray) -> np.ndarray:
    """The positions [first, stop) of each row in random order, rows back to back.

    Each event gets 64 random bits, and each row is sorted by them: every order is equally likely.

    Args:
        first, stop: (B,) int64, at least one event each. kind: see `ShuffledWindows`.
        keys: (B,) uint64, one for each row: equal keys give equal orders.

    Returns:
        (sum of lengths,) int64.
    """
    length = stop - first
    row = np.repeat(np.arange(len(first)), length)
    place = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)  # within the row
    # SplitMix64 (Steele et al. 2014): the numbers of the stream that begins at the row's key
    draw = mixed(keys[row] + (place + 1).astype(np.uint64) * STEP)
    if kind == "all_but_last":
        is_last = place == length[row] - 1
        order = np.lexsort((draw, is_last, row))
    else:
        order = np.lexsort((draw, row))
    return first[row] + place[order]


def row_keys(seed: int, user_index: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(B,) uint64: where the stream of each row begins.

    Args:
        seed: any integer. user_index: (B,) the row's user. place: (B,) of the target in the user's history.
    """
    begin = mixed(np.array([(seed ^ STREAM) % (1 << 64)], dtype=np.uint64))
    return mixed(mixed(begin + user_index.astype(np.uint64) * STEP) + place.astype(np.uint64) * STEP)
