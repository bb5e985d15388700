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
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")


def automatic_baselines(runs: Sequence[Run], data_dir: str | None = None) -> tuple[list[Run], list[str]]:
    """The mandatory baselines (`models.baselines.MANDATORY`) on what `runs` were tested on.

    They train on what the first run trained on: on the validation part too where that was retrained. Those that are
    not among `runs` are read from `<study>/baselines/<key>/<name>/`, or counted and tested there now; the key is made
    of all that must agree for two runs to be comparable, and of `retrained`.

    Args:
        runs: finished runs; the first that can be opened again gives the data, the split and the evaluation.
        data_dir: where the data lies; None = what the run was given.

    Returns:
        the baselines' runs, and a line for each that could not be had.
    """
    if not runs or differences(list(runs)):
        return [], []
    kept = kept_in(runs[0])
    found, missing = [], []
    for name, config in wanted(runs).items():
        folder = kept / name / "seed0"
        try:
            found.append(read_run(folder))
        except UnreadableRunError:
            missing.append((name, config, folder))
    problems: list[str] = []
    if missing:
        log.info(
            "counting the baselines of this comparison, once; they are kept in %s. They are %s: on a large data set "
            "this takes minutes, and --no_baselines leaves them out",
            kept,
            ", ".join(name for name, _, _ in missing),
        )
        made, problems = _make(runs, missing, data_dir)
        found += made
    return found, problems


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


def wanted(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Name -> configuration of the mandatory baselines that are not among `runs`."""
    from recsys_lab.models.baselines import MANDATORY  # imports torch, which `compare` needs for nothing else

    there = [run.manifest.get("model_config") for run in runs]
    return {
        baseline_name(config): config
        for config in MANDATORY
        if not any(is_same_model(config, other) for other in there if isinstance(other, dict))
    }


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

    made, problems = [], []
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)  # the same lines per baseline
    bar = tqdm(missing, desc="baselines", unit="model", leave=False)
    for name, config, folder in bar:
        bar.set_postfix_str(f"{name}, {opened.data.spec.num_items:,} items")  # shown at once
        try:
            model = from_config(config, NextItemModule)
            facts = {"study": runs[0].manifest.get("study"), "variant": name, "seed": 0}
            trainer = opened.trainer([opened.evaluation, RunFolder(folder, facts=facts)], progress_bar=False)
            with interruptible(trainer):
                trainer.fit(model, opened.data)
                trainer.test(model, opened.data, verbose=False)
            made.append(read_run(folder))
        except RecsysLabError as error:
            problems.append(f"baseline {name}: {error}")
    return made, problems
