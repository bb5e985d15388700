"""One comparison block: the runs of a study that were tested on the same targets in the same way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from recsys_lab.diagnose.slice_values import Sliced
from recsys_lab.runs.comparison import Comparison
from recsys_lab.statistics.pairs import Pair
from recsys_lab.study.results.curve import Curve
from recsys_lab.study.results.effects import AxisEffect
from recsys_lab.study.results.facts import AuditFacts
from recsys_lab.study.results.record import Record
from recsys_lab.words import titled

SLICES = "slices: "
"""How notes of a block begin that are about its slices."""


@dataclass(frozen=True)
class Share:
    """Mean of a row over that of the best model, with its interval over users and seeds (of one seed: over users)."""

    mean: float
    low: float
    high: float


@dataclass
class Line:
    """What belongs to `Comparison.rows[i]` beside its numbers; `Block.lines` has the same order.

    name: short and unique in the block: the values of the axes that differ inside it; a counted baseline's own name.
    match: what the same variant is called in every block.
    letters: compact letters in the deciding metric: two rows that share one do not differ significantly; empty for rows
        that were not tested.
    """

    name: str
    match: str
    values: dict[str, str]
    label: str
    letters: str = ""
    seeds: list[int] = field(default_factory=list)
    stopped_by: list[str] = field(default_factory=list)  # different reasons, sorted
    epochs: float | None = None  # mean over seeds
    best_epoch: float | None = None  # from 0, mean over seeds


@dataclass
class Block:
    """Everything about one data set x split x evaluation.

    key: unique in the study; letters, digits, - and _ only: an anchor and a file name.
    title: for a heading.
    values: axes that tell this block from the others -> their value here.
    lines: one for each of `comparison.rows`.
    effects: by axis, in the order of the study's axes, for every metric; automatic baselines take no part.
    users: of test targets; targets: how many.
    """

    key: str
    title: str
    dataset: str
    split: str
    is_retrained: bool
    values: dict[str, str]
    comparison: Comparison
    lines: list[Line]
    effects: list[AxisEffect] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    slices: Sliced | None = None
    audit: AuditFacts = field(default_factory=AuditFacts)
    records: list[Record] = field(default_factory=list)  # finished runs, in the order of the rows, then by seed
    notes: list[str] = field(default_factory=list)
    users: int = 0
    targets: int = 0
    seed_means: list[dict[int, float]] = field(default_factory=list)  # of each row: seed -> mean of the deciding metric
    shares: list[Share] = field(default_factory=list)  # of each row, where the best possible score is known
    missing: list[str] = field(default_factory=list)  # untrained baselines that could not be had

    @cached_property
    def pair_index(self) -> dict[tuple[int, int, str], Pair]:
        """Rows a and b, and the metric -> their pair, as it was tested: a minus b."""
        return {(pair.a, pair.b, pair.metric): pair for pair in self.comparison.pairs}

    @property
    def decided_by(self) -> str:
        """The deciding metric with its cutoff."""
        return titled(self.comparison.deciding, self.comparison.cutoff)

    def pair_of(self, a: int, b: int, metric: str) -> Pair | None:
        """In either direction: look at `pair.a`. None where the two were not tested."""
        return self.pair_index.get((a, b, metric)) or self.pair_index.get((b, a, metric))

    @property
    def evaluation(self) -> dict[str, Any]:
        return self.comparison.evaluation

    @property
    def is_leaky(self) -> bool:
        """Training events are later than test targets (design: leave-one-out)."""
        return "leaky" in self.split
