"""ItemIndex: lists by approximate search over the vectors of the items, where there are too many to score each.

use_index(predictor, "hnsw")   # from now on `recommend` and `top` look only where the index finds something
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from recsys_lab.contracts import Batch, Scorer
from recsys_lab.evaluation.row_blocks import row_blocks
from recsys_lab.evaluation.top_lists import top_lists
from recsys_lab.ops.top_items import hashes
from recsys_lab.serve.stored_index import StoredIndex
from recsys_lab.words import PAD_ID, RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.serve.predictor import Predictor

Kind = Literal["exact", "hnsw", "ivf", "ivf-8bit"]
LEAST_SHARE = 0.1
"""Of the items that must be candidates: among fewer all are scored, which is exact and not slower."""
LINKS = 32
"""Neighbours of an item in the graph of HNSW."""


@dataclass(frozen=True)
class _Pool:
    """selector: of Faiss, for `number` candidates; None for all. bits: what it reads."""

    is_candidate: Tensor
    number: int
    is_searched: bool
    selector: Any
    bits: np.ndarray


class ItemIndex:
    """In the place of `top_lists`: the index proposes items, and their scores are then made by the model itself, so
    that scores, the order of ties, filters and exclusions are exact. What is approximate is which items are proposed.

    Vectors of items get their bias as one more number, and states a one. HNSW (Malkov and Yashunin 2016) is a graph of
    neighbours; IVF looks through the nearest of many clusters; with 8 bits it keeps a byte in place of
    four for each number. All are those of Faiss.

    Args:
        scorer: whose scores are products of a state and a table.
        indexed: (V,) bool: the items that lists may hold.
        effort: how many items (HNSW) or clusters (IVF) a search looks at; more is slower and finds more. Default: 128,
            or a sixteenth of the clusters.
        stored: where the index is kept; None = nowhere.

    Raises:
        RecsysLabError: for a scorer that is not of that form, and without Faiss.
    """

    def __init__(
        self, scorer: Scorer, indexed: Tensor, kind: Kind, effort: int | None = None, stored: StoredIndex | None = None
    ) -> None:
        try:
            faiss: Any = importlib.import_module("faiss")  # its types know less than it has
        except ModuleNotFoundError:
            raise RecsysLabError(f"--index {kind} needs Faiss: pip install 'recsys-lab[index]'") from None
        self._faiss, self.scorer = faiss, scorer
        self.ids = indexed.nonzero()[:, 0].cpu()
        vectors = _vectors(scorer, kind)[self.ids.numpy()]
        number, width = vectors.shape
        clusters = max(1, min(number // 39, round(2 * number**0.5)))  # 39: fewer per cluster, and Faiss warns
        text = {"hnsw": f"HNSW{LINKS}", "ivf": f"IVF{clusters},Flat", "ivf-8bit": f"IVF{clusters},SQ8"}[kind]
        self.effort = effort or (128 if kind == "hnsw" else max(1, clusters // 16))
        self.index: Any = None if stored is None else stored.read(faiss, text, vectors)
        if self.index is None:
            self.index = _built(faiss, text, vectors, max(clusters * 64, 1 << 16))
            if stored is not None:
                stored.write(faiss, text, vectors, self.index)
        self.kind, self.width = kind, width
        self._pool: _Pool | None = None

    def __call__(
        self,
        model: Any,
        query: Tensor,
        batch: Batch,
        is_candidate: Tensor,
        k: int,
        max_bytes: int,
        allowed: tuple[Tensor, Tensor] | None = None,
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """As `top_lists`. All items are scored for other models than the index is of, for candidates of each user's
        own, where few items are candidates, and for rows of which the index finds too few."""
        pool = self._pool_of(is_candidate)
        if getattr(model, "scorer", None) is not self.scorer or allowed is not None or not pool.is_searched:
            yield from top_lists(model, query, batch, is_candidate, k, max_bytes, allowed)
            return
        for rows, seen, offsets in row_blocks(batch, self.width * 64, max_bytes):
            items, scores = self._top(query[rows], pool.selector, seen, offsets, k)
            left = pool.number - _left_out(seen, offsets, is_candidate)  # (rows,)
            for row in ((items != PAD_ID).sum(dim=1) < left.clamp(max=k)).nonzero()[:, 0].tolist():
                one = _row(seen[offsets[row] : offsets[row + 1]])
                found = top_lists(model, query[rows][row : row + 1], one, is_candidate, k, max_bytes)
                for _, best, best_scores in found:
                    items[row, : best.shape[1]], scores[row, : best.shape[1]] = best[0], best_scores[0]
            yield rows, items, scores

    def bytes(self) -> int:
        """What the index holds, beside the table of the model."""
        return len(self._faiss.serialize_index(self.index)) + self.ids.nbytes

    def _pool_of(self, is_candidate: Tensor) -> _Pool:
        """What follows from the candidates; most calls have those of the call before."""
        if self._pool is None or not torch.equal(self._pool.is_candidate, is_candidate):
            inside, number = is_candidate.cpu()[self.ids], int(is_candidate.sum())
            is_searched = LEAST_SHARE * len(self.ids) <= number == int(inside.sum())
            bits = np.packbits(inside.numpy(), bitorder="little")
            selector = None if number == len(self.ids) else self._faiss.IDSelectorBitmap(bits)
            self._pool = _Pool(is_candidate.clone(), number, is_searched, selector, bits)
        return self._pool

    def _top(self, query: Tensor, selector: Any, seen: Tensor, offsets: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(rows, k) items and scores, best first; `PAD_ID` and -inf where no more were found."""
        asked = query.float().cpu()
        if asked.shape[1] < self.width:
            asked = torch.cat([asked, torch.ones(len(asked), 1)], dim=1)
        want = min(len(self.ids), k + int(offsets.diff().max()) + 1)  # so many are left when all seen ones are found
        makes = self._faiss.SearchParametersHNSW if self.kind == "hnsw" else self._faiss.SearchParametersIVF
        effort = {"efSearch": max(self.effort, want)} if self.kind == "hnsw" else {"nprobe": self.effort}
        if self.kind == "ivf-8bit":
            want = min(len(self.ids), 2 * want)  # its own scores are rough: more are scored anew
        _, places = self.index.search(asked.numpy(), want, params=makes(sel=selector, **effort))
        found = torch.from_numpy(places)  # (rows, want), -1 where there are no more
        items = self.ids[found.clamp(min=0)].to(query.device)
        with torch.autocast(query.device.type, enabled=False):
            scores = self.scorer.scores(query.float(), items).detach().float()
        rows = self.scorer.num_rows
        owner = torch.repeat_interleave(offsets.diff())
        hidden = torch.isin(items + torch.arange(len(items), device=items.device)[:, None] * rows, owner * rows + seen)
        scores = scores.masked_fill(hidden | (found < 0).to(query.device), float("-inf"))
        order = hashes(items).argsort(dim=1)  # equal scores come in this order
        scores, place = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
        items = items.gather(1, order).gather(1, place).masked_fill(scores == float("-inf"), PAD_ID)
        lack = k - items.shape[1]
        if lack > 0:
            pad = torch.nn.functional.pad
            items, scores = pad(items, (0, lack), value=PAD_ID), pad(scores, (0, lack), value=float("-inf"))
        return items[:, :k], scores[:, :k]


def use_index(predictor: Predictor, kind: Kind, effort: int | None = None, store: bool = True) -> ItemIndex | None:
    """From now on the predictor's lists are made with an index; `exact`: without one again.

    Args:
        store: it is built once for each checkpoint, and kept in the user's cache (see `stored_index.py`); else it is
            built here.
    """
    if kind not in get_args(Kind):
        raise RecsysLabError(f"index={kind!r}; known: {', '.join(get_args(Kind))}")
    index = None
    if kind != "exact":
        stored = StoredIndex(predictor.loaded.checkpoint, kind) if store else None
        index = ItemIndex(predictor.model.scorer, predictor.can_be_scored, kind, effort, stored)
    predictor.top_lists = index or top_lists
    return index


def _built(faiss: Any, text: str, vectors: np.ndarray, most: int) -> Any:
    """most: vectors that it is trained on."""
    index = faiss.index_factory(vectors.shape[1], text, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[np.random.default_rng(0).permutation(len(vectors))[:most]])
    index.add(vectors)
    return index


def _vectors(scorer: Scorer, kind: str) -> np.ndarray:
    """(V, D), or (V, D + 1) with biases, float32."""
    blocks = list(scorer.linear_blocks() or ())
    if not blocks:
        raise RecsysLabError(
            f"--index {kind}: the scores of this model are no products of a state and a table of item vectors, which "
            "an index searches. Leave --index away: lists are then exact"
        )
    parts = []
    for block in blocks:
        weight = block.weight.detach().float()
        parts.append(weight if block.bias is None else torch.cat([weight, block.bias.detach().float()[:, None]], dim=1))
    return np.ascontiguousarray(torch.cat(parts).numpy(force=True))


def _left_out(seen: Tensor, offsets: Tensor, is_candidate: Tensor) -> Tensor:
    """(rows,) how many candidates each row leaves out."""
    rows = len(is_candidate)
    keys = (torch.repeat_interleave(offsets.diff()) * rows + seen)[is_candidate[seen]].unique()
    return torch.bincount(keys // rows, minlength=len(offsets) - 1)


def _row(seen: Tensor) -> Batch:
    """A batch of one row, as far as lists look at it."""
    one = torch.zeros(1, 1, dtype=torch.int64, device=seen.device)
    offsets = torch.tensor([0, len(seen)], device=seen.device)
    return Batch(one, one[:, 0], one > 0, one, one[:, 0], one[:, 0], seen_ids=seen, seen_offsets=offsets)
