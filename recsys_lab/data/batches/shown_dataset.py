"""ShownDataset: what users were shown (impressions), each with the history before it, as batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from recsys_lab.contracts import Batch
from recsys_lab.data.batches.field_columns import FieldColumn
from recsys_lab.data.batches.gather import Events, WindowDataset
from recsys_lab.data.batches.windows import evaluation_windows
from recsys_lab.data.split.temporal import first_at_or_after


@dataclass(frozen=True)
class Shown:
    """I impressions, their items back to back, as the arrays `shown/` of a prepared data set have them."""

    users: np.ndarray  # (I,) 0-based
    timestamps: np.ndarray  # (I,) int64
    offsets: np.ndarray  # (I + 1,) int64: impression i shows the items from offsets[i] to offsets[i + 1]
    item_ids: np.ndarray  # (N,) int32, 1..num_items
    labels: np.ndarray  # (N,) float32, NaN = not known
    fields: Mapping[str, FieldColumn] = field(default_factory=dict)  # of the shown items, by name

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], fields: Mapping[str, FieldColumn] | None = None) -> Shown:
        """The arrays of `ProcessedDataset`, which stay mapped."""
        names = ("users", "timestamps", "offsets", "item_ids", "labels")
        own = {name: np.asarray(arrays[f"shown/{name}"]) for name in names}
        return cls(**own, fields=fields or {})


class ShownDataset(WindowDataset):
    """Impressions as samples: the user's newest events before the impression, what was shown, and what came of it.

    An event at the very second of an impression is not before it: a click has the time of what was clicked. Impressions
    of users who had no event before are left out; `num_without_history` counts them.

    Args:
        events: the flat arrays.
        shown: all impressions of the data.
        which: (S,) int64, those that are samples, such as the ones of the training part.
        max_length: L, events of a history that a model sees.
    """

    def __init__(self, events: Events, shown: Shown, which: np.ndarray, max_length: int) -> None:
        user = np.asarray(shown.users)[which].astype(np.int64)
        begin, stop = events.offsets[:-1], events.offsets[1:]
        moment = np.asarray(shown.timestamps)[which]
        position = first_at_or_after(begin[user], stop[user], events.timestamps, moment)
        has_history = position > begin[user]
        super().__init__(
            events, evaluation_windows(begin, user[has_history], position[has_history], max_length), "predict", "none"
        )
        self.shown, self.impression = shown, np.asarray(which)[has_history]
        self.num_without_history = int(len(which) - len(self.impression))

    def __getitems__(self, indices: list[int] | np.ndarray) -> Batch:
        """As of `WindowDataset`, with `shown_ids`, `shown`, `labels` (B, C), and the time of the impression as
        `query_time`."""
        batch, shown = super().__getitems__(indices), self.shown
        impression = self.impression[np.asarray(indices, dtype=np.int64)]
        start, stop = shown.offsets[impression], shown.offsets[impression + 1]
        place = start[:, None] + np.arange(int((stop - start).max()))
        is_real = place < stop[:, None]  # (B, C)
        place = np.where(is_real, place, 0)
        return replace(
            batch,
            query_time=torch.from_numpy(shown.timestamps[impression].astype(np.int64)),
            shown_ids=torch.from_numpy(shown.item_ids[place].astype(np.int64) * is_real),
            shown={name: column.take(place, is_real) for name, column in shown.fields.items()},
            labels=torch.from_numpy(np.where(is_real, shown.labels[place], np.float32(0)).astype(np.float32)),
        )
