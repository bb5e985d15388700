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
    weights: np.ndarray | None = None  # (N,) float32, how much each counts

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, np.ndarray],
        fields: Mapping[str, FieldColumn] | None = None,
        weights: np.ndarray | None = None,
    ) -> Shown:
        """The arrays of `ProcessedDataset`, which stay mapped."""
        names = ("users", "timestamps", "offsets", "item_ids", "labels")
        own = {name: np.asarray(arrays[f"shown/{name}"]) for name in names}
        return cls(**own, fields=fields or {}, weights=weights)


class ShownDataset(WindowDataset):
    """Impressions as samples: the user's newest events before the impression, what was shown, and what came of it.

    An event at the very second of an impression is not before it: a click has the time of what was clicked.
    `num_without_history` counts the impressions of users who had no event before.

    Args:
        events: the flat arrays.
        shown: all impressions of the data.
        which: (S,) int64, those that are samples, such as the ones of the training part.
        max_length: L, events of a history that a model sees.
        keep_empty: impressions without a history are samples, too, with one event that stands for none: item `PAD_ID`
            at the time of the impression.
        is_trained: (V,) bool, the items that training has; others are shown as `PAD_ID`. None = all.
    """

    def __init__(
        self,
        events: Events,
        shown: Shown,
        which: np.ndarray,
        max_length: int,
        keep_empty: bool = False,
        is_trained: np.ndarray | None = None,
    ) -> None:
        user = np.asarray(shown.users)[which].astype(np.int64)
        begin, stop = events.offsets[:-1], events.offsets[1:]
        moment = np.asarray(shown.timestamps)[which]
        position = first_at_or_after(begin[user], stop[user], events.timestamps, moment)
        has_history = position > begin[user]
        kept = has_history | keep_empty
        super().__init__(events, evaluation_windows(begin, user[kept], position[kept], max_length), "predict", "none")
        self.shown, self.impression, self.is_trained = shown, np.asarray(which)[kept], is_trained
        self.num_without_history = int(len(which) - has_history.sum())

    @property
    def sizes(self) -> np.ndarray:
        """(S,) events of the history and items of the list: samples of similar size are evaluated in one batch. Not so
        in training: the shorter a list, the larger the share of it that is clicked, and steps would contradict."""
        listed = np.diff(self.shown.offsets)[self.impression]
        return np.asarray(self.windows.lengths + listed, dtype=np.int64)

    def __getitems__(self, indices: list[int] | np.ndarray) -> Batch:
        """As of `WindowDataset`, with `shown_ids`, `shown`, `labels`, `shown_rows` (B, C), and the time of the
        impression as `query_time`."""
        batch, shown = super().__getitems__(indices), self.shown
        impression = self.impression[np.asarray(indices, dtype=np.int64)]
        start, stop = shown.offsets[impression], shown.offsets[impression + 1]
        place = start[:, None] + np.arange(int((stop - start).max()))
        is_real = place < stop[:, None]  # (B, C)
        rows, place = np.where(is_real, place, -1), np.where(is_real, place, 0)
        item_ids = shown.item_ids[place].astype(np.int64) * is_real
        before = seen_before(batch, torch.from_numpy(item_ids.copy()))  # of items that training lacks, too
        if self.is_trained is not None:
            item_ids *= self.is_trained[item_ids]
        moment = torch.from_numpy(shown.timestamps[impression].astype(np.int64))
        weights = None if shown.weights is None else torch.from_numpy(shown.weights[place] * is_real)
        return replace(
            with_empty_histories(batch, moment),
            query_time=moment,
            shown_rows=torch.from_numpy(rows),
            shown_weights=weights,
            shown_before=before,
            shown_ids=torch.from_numpy(item_ids),
            shown={name: column.take(place, is_real) for name, column in shown.fields.items()},
            labels=torch.from_numpy(np.where(is_real, shown.labels[place], np.float32(0)).astype(np.float32)),
        )


def seen_before(batch: Batch, item_ids: torch.Tensor) -> torch.Tensor:
    """`Batch.shown_before` of items (B, C), `PAD_ID` at padding."""
    found = torch.zeros(*item_ids.shape, 2, device=item_ids.device)
    if not batch.item_ids.shape[1]:
        return found
    same = (batch.item_ids[:, None, :] == item_ids[:, :, None]) & (item_ids > 0)[:, :, None]  # (B, C, L)
    last = batch.item_ids.gather(1, (batch.lengths - 1).clamp_min(0)[:, None])  # (B, 1)
    found[..., 0] = same.sum(-1).float().log1p()
    found[..., 1] = (last == item_ids) & (item_ids > 0)
    return found


def with_empty_histories(batch: Batch, moment: torch.Tensor) -> Batch:
    """The batch with one event in each row that has none: item `PAD_ID` at `moment` (B,), marked as valid, so that each
    encoder has a state for "nothing yet" that it learns like others."""
    is_empty = batch.lengths == 0
    if not is_empty.any():
        return batch
    valid, times = _one_wide(batch.valid_mask), _one_wide(batch.timestamps)
    valid[is_empty, 0], times[is_empty, 0] = True, moment[is_empty]
    return replace(
        batch,
        item_ids=_one_wide(batch.item_ids),
        valid_mask=valid,
        timestamps=times,
        lengths=batch.lengths.clamp_min(1),
        event={name: _one_wide(column) for name, column in batch.event.items()},
    )


def _one_wide(column: torch.Tensor) -> torch.Tensor:
    """(B, 0, ...) -> (B, 1, ...) zeros; a wider one as it is."""
    return column if column.shape[1] else column.new_zeros(len(column), 1, *column.shape[2:])
