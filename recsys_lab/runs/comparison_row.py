"""One row of a comparison: a system, its seeds averaged."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys_lab.runs.finished import Run
from recsys_lab.runs.seeds import System
from recsys_lab.statistics.pairs import ONE_SEED, Pair, Seeds
from recsys_lab.statistics.rule import Estimate, estimate
from recsys_lab.words import RecsysLabError

SAW_TARGETS = "trained on test targets"


@dataclass(eq=False)
class Row:
    """One system, its seeds averaged. variant: its name here; `label` is what its manifests say."""

    variant: str
    runs: list[Run]
    values: dict[str, np.ndarray]  # metric -> (N,) per target, mean over seeds
    estimates: dict[str, Estimate]
    seed_deviation: dict[str, float | None]  # of the metric over seeds; None for a single seed
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # over users, low and high
    against: dict[str, Pair] = field(default_factory=dict)  # metric -> this minus the reference, where targets agree
    is_automatic: bool = False  # a baseline that takes part without being asked for

    @property
    def label(self) -> str:
        return self.runs[0].variant

    @property
    def is_counted(self) -> bool:
        """An untrained baseline: every seed gives the same."""
        return all(run.manifest.get("stopped_by") == "counted" for run in self.runs)

    @property
    def trained_on(self) -> str:
        """What a table says of other training data than the split's own; empty for that."""
        found = [run.manifest.get("trained_on") or {} for run in self.runs]
        return ", ".join(sorted({str(one.get("description") or "other data") for one in found if one}))

    @property
    def reads(self) -> str:
        """What a table says of a model that is told something of the event to predict; empty for others."""
        found = sorted({str(name) for run in self.runs for name in run.manifest.get("reads") or ()})
        return ", ".join("its time" if name == "query_time" else f"its {name}" for name in found)

    @property
    def untested(self) -> str:
        """Why this row takes part in no test; empty when it does."""
        if any((run.manifest.get("trained_on") or {}).get("sees_targets") for run in self.runs):
            return SAW_TARGETS
        return ONE_SEED if len(self.runs) == 1 and not self.is_counted else ""

    def seeds_in(self, metrics: Sequence[str]) -> Seeds:
        """What the rule must know of the seeds."""
        if self.is_counted or len(self.runs) == 1:
            return Seeds(0 if self.is_counted else 1, np.zeros(len(metrics)), self.untested)
        spread = np.array([self.seed_deviation[name] for name in metrics], dtype=np.float64)
        return Seeds(len(self.runs), spread**2 / len(self.runs), self.untested)

    def mean_of(self, name: str) -> float | None:
        """Mean over seeds of a number in the manifests."""
        found = [run.manifest[name] for run in self.runs if run.manifest.get(name) is not None]
        return statistics.fmean(found) if found else None

    def texts_of(self, name: str) -> str:
        return ", ".join(sorted({str(run.manifest.get(name)) for run in self.runs}))


def make_row(system: System, cutoff: int, metrics: Sequence[str]) -> Row:
    """Raises RecsysLabError for seeds that were tested on different targets."""
    seeds = system.runs
    first = seeds[0].units
    if any(run.targets_hash != seeds[0].targets_hash for run in seeds):
        raise RecsysLabError(
            f"the seeds of {seeds[0].variant!r} were tested on different targets, so they can't be averaged: "
            + ", ".join(str(run.folder) for run in seeds)
        )
    user = first["user_id"].rank("dense").to_numpy()
    row = Row(system.name, seeds, {}, {}, {})
    for name in metrics:
        per_seed = np.stack([run.values(name, cutoff) for run in seeds])  # (S, N)
        row.values[name] = per_seed.mean(axis=0)
        row.estimates[name] = estimate(row.values[name], user)
        row.seed_deviation[name] = float(per_seed.mean(axis=1).std(ddof=1)) if len(seeds) > 1 else None
    return row
