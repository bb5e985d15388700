"""Does the order of the models change between two blocks, e.g. between two splits of one data set?"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from recsys_lab.words import LOWER_IS_BETTER

if TYPE_CHECKING:
    from recsys_lab.study.results.block import Block

FACTS = ("dataset", "split", "exclude_seen", "ties", "cold_targets")


@dataclass(frozen=True)
class Flip:
    """Two variants in another order in block b than in block a. Differences are `first` minus `second`."""

    first: str  # better in block a
    second: str
    difference_a: float
    difference_b: float
    is_significant: bool  # in both blocks: the order did change


@dataclass
class OrderAgreement:
    """Two blocks' orders of the variants that both hold.

    tau: Kendall's tau-b between the two orders: 1 the same, -1 reversed; nan for fewer than two variants.
    seed_tau_a, seed_tau_b: mean tau between the orders of two seeds of the same block: what chance in training alone
        does to the order; None for fewer than two seeds.
    flips: pairs in another order, the significant ones first.
    significant_pairs: pairs that differ significantly in both blocks: those that could have been found flipped.
    """

    a: str  # Block.key
    b: str
    metric: str
    names: list[str]
    tau: float
    pairs: int
    seed_tau_a: float | None = None
    seed_tau_b: float | None = None
    significant_pairs: int = 0
    flips: list[Flip] = field(default_factory=list)
    differs_in: list[str] = field(default_factory=list)  # of the blocks' facts: dataset, split, ...


def agreement(a: Block, b: Block, metric: str, alpha: float) -> OrderAgreement | None:
    """None where the two share fewer than two variants."""
    blocks = (a, b)
    rows_a, rows_b = ({line.match: row for row, line in enumerate(one.lines)} for one in blocks)
    names = [name for name in rows_a if name in rows_b]
    if len(names) < 2:
        return None
    places = [[rows[name] for name in names] for rows in (rows_a, rows_b)]
    means_a, means_b = (
        np.array([one.comparison.rows[row].estimates[metric].mean for row in rows])
        for one, rows in zip(blocks, places, strict=True)
    )
    found = OrderAgreement(
        a.key,
        b.key,
        metric,
        names,
        tau=kendall(means_a, means_b),
        pairs=len(names) * (len(names) - 1) // 2,
        seed_tau_a=_seed_tau([a.seed_means[row] for row in places[0]]),
        seed_tau_b=_seed_tau([b.seed_means[row] for row in places[1]]),
        differs_in=[name for name, value in _facts(a).items() if value != _facts(b)[name]],
    )
    for i, j in combinations(range(len(names)), 2):
        tested = [one.pair_of(rows[i], rows[j], metric) for one, rows in zip(blocks, places, strict=True)]
        both = all(pair is not None and pair.is_significant(alpha) for pair in tested)
        found.significant_pairs += both
        difference_a, difference_b = means_a[i] - means_a[j], means_b[i] - means_b[j]
        if difference_a * difference_b < 0:
            is_first = (difference_a > 0) != (metric in LOWER_IS_BETTER)
            better, worse, sign = (i, j, 1) if is_first else (j, i, -1)
            found.flips.append(Flip(names[better], names[worse], sign * difference_a, sign * difference_b, both))
    found.flips.sort(key=lambda flip: (not flip.is_significant, flip.difference_b - flip.difference_a))
    return found


def _facts(block: Block) -> dict[str, object]:
    """By which two blocks can differ."""
    return {name: block.evaluation.get(name) for name in FACTS} | {"retrained": block.is_retrained}


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """tau-b; nan where one of the two is all ties."""
    return float(stats.kendalltau(x, y).statistic)


def _seed_tau(seed_means: list[dict[int, float]]) -> float | None:
    """Mean tau between two seeds, over pairs of seeds that all trained rows have."""
    trained = [of for of in seed_means if len(of) > 1]
    if not trained:
        return None
    shared = sorted(set.intersection(*(set(of) for of in trained)))
    by_seed = [np.array([of.get(seed, next(iter(of.values()))) for of in seed_means]) for seed in shared]
    taus = [kendall(x, y) for x, y in combinations(by_seed, 2)]
    return float(np.mean(taus)) if taus else None
