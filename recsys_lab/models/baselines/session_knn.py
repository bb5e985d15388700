"""SessionKNN: items of the training sequences that are most like the current one.

Jannach & Ludewig 2017, "When Recurrent Neural Networks meet the Neighborhood for Session-Based Recommendation", in the
sequence-aware form V-SKNN of Ludewig & Jannach 2018, "Evaluation of Session-based Recommendation Algorithms".

*What differs from the papers*: a session is a user's training part (in session data each user is one session); the
user's own is never a neighbour. Where the data has no time, the sampled sessions are random ones, not the newest.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.nn import functional

from recsys_lab.arguments import Count, Seed
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.baselines.repeat_last import newest_first
from recsys_lab.models.baselines.row_table import RowTable, blocks, padded, ragged, take
from recsys_lab.models.baselines.training_part import TrainingPart

Decay = Literal["div", "linear", "none"]
MAX_CELLS = 1 << 18
"""Cells of the rows x sessions matrix, and entries of its sparse forms, that are worked on at once: a few MB each, so
that they stay in the cache (at 100 MB each this was several times slower)."""
SPARSE = 16
"""Sorting an entry takes as long as going over so many cells."""


class SessionKNN(CountingModel):
    """score(i) = sum over the neighbours n that hold item i of  similarity(n) * recency(n).

    Candidates: of the sessions that share an item of positive weight with the window, the `sample_size` newest.
    similarity(n) = sum of the weights of the shared items; recency(n) = the weight of the newest shared item.
    Neighbours: the `num_neighbours` candidates of the highest similarity (ties: the newer session).

    Args:
        num_neighbours: k.
        sample_size: m.
        similarity_decay: weight of the item at position p of a window of n events: `div` p / n, `linear`
            1 - (n - p) / 10 and 0 beyond the newest ten, `none` 1.
        recency_decay: weight by the events s since the item (1 = the last one): `div` 1 / s, `linear` 1 - s / 10 and 0
            from the tenth on, `none` 1.
        seed: the sample where the data has no time.
    """

    item_offsets: Tensor  # (V + 1,)
    item_sessions: Tensor  # places of the sessions with each item, newest first
    session_of_user: Tensor  # (U,) place of the user's training part among the sessions

    def __init__(
        self,
        num_neighbours: Count = 100,
        sample_size: Count = 1000,
        similarity_decay: Decay = "div",
        recency_decay: Decay = "div",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.num_neighbours, self.sample_size, self.seed = num_neighbours, sample_size, seed
        self.similarity_decay, self.recency_decay = similarity_decay, recency_decay

    def build(self, spec: DataSpec) -> None:
        self.sessions = RowTable(spec.num_users + 1, spec.num_rows)  # row 1 = the newest session; its distinct items
        self.register_buffer("item_offsets", torch.zeros(spec.num_rows + 1, dtype=torch.int64))
        self.register_buffer("session_of_user", torch.zeros(spec.num_users, dtype=torch.int64))
        self.register_buffer("item_sessions", torch.zeros(0, dtype=torch.int32))

    def count(self, datamodule: Any) -> None:
        part = TrainingPart.of(datamodule)
        order = self._newest_sessions_first(part, datamodule.spec.has_timestamps)
        sessions = part.user_items()[order]
        self.sessions.fill(
            scipy.sparse.vstack([scipy.sparse.csr_matrix((1, part.num_rows), dtype=np.float32), sessions]).tocsr()
        )
        items = sessions.T.tocsr()
        items.sort_indices()  # newest first
        self.item_offsets = torch.from_numpy(items.indptr.astype(np.int64)).to(self.device)
        self.item_sessions = torch.from_numpy(items.indices.astype(np.int32)).to(self.device)
        self.session_of_user = torch.from_numpy(np.argsort(order)).to(self.device)

    def query(self, batch: Batch) -> Tensor:
        """-> (B, 1 + L): the user's own session (-1 = none), then the item ids of the window, newest first."""
        user = batch.user_index
        own = torch.where(user >= 0, self.session_of_user[user.clamp(min=0)], -1)
        return torch.cat([own[:, None], newest_first(batch)], dim=1)

    def score(self, query: Tensor) -> Tensor:
        own, item_ids = query[:, 0], query[:, 1:]
        entries = self._postings(item_ids).sum(1)  # (rows,)
        cells = torch.minimum(SPARSE * entries, entries + len(self.session_of_user))
        return torch.cat([self._score(own[part], item_ids[part]) for part in blocks(cells, MAX_CELLS)])

    def _score(self, own: Tensor, item_ids: Tensor) -> Tensor:
        """own: (R,), item_ids: (R, L), newest first -> (R, V)."""
        rows, sessions = len(item_ids), len(self.session_of_user)
        row, session, weight, recency = self._shared(item_ids)
        pair, place = distinct(row * sessions + session, rows * sessions)  # (P,): by row, the newest session first
        row, session = pair // max(sessions, 1), pair % max(sessions, 1)
        similarity = torch.zeros(len(pair), device=own.device).scatter_add_(0, place, weight)
        newest = torch.zeros(len(pair), device=own.device).scatter_reduce_(0, place, recency, "amax")
        is_candidate = (similarity > 0) & (session != take(own, row))
        before = functional.pad(is_candidate.cumsum(0), (1, 0))  # (P + 1,)
        first = torch.searchsorted(row, torch.arange(rows, device=own.device))  # (R,): each row's first pair
        is_candidate &= before[1:] - take(before, take(first, row)) <= self.sample_size
        similarity *= is_candidate
        column = torch.arange(len(pair), device=own.device) - take(first, row)
        in_rows = padded(row, similarity, rows)  # (R, M)
        chosen = best(in_rows, min(self.num_neighbours, in_rows.shape[1]))[row, column] & is_candidate  # (P,)
        row, session, worth = row[chosen], session[chosen], (similarity * newest)[chosen]  # at most K of each row
        return self.sessions.sum_rows(padded(row, session + 1, rows), padded(row, worth, rows))

    def _shared(self, item_ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(row, session, weight, recency), flat: each case of a session that holds an item of the row's window."""
        width = item_ids.shape[1]
        length = (item_ids > 0).sum(1, keepdim=True)  # (R, 1)
        step = torch.arange(1, width + 1, device=item_ids.device).expand(item_ids.shape)  # 1 = the last event
        item_ids = item_ids * is_newest(item_ids)  # an item counts once, at its last occurrence
        weight = decayed(self.similarity_decay, length + 1 - step, length)
        recency = decayed_recency(self.recency_decay, step)
        owner, position = ragged(self.item_offsets[item_ids].flatten(), self._postings(item_ids).flatten())
        session = take(self.item_sessions, position).long()
        return owner // width, session, take(weight.flatten(), owner), take(recency.flatten(), owner)

    def _postings(self, item_ids: Tensor) -> Tensor:
        """(R, L) item ids -> (R, L) how many sessions of each item are looked at: the newest ones.

        The newest `sample_size` of a union are among the newest so many of each part; one more for the user's own.
        """
        return self.item_offsets.diff().clamp(max=self.sample_size + 1)[item_ids]

    def _newest_sessions_first(self, part: TrainingPart, has_timestamps: bool) -> np.ndarray:
        """(U,) user of each session."""
        users = len(part.lengths)
        if not has_timestamps:
            return np.random.default_rng(self.seed).permutation(users)
        newest = np.full(users, np.iinfo(np.int64).min)  # users without training events come last
        some = np.flatnonzero(part.lengths)
        newest[some] = part.timestamps[np.cumsum(part.lengths)[some] - 1]
        return np.lexsort((np.arange(users), -newest.astype(np.float64)))


def distinct(numbers: Tensor, bound: int) -> tuple[Tensor, Tensor]:
    """(E,) int64 of 0..bound-1 -> the distinct ones (P,), ascending, and the place of each among them, (E,)."""
    if SPARSE * len(numbers) < bound:
        found, place = numbers.unique(return_inverse=True)
        return found, place
    is_there = torch.zeros(bound, dtype=torch.bool, device=numbers.device)
    is_there[numbers] = True
    return is_there.nonzero()[:, 0], take(is_there.cumsum(0) - 1, numbers)


def decayed(kind: Decay, position: Tensor, length: Tensor) -> Tensor:
    """Weight of position 1 (oldest) .. length of a window."""
    if kind == "div":
        return position / length.clamp(min=1)
    return (1 - (length - position) / 10).clamp(min=0.0) if kind == "linear" else torch.ones_like(position).float()


def decayed_recency(kind: Decay, step: Tensor) -> Tensor:
    if kind == "div":
        return 1 / step
    return (1 - step / 10).clamp(min=0.0) if kind == "linear" else torch.ones_like(step).float()


def is_newest(item_ids: Tensor) -> Tensor:
    """(R, L) ids, newest first -> (R, L) bool: True at the first (newest) of equal ids of a row."""
    ordered, place = item_ids.sort(dim=1, stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return torch.zeros_like(first).scatter_(1, place, first)


def best(values: Tensor, count: int) -> Tensor:
    """(R, C) -> (R, C) bool: True at the `count` largest values of each row; of equal ones the first."""
    least = values.topk(count, dim=1).values[:, -1:]
    above, tied = values > least, values == least
    room = count - above.sum(1, keepdim=True)
    return above | (tied & (tied.cumsum(1, dtype=torch.int32) <= room))
