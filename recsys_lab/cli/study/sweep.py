"""`recsys-lab study sweep FILE`: the study as a W&B sweep, and the command that its agents start."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from recsys_lab.cli.messages import show_messages
from recsys_lab.cli.study.opened import open_study, refuse_other_data, study_parser
from recsys_lab.cli.study.run import terminated_as_interrupt
from recsys_lab.schema import RecsysLabError
from recsys_lab.study.launch.job import Job, execute
from recsys_lab.study.plan import Plan, PlannedRun
from recsys_lab.study.sweeps import SEARCH, grid_sweep, planned_run, search_sweeps, trial_of, write_sweeps

FOLDER = "sweep"
"""Of the trials of sweeps, in the study's folder of results."""


class FailedRunError(RecsysLabError):
    """The run of an agent failed."""

    exit_code = 1


def run(arguments: list[str]) -> None:
    parser = study_parser(
        "sweep",
        "Prints the study as a configuration for `wandb sweep`: its axes and seeds as a grid, or, with a `tune` "
        "section, one Bayesian search for each compared value. Start agents in the folder where this was called. "
        "Nothing of a study needs W&B; `study run` and `study tune` do the same without it.",
    )
    parser.add_argument("--grid", action="store_true", help="the study's own runs, also when it has a `tune` section")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write each sweep into a file there")
    parser.add_argument(
        "--run", metavar="JSON", dest="given", help="what an agent calls: execute the run with these parameters"
    )
    chosen = parser.parse_args(arguments[1:])
    plan, resolver = open_study(chosen)
    if chosen.given is not None:
        _run_one(plan, resolver, chosen.given)
        return
    command = _command(chosen)
    if plan.study.tune and not chosen.grid:
        settings, searches = _searches(plan, resolver)
        sweeps = search_sweeps(plan.study, settings, searches, command)
    else:
        sweeps = [grid_sweep(plan, command)]
    if chosen.output is None:
        print("---\n".join(sweep.text() for sweep in sweeps), end="")
        if len(sweeps) > 1:
            print(f"# {len(sweeps)} sweeps: `--output FOLDER` writes each into a file, as `wandb sweep` wants it")
        return
    for path in write_sweeps(sweeps, chosen.output):
        print(f"wandb sweep {path}")


def _command(chosen: argparse.Namespace) -> list[str]:
    """What an agent calls, up to the parameters."""
    command = ["recsys-lab", "study", "sweep", str(chosen.file), "--root", chosen.root]
    for pair in chosen.set:
        command += ["--set", pair]
    if chosen.data_dir is not None:
        command += ["--data-dir", chosen.data_dir]
    return [*command, *(["--fast"] if chosen.fast else []), "--run"]


def _searches(plan: Plan, resolver: Any) -> tuple[Any, Any]:
    from recsys_lab.study.tune.searches import make_searches
    from recsys_lab.study.tune.settings import read_settings

    settings = read_settings(plan.study)
    return settings, make_searches(plan.study, plan.variants, settings, resolver)


def _run_one(plan: Plan, resolver: Any, text: str) -> None:
    """Executes one run of the study, or one trial, and logs it to W&B.

    Raises:
        RecsysLabError: when the parameters name no run of the study; when the run fails (exit code 1).
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise RecsysLabError(f"--run: {text!r} is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise RecsysLabError(f"--run: must be a mapping of parameters to values, got {text!r}")
    refuse_other_data(plan)
    show_messages()
    job = _trial(plan, resolver, given) if SEARCH in given else _planned(planned_run(plan, given))
    if job is None:
        return
    resolver.prepare([job.config])
    with terminated_as_interrupt():
        outcome = execute(replace(job, config=_with_wandb(job.config)))
    print(f"{job.folder}: {outcome.state}")
    if outcome.state == "interrupted":
        raise KeyboardInterrupt
    if outcome.state == "failed":
        raise FailedRunError(f"{job.folder} failed, see log.txt there:\n{outcome.error}")


def _planned(run: PlannedRun) -> Job | None:
    """None where nothing is to be run: a finished run's numbers go to the sweep as they are."""
    if run.state == "finished":
        print(f"{run.folder}: finished already")
        _tell(run)
        return None
    return Job(run.folder, run.config)


def _trial(plan: Plan, resolver: Any, given: dict[str, Any]) -> Job:
    from recsys_lab.study.tune.searches import trial_config

    search, settings = trial_of(_searches(plan, resolver)[1], given)
    name = os.environ.get("WANDB_RUN_ID") or sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]
    folder = plan.study.folder / FOLDER / search.folder.name / name
    config = trial_config(plan.study, search, 0, settings, resolver)
    run = {**config["run"], "variant": f"{search.label}-{name}", "folder": str(folder)}
    return Job(folder, {**config, "run": run})


def _with_wandb(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "run": {**config["run"], "logger": "wandb"}}


def _tell(run: PlannedRun) -> None:
    """Gives the numbers of a finished run to the sweep."""
    import wandb

    from recsys_lab.cli.loggers import fact_tags, run_facts, wandb_mode

    facts = run_facts(run.manifest)
    metrics = json.loads((run.folder / "metrics.json").read_text())
    mode: Any = wandb_mode()
    with wandb.init(
        dir=run.folder,
        mode=mode,
        project=None if "WANDB_SWEEP_ID" in os.environ else run.study,
        group=run.variant.label,
        job_type="fit",
        name=f"{run.variant.label}-seed{run.seed}",
        tags=fact_tags(facts),
        config={**run.variant.settings, **facts},
    ) as logged:
        logged.summary.update(metrics)
