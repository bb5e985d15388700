"""The runs of a study, each with its folder and state; what the missing ones will cost. Reads folders, changes none."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from recsys_lab.data.locate import DATASET
from recsys_lab.runs.finished import Run, read_run
from recsys_lab.runs.run_files import read_json
from recsys_lab.runs.seeds import current_numbers, numbers_version
from recsys_lab.study.launch.job import State, read_job, state_of
from recsys_lab.study.plan.beginnings import in_order
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.plan.study_file import Study
from recsys_lab.study.plan.study_settings import data_key
from recsys_lab.study.plan.variants import Variant, make_variants
from recsys_lab.study.values import KeptRun, find_values

QUIET = {"enable_progress_bar": False, "enable_model_summary": False}
"""Of runs whose output goes to a file."""


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed."""

    study: str
    variant: Variant
    seed: int
    folder: Path
    state: State
    begins_with: Path | None = None  # the run folder whose weights it begins with
    kept: KeptRun | None = None  # finished, and all that is here of it is what was kept beside the study file

    @property
    def config(self) -> dict[str, Any]:
        """What `recsys-lab fit --config` is given."""
        settings = self.variant.settings
        return {
            **settings,
            "seed_everything": self.seed,
            "trainer": {**QUIET, **settings.get("trainer", {})},
            "run": {
                **settings.get("run", {}),
                "study": self.study,
                "variant": self.variant.label,
                "folder": str(self.folder),
            },
            **({} if self.begins_with is None else {"warm_start": str(self.begins_with)}),
        }

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Of the run folder, or of what was kept of it; empty where there is none yet."""
        if self.kept is not None:
            return self.kept.manifest
        return {} if self.state == "missing" else read_json(self.folder / "manifest.json")

    def read(self) -> Run:
        """What it came to.

        Raises:
            UnreadableRunError: when its files are missing or damaged, or it has not been tested.
        """
        return read_run(self.folder) if self.kept is None else replace(self.kept, folder=self.folder)

    @property
    def place(self) -> Path:
        """Where its results are."""
        return self.folder if self.kept is None else self.kept.file

    @property
    def error(self) -> str:
        """Of a failed run: the last lines of its traceback."""
        return str(read_job(self.folder).get("error") or self.manifest.get("error") or "")


@dataclass(frozen=True)
class Plan:
    """A study and its runs.

    refusals: why the results folder can't be gone on with; one line each. Nothing may be run while there is any.
    not_counted: values beside the study file that are no run of this study, and why; one line each.
    """

    study: Study
    variants: list[Variant]
    runs: list[PlannedRun]
    refusals: list[str] = field(default_factory=list)
    not_counted: list[str] = field(default_factory=list)

    def in_state(self, *states: State) -> list[PlannedRun]:
        return [run for run in self.runs if run.state in states]

    def counts(self) -> dict[str, int]:
        """State -> number of runs."""
        return dict(Counter(run.state for run in self.runs))

    @cached_property
    def estimates(self) -> Estimates:
        return Estimates(self)


class Estimates:
    """Seconds that a run will take: the median of finished runs of its variant, or of those alike, or its cap.

    An encoder that was not run on a data set is guessed from others that were: it takes as many times their seconds as
    on the data sets where both were run.
    """

    def __init__(self, plan: Plan) -> None:
        of_variant: dict[str, list[float]] = {}
        of_pair: dict[tuple[Any, str], list[float]] = {}
        for run in plan.in_state("finished"):
            seconds = run.manifest.get("wall_seconds")
            if isinstance(seconds, int | float) and seconds > 0:
                of_variant.setdefault(run.variant.identity, []).append(float(seconds))
                of_pair.setdefault(_data_and_model(run.variant), []).append(float(seconds))
        self._of_variant = {key: statistics.median(found) for key, found in of_variant.items()}
        self._of_pair = {key: statistics.median(found) for key, found in of_pair.items()}
        self._of_any = (
            statistics.median(seconds for found in of_pair.values() for seconds in found) if of_pair else None
        )

    def of(self, run: PlannedRun) -> float | None:
        """Of the whole run, without the start of its process; None where nothing is known."""
        known = self._of_variant.get(run.variant.identity) or self._alike(*_data_and_model(run.variant))
        cap = seconds_of((run.variant.settings.get("trainer") or {}).get("max_time"))
        if known is None and self._of_any is not None:
            return self._of_any if cap is None else min(self._of_any, cap)
        return cap if known is None else known

    def left(self, run: PlannedRun) -> float | None:
        """Of what a run that was begun has still to do: by its epochs."""
        known, epochs = self.of(run), (run.variant.settings.get("trainer") or {}).get("max_epochs")
        if known is None or run.state not in ("interrupted", "running") or not isinstance(epochs, int) or epochs < 1:
            return known
        return known * max(0.0, 1 - epochs_in(run.folder / "metrics.csv") / epochs)

    def _alike(self, data: Any, model: str) -> float | None:
        of_pair = self._of_pair
        if (data, model) in of_pair:
            return of_pair[data, model]
        here = {other: seconds for (place, other), seconds in of_pair.items() if place == data}
        by_ratio = [
            seconds * of_pair[place, model] / of_pair[place, other]
            for other, seconds in here.items()
            for place, name in of_pair
            if name == model and (place, other) in of_pair
        ]
        return statistics.median(by_ratio or here.values()) if here else None


def _data_and_model(variant: Variant) -> tuple[Any, str]:
    model = variant.settings.get("model")
    name = model.get("class_path") if isinstance(model, dict) else model
    return (variant.settings.get("data") or {}).get("dataset"), str(name).rpartition(".")[2]


def epochs_in(metrics: Path) -> int:
    """Rows of metrics.csv: the epochs that a run has finished."""
    try:
        return max(0, len(metrics.read_text().splitlines()) - 1)
    except OSError:
        return 0


def seconds_of(max_time: Any) -> float | None:
    """Of a Trainer's max_time: `DD:HH:MM:SS` or a mapping of days, hours, minutes, seconds; None for none."""
    if isinstance(max_time, dict):
        units = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
        return float(sum(units.get(unit, 0) * count for unit, count in max_time.items()))
    if isinstance(max_time, str) and max_time.count(":") == 3:
        days, hours, minutes, seconds = map(float, max_time.split(":"))
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return None


def make_plan(study: Study, resolver: Resolver) -> Plan:
    """Every run of a study with its state.

    Raises:
        RecsysLabError: for a study whose variants can't be built, or with two alike (see `make_variants`).
    """
    variants = make_variants(study, resolver)
    there = _folders(study.folder)
    kept = find_values(study.file, [variant.identity for variant in variants])
    runs = []
    # found by identity, so that a new name for an axis value orphans nothing
    folders = {one.identity: study.folder / there.get(one.identity[:8], one.folder_name) for one in variants}
    for variant in variants:
        name, folder = there.get(variant.identity[:8]), folders[variant.identity]
        for seed in variant.seeds:
            run_folder = folder / f"seed{seed}"
            state: State = state_of(run_folder) if name is not None else "missing"
            values = kept.runs.get((variant.identity, seed))
            first = folders[variant.begins_with] / run_folder.name if variant.begins_with else None
            if values is None or state == "running" or (state == "finished" and _is_of_this_code(run_folder)):
                runs.append(PlannedRun(study.name, variant, seed, run_folder, state, first))
            else:
                runs.append(PlannedRun(study.name, variant, seed, run_folder, "finished", first, values))
    # every variant once before any twice: an unfinished study is then a whole one with fewer seeds
    runs.sort(key=lambda run: run.variant.seeds.index(run.seed))
    runs = in_order(runs)
    return Plan(study, variants, runs, _other_data(runs, resolver), kept.others)


def _is_of_this_code(folder: Path) -> bool:
    return numbers_version(read_json(folder / "manifest.json")) == current_numbers()


def _folders(folder: Path) -> dict[str, str]:
    """Identity -> name of the variants' folders that are there."""
    if not folder.is_dir():
        return {}
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    return {name.rpartition("-")[2]: name for name in sorted(names) if "-" in name}


def _other_data(runs: list[PlannedRun], resolver: Resolver) -> list[str]:
    """Results that were made on another version of the data than is prepared now, or than other results."""
    by_data: dict[str, list[PlannedRun]] = {}
    for run in runs:
        if run.state == "finished":
            by_data.setdefault(data_key(run.variant.settings), []).append(run)
    lines = []
    for group in by_data.values():
        now = resolver.data_hash(group[0].variant.settings)
        hashes = [run.manifest.get("evaluation", {}).get("data_hash") for run in group]
        wanted = now or Counter(hashes).most_common(1)[0][0]
        what = f"the prepared data set {_dataset(group[0])!r} has" if now else "most of the others were made on"
        lines += [
            f"{run.place}: made on another version of the data (data_hash {had}; {what} {wanted}). Move these results "
            "away, or prepare the old data again"
            for run, had in zip(group, hashes, strict=True)
            if had != wanted
        ]
    return lines


def _dataset(run: PlannedRun) -> str:
    return str((run.variant.settings.get("data") or {}).get("dataset", DATASET))
