"""PopularityRanks equals target_ranks of the counts, written out for every row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recsys_lab.evaluation.popularity_ranks import PopularityRanks
from recsys_lab.ops.target_ranks import target_ranks


@pytest.mark.parametrize("ties", ["expected", "conservative", "optimistic"])
@pytest.mark.parametrize("most", [2, 50])
def test_equals_ranking_the_counts(ties: Any, most: int) -> None:
    generator = torch.Generator().manual_seed(most)
    width, rows = 20, 200
    counts = torch.randint(most, (width,), generator=generator)
    counts[0] = 0
    targets = torch.randint(1, width, (rows,), generator=generator)
    seen = [torch.randperm(width - 1, generator=generator)[: i % 7] + 1 for i in range(rows)]
    flat, offsets = torch.cat(seen), torch.tensor([0] + [len(s) for s in seen]).cumsum(0)
    slow = target_ranks(counts.expand(rows, -1).float(), targets, counts > 0, flat, offsets, ties)
    greater, equal = PopularityRanks(counts, ties)(targets, flat, offsets)
    assert torch.equal(greater, slow.num_greater) and torch.equal(equal, slow.num_ties)
    assert slow.is_hidden.any() and slow.is_cold.any() and not slow.is_miss.all()


def test_nothing_seen() -> None:
    ranks = PopularityRanks(torch.tensor([0, 3, 9, 3]))
    nothing, offsets = torch.zeros(0, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    greater, ties = ranks(torch.tensor([1, 2, 3]), nothing, offsets)
    assert greater.tolist() == [1, 0, 1] and ties.tolist() == [1, 0, 1]
