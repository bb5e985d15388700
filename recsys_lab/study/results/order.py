"""Does the order of the models change between two blocks, e.g. between two splits of one data set?"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Flip:
    """Two variants in another order in block b than in block a. Differences are `first` minus `second`."""

    first: str  # better in block a
    second: str
    difference_a: float
    difference_b: float
    p_a: float  # corrected
    p_b: float
    is_significant: bool  # in both blocks: the order did change


@dataclass
class OrderAgreement:
    """Two blocks' orders of the variants that both hold.

    tau: Kendall's tau-b between the two orders: 1 the same, -1 reversed; nan for fewer than two variants.
    seed_tau_a, seed_tau_b: mean tau between the orders of two seeds of the same block: what chance in training alone
        does to the order; None for fewer than two seeds.
    significant_pairs: pairs whose difference holds in both blocks: those that could have been found flipped.
    """

    a: str  # Block.key
    b: str
    metric: str
    names: list[str]
    order_a: list[int]  # rank of each of `names` in block a, 1 = best
    order_b: list[int]
    tau: float
    pairs: int
    seed_tau_a: float | None = None
    seed_tau_b: float | None = None
    significant_pairs: int = 0
    flips: list[Flip] = field(default_factory=list)
    differs_in: list[str] = field(default_factory=list)  # of the blocks' facts: dataset, split, ...
