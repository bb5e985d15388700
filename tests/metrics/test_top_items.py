"""top_items against sorting, with ties, seen items and too few candidates."""

from __future__ import annotations

import pytest
import torch
import whole_rows

from recsys_lab.ops.top_items import GOLDEN, top_items, top_items_of_product
from recsys_lab.words import PAD_ID


def by_sorting(row: torch.Tensor, allowed: list[int], k: int) -> list[int]:
    order = sorted(allowed, key=lambda item: (-float(row[item]), (item * GOLDEN) % 2**32))
    return (order + [PAD_ID] * k)[:k]


@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_equals_sorting(levels: int, k: int) -> None:
    generator = torch.Generator().manual_seed(levels + k)
    rows, width = 40, 13
    scores = torch.randint(levels, (rows, width), generator=generator).float()
    is_candidate = torch.rand(width, generator=generator) > 0.2
    is_candidate[0] = False
    seen = [torch.randperm(width - 1, generator=generator)[: i % 6] + 1 for i in range(rows)]
    offsets = torch.tensor([0] + [len(s) for s in seen]).cumsum(0)
    items, best = top_items(scores, is_candidate, torch.cat(seen), offsets, k)
    for row in range(rows):
        allowed = [i for i in range(width) if is_candidate[i] and i not in seen[row].tolist()]
        assert items[row].tolist() == by_sorting(scores[row], allowed, k)
        real = items[row][items[row] != PAD_ID]
        assert best[row][: len(real)].tolist() == scores[row][real].tolist()
        assert torch.isinf(best[row][len(real) :]).all()


def test_a_constant_scorer_does_not_prefer_small_ids() -> None:
    items, _ = top_items(torch.zeros(1, 1001), torch.arange(1001) > 0, None, None, 20)
    assert 250 < items.float().mean() < 750


def test_the_scores_are_left_as_they_were() -> None:
    scores = torch.rand(3, 8)
    before = scores.clone()
    top_items(scores, torch.arange(8) > 2, torch.tensor([4, 5]), torch.tensor([0, 1, 1, 2]), 3)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("levels", [3, 200, 1 << 24])
@pytest.mark.parametrize(("width", "k"), [(30_001, 100), (20_000, 10), (19_000, 20), (1_000, 100), (50, 100)])
def test_long_rows_equal_whole_rows(width: int, k: int, levels: int) -> None:
    """Where only some groups of columns are looked through, and where it is not worth it; with and without ties."""
    g = torch.Generator().manual_seed(width + levels)
    scores = torch.randint(levels, (7, width), generator=g).float()
    scores[:, 0] = torch.nan  # padding means nothing
    is_candidate = torch.rand(width, generator=g) > 0.1
    is_candidate[0] = False
    seen = [(torch.randperm(width - 1, generator=g)[: 5 * i] + 1) for i in range(7)]
    seen[6] = torch.arange(1, width)  # had everything
    facts = (is_candidate, torch.cat(seen), torch.tensor([0, *(len(ids) for ids in seen)]).cumsum(0), k)
    got, expected = top_items(scores, *facts), whole_rows.top_items(scores, *facts)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
    assert (got[0][6] == PAD_ID).all() and (width < 100 or (got[0][:6] != PAD_ID).all())
    for row, own in enumerate(seen):  # a row by itself is made in fewer steps
        items, best = top_items(scores[row : row + 1], is_candidate, own, torch.tensor([0, len(own)]), k)
        assert torch.equal(items[0], got[0][row]) and torch.equal(best[0], got[1][row])


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize(("width", "k"), [(30_001, 100), (20_000, 10), (50, 100)])
def test_lists_of_a_product_are_those_of_its_scores(width: int, k: int, rows: int) -> None:
    """In several parts and in one, with ties, a bias, items that are no candidates, and rows that saw the best."""
    g = torch.Generator().manual_seed(width + rows)
    query = torch.randint(-3, 4, (rows, 4), generator=g).float()  # whole numbers: each score is exact, and many tie
    weight, bias = (torch.randint(-3, 4, size, generator=g).float() for size in ((width, 4), (width,)))
    weight[0] = torch.nan  # padding means nothing
    for share in (0.0, 0.1):
        is_candidate = torch.rand(width, generator=g) >= share
        is_candidate[0] = False
        for one in (None, bias):
            scores = torch.nn.functional.linear(query, weight, one)
            best = scores[:, 1:].topk(min(width - 1, 60)).indices + 1
            for seen, offsets in (
                (best.flatten(), torch.arange(rows + 1) * best.shape[1]),
                (best.new_zeros(0), torch.zeros(rows + 1, dtype=torch.int64)),
            ):
                facts = (is_candidate, seen, offsets, k)
                got, expected = top_items_of_product(query, weight, one, *facts), whole_rows.top_items(scores, *facts)
                assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
