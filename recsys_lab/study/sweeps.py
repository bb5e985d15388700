"""A study as W&B sweeps: its axes or search spaces as parameters, and the command that an agent starts for each run.

The command gets the parameters as JSON and is a command of the study, so that values of an axis which set several keys,
exclusions and seeds mean in a sweep what they mean in `study run`. See docs/loggers.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import floor
from pathlib import Path
from typing import Any

import yaml

from recsys_lab.schema import RecsysLabError
from recsys_lab.study.plan import Plan, PlannedRun, Study
from recsys_lab.study.plan.study_file import Settings, text_of
from recsys_lab.study.tune.searches import Search
from recsys_lab.study.tune.settings import TuneSettings
from recsys_lab.study.tune.space import Choices, Range

SECTIONS = ("model", "data", "trainer", "evaluation", "recommendations", "early_stopping", "checkpoint", "run")
"""Names that the logged configuration has already: W&B would put the parameter in the section's place."""
VARIANT, SEED, SEARCH, RUN = "variant", "seed", "search", "run_of_study"


@dataclass(frozen=True)
class Sweep:
    """One sweep. name: a file name; config: what `wandb sweep` reads; notes: what of the study it does not hold."""

    name: str
    config: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The YAML file, with how to start it and the notes on top."""
        notes = "".join(f"# Note: {note}\n" for note in self.notes)
        head = f"# wandb sweep {self.name}.yaml, then on each machine: wandb agent <the id that it prints>\n"
        return head + notes + yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)


def grid_sweep(plan: Plan, command: Sequence[str]) -> Sweep:
    """Every run of a study once: one parameter per axis and one for the seed, where that is the whole grid; else one
    parameter whose values are the variants, since a sweep knows no exclusions."""
    study, notes = plan.study, []
    seeds = {variant.seeds for variant in plan.variants}
    labels = [variant.label for variant in plan.variants]
    if _is_whole_grid(plan):
        parameters = {_name(axis): {"values": _axis_values(study, axis)} for axis in study.axes}
    else:
        parameters = {VARIANT: {"values": labels}}
        notes.append(
            "a sweep knows no exclusions, explicit variants or seeds of one value: its grid would hold runs that the "
            "study has not. The variants are the values of one parameter; what they set is in each run's config"
        )
    if len(seeds) == 1:
        parameters[SEED] = {"values": list(next(iter(seeds)))}
    else:
        parameters = {RUN: {"values": [_run_name(run) for run in plan.runs]}}
    return Sweep(study.name, _head(study, "grid", _mode(plan)) | {"parameters": parameters, **_command(command)}, notes)


def search_sweeps(
    study: Study, settings: TuneSettings, searches: Sequence[Search], command: Sequence[str]
) -> list[Sweep]:
    """One sweep for each search of the `tune` section: one for all would spend its budget where it is easy."""
    method = "bayes" if settings.sampler == "tpe" else "random"
    sweeps = []
    for search in searches:
        notes = ["the study's own settings are no trial of their own here; `recsys-lab study tune` begins with them"]
        parameters: dict[str, Any] = {SEARCH: {"value": search.label}}
        parameters |= {_name(key): _distribution(one) for key, one in search.space.items()}
        config = _head(study, method, search.mode) | {"name": f"{study.name} {search.label}"}
        if settings.budget.trials is not None:
            config["run_cap"] = settings.budget.trials
        else:
            notes.append(
                f"a sweep has no budget in seconds: stop it when its runs took {settings.budget.seconds:g} s, or give "
                "each the same run_cap"
            )
        if settings.pruner == "hyperband":
            options = settings.pruner_options
            config["early_terminate"] = {
                "type": "hyperband",
                "min_iter": options["min_resource"],
                "eta": options["reduction_factor"],
            }
        elif settings.pruner != "none":
            notes.append(f"W&B has no {settings.pruner} pruner: no run is stopped early")
        sweeps.append(Sweep(search.label, config | {"parameters": parameters, **_command(command)}, notes))
    return sweeps


def planned_run(plan: Plan, given: dict[str, Any]) -> PlannedRun:
    """The run that an agent's parameters name.

    Raises:
        RecsysLabError: when the study has no such run.
    """
    for run in plan.runs:
        values = {_name(axis): value for axis, value in run.variant.values.items()}
        names = values | {VARIANT: run.variant.label, SEED: str(run.seed), RUN: _run_name(run)}
        is_full = set(given) in ({RUN}, {VARIANT, SEED}, {*values, SEED} if values else set())
        if is_full and all(names[name] == text_of(value) for name, value in given.items()):
            return run
    raise RecsysLabError(f"{plan.study.file}: has no run with {json.dumps(given)}; export the sweep again")


def trial_of(searches: Sequence[Search], given: dict[str, Any]) -> tuple[Search, Settings]:
    """The search, and the settings of its trial, that an agent's parameters name.

    Raises:
        RecsysLabError: when the study has no such search, or the search another space.
    """
    search = next((one for one in searches if one.label == given.get(SEARCH)), None)
    if search is None or {_name(key) for key in search.space} != given.keys() - {SEARCH}:
        raise RecsysLabError(f"no search of the study has the parameters {json.dumps(given)}; export the sweep again")
    return search, {key: _chosen(one, given[_name(key)]) for key, one in search.space.items()}


def write_sweeps(sweeps: Sequence[Sweep], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{sweep.name}.yaml" for sweep in sweeps]
    for sweep, path in zip(sweeps, paths, strict=True):
        path.write_text(sweep.text())
    return paths


# ----------------------------------------------------------------------------------------------------------------------


def _head(study: Study, method: str, mode: str) -> dict[str, Any]:
    goal = "minimize" if mode == "min" else "maximize"
    head = {"project": study.name, "name": study.name, "description": study.question, "method": method}
    return {name: text for name, text in head.items() if text} | {"metric": {"name": study.select, "goal": goal}}


def _command(command: Sequence[str]) -> dict[str, Any]:
    return {"command": ["${env}", *command, "${args_json}"]}


def _mode(plan: Plan) -> str:
    return str((plan.variants[0].settings.get("checkpoint") or {}).get("mode", "max"))


def _is_whole_grid(plan: Plan) -> bool:
    axes = plan.study.axes
    grid = sorted(product(*([value.label for value in values] for values in axes.values())))
    there = sorted(tuple(variant.values.get(axis, "") for axis in axes) for variant in plan.variants)
    return bool(axes) and grid == there


def _axis_values(study: Study, axis: str) -> list[Any]:
    """Numbers as numbers, so that W&B draws them as such; what sets several keys as its name."""
    found = []
    for value in study.axes[axis]:
        plain = next(iter(value.settings.values())) if len(value.settings) == 1 else None
        is_plain = isinstance(plain, int | float | str) and text_of(plain) == value.label
        found.append(plain if is_plain else value.label)
    return found


def _name(key: str) -> str:
    return f"axis.{key}" if key in (*SECTIONS, VARIANT, SEED, SEARCH, RUN) else key


def _run_name(run: PlannedRun) -> str:
    return f"{run.variant.label}/seed{run.seed}"


def _distribution(one: Range | Choices) -> dict[str, Any]:
    if isinstance(one, Choices):
        return {"values": list(one.names())}
    if one.step is not None:  # W&B rounds to multiples of a step, wherever the range begins
        count = floor((one.high - one.low) / one.step + 1e-9)
        return {"values": [round(one.low + i * one.step, 12) for i in range(count + 1)]}
    bounds = {"min": one.low, "max": one.high}
    if one.is_whole:
        return {"distribution": "q_log_uniform_values", "q": 1, **bounds} if one.log else {**bounds}
    return {"distribution": "log_uniform_values" if one.log else "uniform", **bounds}


def _chosen(one: Range | Choices, value: Any) -> Any:
    if isinstance(one, Choices):
        for name, choice in zip(one.names(), one.values, strict=True):
            if name == value and type(name) is type(value):
                return choice
        raise RecsysLabError(f"{value!r} is none of the choices {', '.join(map(str, one.names()))}")
    return int(value) if one.is_whole else float(value)
