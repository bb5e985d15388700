"""TransitionGraph: what lies one to three steps behind the last one or two items in the graph of training transitions.

Han et al. 2026, "An Embarrassingly Simple Graph Heuristic Reveals Shortcut-Solvable Benchmarks for Sequential
Recommendation" (arXiv 2605.07125): TGH-1 with the defaults, TGH-2 with `last=[5, 1], second_last=[3, 1]`.

*What differs*: vectors are the user's own, and may be missing; then counts alone rank. Counts rank every ring and not
the first alone, since nothing else orders the others without vectors. What is beyond the budgets comes after all of
them, ring by ring, where the authors' code fills the budgets of short rings first; what no ring holds is tied, where
theirs is drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import scipy
import torch
from torch import Tensor

from recsys_lab.arguments import ArgumentError, Count, Range
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.baselines.row_table import RowTable
from recsys_lab.models.baselines.training_part import TrainingPart
from recsys_lab.models.vector_files import matched

RINGS = 3
SPACE = 4.0
"""Between two tiers: a similarity is in -1..1, and counts add `count_weight`, at most 1."""

MAX_CELLS = 1 << 20
"""Of the rows x items that are worked on at once: a few MB each."""


class TransitionGraph(CountingModel):
    """Ring h of an item: the items that are h transitions away and not fewer. Within a ring

        s(j) = cos(vector of the item, vector of j) + count_weight * log(1 + n_j) / max of that over the ring,

    n_j = how often the training part went from the item to j on the shortest ways. The best of each ring come first, as
    many as its budget says (ties at its end all do), ring by ring, those of the last item before those of the one
    before it; then the rest of the rings likewise; all other items are tied behind them.

    Args:
        last: budgets of the rings 1, 2, ... around the last item.
        second_last: of those around the item before it; none = it is not looked at.
        count_weight: alpha; where there are no vectors its size changes nothing.
        vectors: file with vectors of your own for the items (see `--model.item_vectors`: docs/behaviours.md). An item
            without one has similarity 0.
    """

    item_vectors_of_each: Tensor  # (V, W) of length 1, or zeros; (0, 0) without a file

    def __init__(
        self,
        last: Sequence[Count] = (7, 2, 1),
        second_last: Sequence[Count] = (),
        count_weight: Annotated[float, Range(at_least=0, at_most=1)] = 0.5,
        vectors: str | None = None,
    ) -> None:
        super().__init__()
        for name, budgets in (("last", last), ("second_last", second_last)):
            if len(budgets) > RINGS or (name == "last" and not budgets):
                raise ArgumentError("TransitionGraph", name, f"must hold one to {RINGS} budgets", list(budgets))
        self.budgets = [list(budgets) for budgets in (last, second_last) if budgets]
        self.count_weight, self.vectors = count_weight, vectors

    def build(self, spec: DataSpec) -> None:
        self.into = RowTable(spec.num_rows, spec.num_rows)  # row j: how often each item came right before j
        self.register_buffer("item_vectors_of_each", torch.zeros(0, 0))

    def count(self, datamodule: Any) -> None:
        part = TrainingPart.of(datamodule)
        before, after = part.neighbours()
        ones = np.ones(len(before), dtype=np.float32)
        self.into.fill(scipy.sparse.coo_matrix((ones, (after, before)), shape=(part.num_rows, part.num_rows)).tocsr())
        if self.vectors is not None:
            found, _ = matched(self.vectors, datamodule.processed.item_ids_raw)
            tiny = torch.finfo(torch.float32).tiny
            self.item_vectors_of_each = (found / found.norm(dim=1, keepdim=True).clamp_min(tiny)).to(self.device)

    def query(self, batch: Batch) -> Tensor:
        """-> (B, S) the last item, and the one before it where it is looked at; `PAD_ID` where there is none."""
        places = batch.lengths[:, None] - 1 - torch.arange(len(self.budgets), device=batch.item_ids.device)  # (B, S)
        return batch.item_ids.gather(1, places.clamp_min(0)) * (places >= 0)

    def score(self, query: Tensor) -> Tensor:
        rows = max(1, MAX_CELLS // self.into.num_rows)
        return torch.cat([self._score(part) for part in query.split(rows)])

    def _score(self, query: Tensor) -> Tensor:
        tiers = sum(map(len, self.budgets))
        scores = torch.zeros(len(query), self.into.num_rows, device=query.device)
        is_chosen = torch.zeros_like(scores, dtype=torch.bool)
        tier = 2 * tiers
        for source, budgets in enumerate(self.budgets):
            items, row = query[:, source].unique(return_inverse=True)
            for (in_ring, worth), budget in zip(self.rings(items, len(budgets)), budgets, strict=True):
                is_new, own = in_ring[row] & ~is_chosen, worth[row]  # (rows, V)
                ranked = own.masked_fill(~is_new, -torch.inf)
                least = ranked.topk(min(budget, ranked.shape[1]), dim=1).values[:, -1:]
                is_best = is_new & (ranked >= least)
                scores = torch.where(is_best, own + SPACE * tier, scores)
                is_rest = is_new & ~is_best & (scores == 0)
                scores = torch.where(is_rest, own + SPACE * (tier - tiers), scores)
                is_chosen |= is_best
                tier -= 1
        return scores

    def rings(self, items: Tensor, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """For each ring around (n,) items: (n, V) bool which items are in it, and (n, V) their s."""
        ways = torch.nn.functional.one_hot(items, self.into.num_rows).float()
        ways[:, 0] = 0.0  # no item has no neighbours
        similarity: Tensor | float = 0.0
        if self.item_vectors_of_each.numel():
            similarity = self.item_vectors_of_each[items] @ self.item_vectors_of_each.T
        is_known = torch.zeros_like(ways, dtype=torch.bool)
        for ring in range(number):
            ways = self.into.times(ways.T).T * ~is_known
            in_ring = ways > 0
            count = ways.log1p()
            count = count / count.amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
            yield in_ring, similarity + self.count_weight * count
            is_known |= in_ring
            if ring == 0:
                is_known |= torch.nn.functional.one_hot(items, self.into.num_rows).bool()
