"""`linear_target_ranks` against ranking the whole product: the same numbers, whatever the size of a block."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
import whole_rows
from loss_scorers import TableScorer

from recsys_lab.ops import linear_ranks
from recsys_lab.ops.linear_ranks import linear_target_ranks
from recsys_lab.ops.ranks import Ranks, Ties


class Case:
    """Made queries and items, with items that share an embedding (ties), cold items, hidden targets, empty histories.

    `levels`: embeddings of few whole numbers instead of normal ones: most items are tied with others, and any order of
    additions gives the same product.
    """

    def __init__(self, rows: int, items: int, width: int, levels: int = 0, bias: bool = False, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        shape = (items + 1, width)
        self.table = torch.randint(levels, shape, generator=g).float() if levels else torch.randn(shape, generator=g)
        self.query = (
            torch.randint(levels, (rows, width), generator=g).float()
            if levels
            else torch.randn(rows, width, generator=g)
        )
        twins = torch.randint(1, items + 1, (2, items // 3), generator=g)
        self.table[twins[0]] = self.table[twins[1]]
        self.bias = torch.randint(3, (items + 1,), generator=g).float() if bias else None
        self.table[0] = torch.nan  # padding means nothing, whatever it holds
        self.target_ids = torch.randint(1, items + 1, (rows,), generator=g)
        self.is_candidate = torch.rand(items + 1, generator=g) > 0.1
        self.is_candidate[0] = False
        seen = [
            torch.randperm(items, generator=g)[: int(n)] + 1 for n in torch.randint(items // 2, (rows,), generator=g)
        ]
        seen[0], seen[1] = seen[0][:0], torch.cat([seen[1][seen[1] != self.target_ids[1]], self.target_ids[1:2]])
        self.seen_ids = torch.cat(seen)
        self.seen_offsets = torch.tensor([0, *(len(ids) for ids in seen)]).cumsum(0)

    def blockwise(self, ties: Any = "expected") -> Ranks | None:
        facts = (self.target_ids, self.is_candidate, self.seen_ids, self.seen_offsets)
        return linear_target_ranks(self.query, TableScorer(self.table, self.bias), *facts, ties)

    def reference(self, ties: Any = "expected") -> Ranks:
        scores = F.linear(self.query, self.table, self.bias)
        return whole_rows.target_ranks(
            scores, self.target_ids, self.is_candidate, self.seen_ids, self.seen_offsets, ties
        )


def assert_same(got: Ranks | None, expected: Ranks) -> None:
    assert got is not None
    for field in fields(Ranks):
        assert torch.equal(getattr(got, field.name), getattr(expected, field.name)), field.name


@pytest.mark.parametrize("block_scores", [1, 700, 5_000, 1 << 19])
@pytest.mark.parametrize("ties", get_args(Ties))
@pytest.mark.parametrize("bias", [False, True])
def test_the_same_numbers(bias: bool, ties: Any, block_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(rows=70, items=131, width=8, levels=2, bias=bias)
    monkeypatch.setattr(linear_ranks, "BLOCK_SCORES", block_scores)
    expected = case.reference(ties)
    assert expected.is_cold.any() and expected.is_hidden.any() and (expected.num_ties > 0).any() == (ties == "expected")
    assert_same(case.blockwise(ties), expected)


@pytest.mark.parametrize(("rows", "items", "width"), [(512, 3_000, 64), (100, 9_000, 50), (33, 2_000, 128)])
def test_real_products_are_ranked_without_falling_back(rows: int, items: int, width: int) -> None:
    case = Case(rows, items, width)
    scores, rows_64 = F.linear(case.query, case.table), slice(0, linear_ranks.GUESSED_ROWS)
    ids = case.target_ids[rows_64]
    if not torch.equal(
        F.linear(case.query[rows_64], case.table[ids]).diagonal(), scores[rows_64].gather(1, ids[:, None])[:, 0]
    ):
        pytest.skip("this processor multiplies small matrices in another way: whole rows are ranked, which is slower")
    assert_same(case.blockwise(), case.reference())


def test_a_guess_that_is_another_number_gives_no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    case, guess = Case(rows=64, items=50, width=16), linear_ranks._guess

    def off(*arguments: Any) -> torch.Tensor:
        scores = guess(*arguments)
        scores[17] = torch.nextafter(scores[17], torch.tensor(torch.inf))
        return scores

    assert case.blockwise() is not None
    monkeypatch.setattr(linear_ranks, "_guess", off)
    assert case.blockwise() is None


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_give_no_ranks(bad: float) -> None:
    case = Case(rows=64, items=50, width=16)
    case.table[33, 5] = bad
    assert case.blockwise() is None


def test_few_rows_give_no_ranks() -> None:
    assert Case(rows=linear_ranks.MIN_ROWS - 1, items=50, width=16).blockwise() is None
