"""Numbers that others published, beside those of a study: `report.published` of the study file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recsys_lab.runs.finished import Run
from recsys_lab.study.plan import Plan
from recsys_lab.study.results.block import Block
from recsys_lab.words import RecsysLabError

REACHED = 0.05
"""A published number counts as reached from so much below it (relative)."""


@dataclass(frozen=True)
class Published:
    """One published number. ours: the mean over the seeds of `variant` in a block that has the metric; None where no
    run of it is finished. Where the study has trials, `variant` may be a system: a label without the trial. reached:
    within `REACHED` of it, or above."""

    variant: str
    block: str
    metric: str
    number: float
    ours: float | None
    source: str

    @property
    def difference(self) -> float | None:
        """Of ours from theirs, in % of theirs."""
        return None if self.ours is None else 100 * (self.ours / self.number - 1)

    @property
    def reached(self) -> bool | None:
        return None if self.ours is None else self.ours >= self.number * (1 - REACHED)


def find_published(plan: Plan, blocks: list[Block]) -> list[Published]:
    """Raises RecsysLabError for an entry of the study file that can't be meant."""
    report = plan.study.report
    best_of = report.get("best_of")
    labels = {variant.label: variant.values for variant in plan.variants}
    if best_of is not None:  # a system is what its trials share: the label without the trial
        for variant in plan.variants:
            others = {axis: value for axis, value in variant.values.items() if axis != best_of}
            labels |= {"_".join(others.values()): others} if len(others) < len(variant.values) else {}
    found = []
    entries = report.get("published") or []
    for entry in [] if plan.study.fast else entries:  # made data has no published numbers, and not every variant is run
        name = entry.get("variant") if isinstance(entry, dict) else None
        if name not in labels:
            known = ", ".join(list(labels)[:20])
            raise RecsysLabError(f"{plan.study.file}: report.published: no variant {name!r}. There are: {known}")
        numbers = {key: value for key, value in entry.items() if "@" in key}
        wrong = [key for key, value in numbers.items() if not isinstance(value, int | float)]
        if wrong or not numbers:
            raise RecsysLabError(
                f"{plan.study.file}: report.published of {name}: write metrics and numbers, such as ndcg@10: 0.1821"
            )
        for metric, number in numbers.items():
            title, ours = _ours(blocks, name, labels[name] if best_of else {}, metric)
            found.append(Published(name, title, metric, float(number), ours, str(entry.get("source", ""))))
    return found


def _ours(blocks: list[Block], variant: str, system: dict[str, str], metric: str) -> tuple[str, float | None]:
    for block in blocks:
        for row, line in zip(block.comparison.rows, block.lines, strict=True):
            if not row.is_automatic and (line.label == variant or system and line.values == system):
                values = [_test(run, metric) for run in row.runs]
                known = [value for value in values if value is not None]
                return block.title, sum(known) / len(known) if known else None
    return "", None


def _test(run: Run, metric: str) -> float | None:
    value: Any = run.metrics.get(f"test/{metric}")
    return float(value) if isinstance(value, int | float) else None
