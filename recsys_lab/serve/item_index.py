"""ItemIndex: lists by approximate search over the vectors of the items, where there are too many to score each.

use_index(predictor, "hnsw")   # from now on `recommend` and `top` look only where the index finds something
"""

from __future__ import annotations

import importlib
import logging
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

log = logging.getLogger("recsys_lab")

Kind = Literal["exact", "hnsw", "ivf", "ivf-8bit", "ivf-pq"]
ADDED = 1 << 20
"""Vectors that are added at once."""
LEAST_SHARE = 0.1
"""Of the items that must be candidates: among fewer all are scored, which is exact and not slower."""
PART = 4
"""Numbers of a vector that one code of `ivf-pq` stands for."""
PER_CODE = 39
"""Vectors that Faiss wants for each centre that it finds."""
MORE = {"ivf-8bit": 2, "ivf-pq": 10}
"""So many times the items of a list are scored anew where the index's own scores are rough."""
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
    four for each number; with product quantisation (PQ; Jegou et al. 2011) a byte for four numbers. All are those of
    Faiss.

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
        vectors = _of_rows(_vectors(scorer, kind), self.ids.numpy())
        self.has_bias = vectors.shape[1] > _width(scorer)
        if kind == "ivf-pq" and vectors.shape[1] % PART:
            vectors = np.pad(vectors, ((0, 0), (0, -vectors.shape[1] % PART)))
        number, width = vectors.shape
        clusters = max(1, min(number // PER_CODE, round(2 * number**0.5)))
        bits = 8 if number >= PER_CODE << 8 else 4
        code = {"ivf": "Flat", "ivf-8bit": "SQ8", "ivf-pq": f"PQ{width // PART}x{bits}"}
        text = f"HNSW{LINKS}" if kind == "hnsw" else f"IVF{clusters},{code[kind]}"
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
        if self.has_bias:
            asked = torch.cat([asked, torch.ones(len(asked), 1)], dim=1)
        asked = torch.nn.functional.pad(asked, (0, self.width - asked.shape[1]))
        want = min(len(self.ids), k + int(offsets.diff().max()) + 1)  # so many are left when all seen ones are found
        makes = self._faiss.SearchParametersHNSW if self.kind == "hnsw" else self._faiss.SearchParametersIVF
        effort = {"efSearch": max(self.effort, want)} if self.kind == "hnsw" else {"nprobe": self.effort}
        want = min(len(self.ids), MORE.get(self.kind, 1) * want)
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
    for start in range(0, len(vectors), ADDED):
        index.add(vectors[start : start + ADDED])
        if len(vectors) > ADDED:
            log.info("index: %s of %s vectors", f"{min(start + ADDED, len(vectors)):,}", f"{len(vectors):,}")
    return index


def _of_rows(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(V, D), (n,) ascending -> (n, D), without a copy where they lie side by side."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return vectors[rows[0] : rows[-1] + 1]
    return vectors[rows]


def _width(scorer: Scorer) -> int:
    """D of the states."""
    return next(iter(scorer.linear_blocks() or ())).weight.shape[1]


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
    return np.ascontiguousarray((parts[0] if len(parts) == 1 else torch.cat(parts)).numpy(force=True))


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
