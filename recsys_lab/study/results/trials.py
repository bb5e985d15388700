"""Trials of one system: of the values of one axis, the best on validation stands for all (`report.best_of`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from recsys_lab.runs.finished import Run
from recsys_lab.study.plan.variants import prefers_low
from recsys_lab.study.results.names import joined
from recsys_lab.study.results.record import Record


@dataclass(frozen=True)
class Trials:
    """What was tried for one system, and what of it stands in the tables.

    system: the values of the other axes, as a name; `values` has them by axis.
    reached: value of the axis -> the metric that selects, on validation; mean over the seeds that all values have.
    chosen: the best value on validation.
    """

    system: str
    reached: dict[str, float]
    chosen: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def spread(self) -> float:
        """Between the best and the worst value, on validation."""
        return max(self.reached.values()) - min(self.reached.values())


def keep_best(
    records: Sequence[Record], runs: Sequence[Run | None], axis: str, select: str
) -> tuple[list[Record], list[Run | None], list[Trials]]:
    """The runs of the chosen values, whose records are without the axis: they stand for their system. The runs of the
    other values are in no test: the test metric of a trial that was not chosen decides nothing.

    Args:
        records: of the planned runs; those that are not finished have no say.
        runs: of each record.
        axis: whose values are the trials.
        select: the metric, `val/ndcg@10`.
    """
    systems: dict[tuple[tuple[str, str], ...], dict[str, list[int]]] = {}
    for place, (record, run) in enumerate(zip(records, runs, strict=True)):
        if run is not None and axis in record.values and select in run.metrics:
            others = tuple((name, value) for name, value in record.values.items() if name != axis)
            systems.setdefault(others, {}).setdefault(record.values[axis], []).append(place)
    kept: dict[int, Record] = {}
    tried = []
    for others, places in systems.items():
        seeds = set.intersection(*({records[place].seed for place in of} for of in places.values()))
        reached = {value: _mean(of, records, runs, seeds, select) for value, of in places.items()}
        chosen = (min if prefers_low(select) else max)(reached, key=lambda value: reached[value])
        tried.append(Trials(joined(dict(others), [name for name, _ in others]), reached, chosen, dict(others)))
        kept |= {place: replace(records[place], values=dict(others)) for place in places[chosen]}
    alone = [place for place, record in enumerate(records) if axis not in record.values]
    found = sorted([*kept, *alone])
    return [kept.get(place, records[place]) for place in found], [runs[place] for place in found], tried


def _mean(
    places: Sequence[int], records: Sequence[Record], runs: Sequence[Run | None], seeds: set[int], select: str
) -> float:
    """Over the shared seeds; over all, where there is no shared one."""
    shared = [place for place in places if records[place].seed in seeds] or places
    values = [float(run.metrics[select]) for place in shared if (run := runs[place]) is not None]
    return sum(values) / len(values)
