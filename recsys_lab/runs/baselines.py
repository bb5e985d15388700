"""The counted baselines of a comparison: made once per data set, split and evaluation, kept beside the study's runs."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recsys_lab.config import import_class
from recsys_lab.runs.finished import BASELINES, COMPARED, Run, UnreadableRunError, differences, read_run
from recsys_lab.words import RecsysLabError, resolve_names

log = logging.getLogger("recsys_lab")


MANDATORY: list[dict[str, Any]] = [
    {"class_path": f"recsys_lab.models.baselines.{name}", "init_args": init_args}
    for name, init_args in (
        ("Popularity", {}),
        ("RecentPopularity", {}),
        ("RepeatLast", {}),
        ("Markov", {"backoff": 0.0}),
        ("Markov", {"backoff": 1.0}),
        ("ItemKNN", {"history": "last"}),
        ("ItemKNN", {"history": "whole"}),
        ("SessionKNN", {}),
        ("EASE", {}),
    )
]
"""The rows of every comparison, for `config.from_config`; by name, since a comparison that finds them counted needs no
torch."""
OF_TASK: dict[str, list[dict[str, Any]]] = {
    "ClickThrough": [
        {"class_path": f"recsys_lab.models.baselines.{name}", "init_args": {}}
        for name in ("ConstantRate", "ItemRate", "UserRate", "ClickRegression")
    ],
    "SequenceLabels": [
        {"class_path": f"recsys_lab.models.baselines.{name}", "init_args": {}}
        for name in ("MajorityLabel", "ItemMajorityLabel", "PreviousLabel")
    ],
}
"""The rows of every comparison of a task that does not rank."""
TOLD_THE_TASK = ("SequenceLabels",)
"""Their baselines are given the task of the runs that they stand beside."""
ON_REQUEST: list[dict[str, Any]] = [
    {"class_path": f"recsys_lab.models.baselines.{name}", "init_args": {}}
    for name in ("CategoryPopularity", "TransitionGraph")
]
"""Those that are counted only where `--baselines` names them, or `all`."""
OFFERED_UP_TO = {"ease": 10_000}
"""Candidates of a target beyond which a baseline is counted only where it is asked for: EASE inverts a matrix of items
x items, half a minute on one core at 10,000."""
ALL = "all"


def automatic_baselines(
    runs: Sequence[Run], data_dir: str | None = None, names: Sequence[str] = ()
) -> tuple[list[Run], list[str]]:
    """The mandatory baselines (`MANDATORY`) on what `runs` were tested on.

    They train on what the first run trained on: on the validation part too where that was retrained. Those that are
    not among `runs` are read from `<study>/baselines/<key>/<name>/`, or counted and tested there now; the key is made
    of all that must agree for two runs to be comparable, and of `retrained`.

    Args:
        runs: finished runs; the first that can be opened again gives the data, the split and the evaluation.
        data_dir: where the data lies; None = what the run was given.
        names: those that take part, as their rows are called, or `all`; none = all but those that take long on so large
            a catalogue (`OFFERED_UP_TO`).

    Returns:
        the baselines' runs, and a line for each that could not be had.

    Raises:
        RecsysLabError: for a name that no baseline has.
    """
    known = [*MANDATORY, *ON_REQUEST, *(config for of in OF_TASK.values() for config in of)]
    resolve_names(names, [*map(baseline_name, known), ALL], "baseline")
    if not runs or differences(list(runs)):
        return [], []
    kept = kept_in(runs[0])
    candidates = _candidates(runs[0])
    found, missing, problems = [], [], list[str]()
    for name, config in wanted(runs).items():
        if names and name not in names and ALL not in names:
            continue
        folder = kept / name / "seed0"
        try:
            found.append(read_run(folder))
        except UnreadableRunError:
            if not names and config in ON_REQUEST:
                continue
            if names or candidates <= OFFERED_UP_TO.get(name, candidates):
                missing.append((name, config, folder))
            else:
                seconds = f"{estimated_seconds(name, candidates):.0f} s on {candidates:,} items"
                problems.append(f"baseline {name}: it takes about {seconds}; --baselines all counts it, too")
    if missing:
        made, more = _make(runs, missing, data_dir)
        found, problems = found + made, problems + more
    return found, problems


def _candidates(run: Run) -> int:
    """Of the target that has most; 0 for a run that was tested before ranks.parquet had them."""
    columns = run.ranks.columns
    return int(run.ranks["num_candidates"].max() or 0) if "num_candidates" in columns else 0  # type: ignore[arg-type]


def estimated_seconds(name: str, num_items: int, num_users: int = 0) -> float:
    """A guess, on one core, of counting, validation and test: every user is scored twice. docs/baselines.md has what it
    was measured with."""
    more = {"ease": num_items**3 / 3e10, "session_knn": 2e-4 * num_users}
    more["transition_graph"] = 1e-7 * num_users * num_items
    return 0.2 + 1e-8 * num_users * num_items + more.get(name, 0.0)


def kept_in(run: Run) -> Path:
    """Where the baselines on the targets of `run` are kept."""
    agreed = [str(run.evaluation.get(name)) for name in COMPARED] + [run.is_retrained]
    return study_folder(run) / BASELINES / hashlib.sha256(json.dumps(agreed).encode()).hexdigest()[:12]


def counted_already(run: Run) -> list[Run]:
    """The baselines on the targets of `run` that an earlier comparison has counted."""
    found = []
    for folder in sorted(kept_in(run).glob("*/seed0")):
        with contextlib.suppress(UnreadableRunError):
            found.append(read_run(folder))
    return found


def baselines_of(run: Run) -> list[dict[str, Any]]:
    """Those of the run's task."""
    task = run.evaluation.get("task")
    return [*MANDATORY, *ON_REQUEST] if task is None else OF_TASK.get(str(task), [])


def wanted(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Name -> configuration of the baselines that are not among `runs`."""
    there = [run.manifest.get("model_config") for run in runs]
    return {
        baseline_name(config): config
        for config in baselines_of(runs[0])
        if not any(is_same_model(config, other) for other in there if isinstance(other, dict))
    }


def with_task(config: dict[str, Any], run: Run) -> dict[str, Any]:
    """The configuration of a baseline beside `run`, with the run's task where it needs one."""
    if run.evaluation.get("task") not in TOLD_THE_TASK:
        return config
    task = (run.manifest["model_config"].get("init_args") or {}).get("task")
    field = (run.evaluation.get("task_settings") or {}).get("field")
    for one in (task or {}).get("init_args", {}).get("tasks", ()):  # of several that are learned together
        if one["class_path"].endswith(f".{run.evaluation['task']}") and one["init_args"].get("field") == field:
            task = one
    return {**config, "init_args": {**config["init_args"], "task": task}}


def baseline_name(config: dict[str, Any]) -> str:
    """`...Markov` with `backoff: 0.0` -> `markov-backoff-0.0`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", config["class_path"].rpartition(".")[2]).lower()
    return "-".join([name, *(f"{k}-{v}" for k, v in config.get("init_args", {}).items())])


def study_folder(run: Run) -> Path:
    """`runs/<study>` of `runs/<study>/<variant>/seed<k>`; of a folder elsewhere, the one that it lies in."""
    grandparent = run.folder.resolve().parent.parent
    return grandparent if grandparent.name == run.manifest.get("study") else run.folder.resolve().parent


def is_same_model(config: dict[str, Any], other: dict[str, Any]) -> bool:
    """Two written-down models are the same class with the same arguments, whether a default was written or not; the
    class may be named by a shorter path."""
    if config["class_path"].rpartition(".")[2] != str(other.get("class_path")).rpartition(".")[2]:
        return False
    if (config.get("init_args") or {}) == (other.get("init_args") or {}):
        return True  # without importing the class, and torch with it
    parameters = inspect.signature(import_class(config["class_path"])).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return all(
        config.get("init_args", {}).get(name, default) == (other.get("init_args") or {}).get(name, default)
        for name, default in defaults.items()
    )


def _make(
    runs: Sequence[Run], missing: list[tuple[str, dict[str, Any], Path]], data_dir: str | None
) -> tuple[list[Run], list[str]]:
    from recsys_lab.config import from_config
    from recsys_lab.models.lightning import NextItemModule
    from recsys_lab.runs.folder import RunFolder
    from recsys_lab.runs.saved import SavedData, interruptible, open_saved_data

    opened: SavedData | None = None
    reasons: list[str] = []
    for run in runs:
        try:
            opened = open_saved_data(run.folder, data_dir)
            if not run.evaluation.get("shown"):  # what was shown is of another task of the run
                opened.data.shown = None
            now = opened.data.evaluation_settings()
            must = {name: run.evaluation.get(name) for name in ("data_hash", "split_hash")}
            must["retrained"] = runs[0].is_retrained
            other = [name for name, value in must.items() if now[name] != value]
            if not other:
                break
            reasons.append(f"{run.folder}: its data has another {' and '.join(other)} now")
        except RecsysLabError as error:
            reasons.append(str(error))
        opened = None
    if opened is None:
        return [], [f"counted baselines: the runs' data can't be opened ({reasons[0]})"]

    opened.evaluation.measures = []  # no comparison shows them; nor the validation, which chooses no epoch here
    made, problems, spec = [], [], opened.data.spec
    seconds = {name: estimated_seconds(name, spec.num_items, spec.num_users) for name, *_ in missing}
    log.info(
        "counting the baselines of this comparison, once, on %s items in about %.0f s of one core (%s); they are kept "
        "in %s, and --no_baselines leaves them out",
        f"{spec.num_items:,}",
        sum(seconds.values()),
        ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()),
        kept_in(runs[0]),
    )
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)  # the same lines per baseline
    bar = tqdm(missing, desc="baselines", unit="model", leave=False, disable=None)
    for name, config, folder in bar:
        said = f"{name}, {spec.num_items:,} items, about {seconds[name]:.0f} s"
        if bar.disable:  # in a file, plain lines
            log.info("counting %s", said)
        bar.set_postfix_str(said)  # shown at once
        try:
            model = from_config(with_task(config, runs[0]), NextItemModule)
            facts = {"study": runs[0].manifest.get("study"), "variant": name, "seed": 0}
            callbacks = [opened.evaluation, RunFolder(folder, facts=facts)]
            trainer = opened.trainer(callbacks, progress_bar=False, limit_val_batches=0)
            with interruptible(trainer):
                trainer.fit(model, opened.data)
                trainer.test(model, opened.data, verbose=False)
            made.append(read_run(folder))
        except RecsysLabError as error:
            problems.append(f"baseline {name}: {error}")
    return made, problems
