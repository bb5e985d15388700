"""Proves a finished run: its prepared data against the hashes they were made with, its settings and target counts, its
checkpoint, its metrics against its ranks, and metrics and ranks against a new test of the checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import torch
import yaml

from recsys_lab.arguments import Natural, NotNegative
from recsys_lab.config import read_yaml, to_config
from recsys_lab.data.locate import prepared_folder
from recsys_lab.data.prepare.pipeline import PrepareSettings
from recsys_lab.data.sources import get_source, source_names
from recsys_lab.models.checkpoint import read_checkpoint, settings_in
from recsys_lab.models.system import differing, in_use, system_hash
from recsys_lab.runs.data_files import data_checks
from recsys_lab.runs.evaluations import find_evaluations, with_task_facts
from recsys_lab.runs.file_checks import changed_files, checkpoint_check, checkpoint_of, file_checks
from recsys_lab.runs.folder import is_trained, logged, loss_name, read_rows
from recsys_lab.runs.measured import OUTCOMES
from recsys_lab.runs.ranks_file import impossible_ranks
from recsys_lab.runs.run_files import is_tested, read_json, test_was_stopped
from recsys_lab.runs.saved import SavedRun, interruptible, open_saved_run
from recsys_lab.runs.trust import foreign_class
from recsys_lab.runs.verification import (
    Check,
    differs,
    epoch_checks,
    from_ranks,
    from_ranks_checks,
    from_values_checks,
    metric_checks,
    rank_checks,
    same,
    settings_checks,
    values_checks,
)
from recsys_lab.words import RecsysLabError, number_of


class VerificationFailed(RecsysLabError):
    """A check failed."""

    exit_code = 1


@dataclass
class Report:
    """Shows each check as it comes, and remembers them."""

    show: Callable[[object], object]
    checks: list[Check] = field(default_factory=list)
    foreign: RecsysLabError | None = None  # a class of the user's own stood in the way of the new test

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.ok]

    def add(self, checks: Iterable[Check]) -> bool:
        """True if all of them hold."""
        before = len(self.failed)
        for check in checks:
            self.show(check)
            self.checks.append(check)
        return len(self.failed) == before

    def unchecked(self, what: str, why: str) -> None:
        """A part that can't be checked is not proven, so it has failed, unless a failure is the reason."""
        if self.failed:
            self.show(f"skipped {what}: {why}")
        else:
            self.add([Check(what, False, f"can't be checked: {why}")])

    def has_failed(self, file: str) -> bool:
        return any(check.field.startswith(file) for check in self.failed)


def verify(
    folder: str | Path,
    data_dir: str | None = None,
    tolerance: NotNegative = 1e-6,
    differing_ranks: Natural = 0,
    show: Callable[[object], object] = print,
) -> list[Check]:
    """All checks of a finished run, in order. Nothing is changed; what can't be made since an earlier check failed is
    left out and said so.

    Args:
        folder: the run folder, or the `test` folder inside one.
        data_dir: of raw files and prepared sets; None = as the run says.
        tolerance: largest difference of a metric.
        differing_ranks: ranks that may differ: near-ties fall otherwise on another kind of machine.
        show: is given each check as it comes, and the line of what is skipped.

    Raises:
        RecsysLabError: when the folder is no finished run, or nothing was found false but a class of the user's own
            was not imported.
        VerificationFailed: naming the checks that failed.
    """
    folder = Path(folder)
    outcomes = (folder / OUTCOMES).is_file()
    for name in ("manifest.json", "config.yaml", "metrics.json", *([] if outcomes else ["ranks.parquet"])):
        if not (folder / name).is_file():
            raise RecsysLabError(f"{folder} is not a finished run: it holds no {name}")
    if not is_tested(read_json(folder / "manifest.json"), read_json(folder / "metrics.json")):
        raise RecsysLabError(f"{folder} is not a finished run: {test_was_stopped(folder)}")
    report = Report(show)
    manifest = _mapping(report, folder / "manifest.json", json.loads)
    _check_contents(folder, manifest, data_dir, tolerance, differing_ranks, report)
    # last: what a hash says, a check of the content may have said more plainly
    report.add(check for check in file_checks(folder, manifest or {}) if not report.has_failed(check.field))
    if report.foreign is not None and report.failed:
        report.unchecked("re-scoring", str(report.foreign))
    elif report.foreign is not None:  # nothing was found false
        raise RecsysLabError(f"{folder} is not proven: {report.foreign}")
    if report.failed:
        lines = "\n".join(f"  {check.field}: {check.text}" for check in report.failed)
        raise VerificationFailed(
            f"{folder} is not what it says, {number_of(len(report.failed), 'check')} failed\n{lines}"
        )
    return report.checks


def _check_contents(
    folder: Path,
    manifest: dict[str, Any] | None,
    data_dir: str | None,
    tolerance: float,
    differing_ranks: int,
    report: Report,
) -> None:
    config = _mapping(report, folder / "config.yaml", read_yaml)
    if config is not None and not report.add(changed_files(folder, manifest or {}, "config.yaml")):
        config = None  # whatever it asks for now, the run did not
    metrics = _mapping(report, folder / "metrics.json", json.loads)
    is_ranking = (folder / "ranks.parquet").is_file()  # where it is, or another task's outcomes, was asked before
    ranks = _read(report, folder / "ranks.parquet", pl.read_parquet) if is_ranking else None
    evaluation = (manifest or {}).get("evaluation") or {}
    impossible = impossible_ranks(ranks) if ranks is not None else ""
    if impossible:
        report.add([Check("ranks.parquet", False, impossible)])
    elif metrics is not None and ranks is not None and evaluation:
        report.add(_guarded("metrics.json", lambda: from_ranks_checks(metrics, from_ranks(ranks, evaluation))))
    elif not is_ranking and metrics is not None:
        report.add(_guarded("values.parquet", lambda: from_values_checks(metrics, folder / "values.parquet")))
    else:
        report.unchecked("metrics.json from ranks.parquet", "metrics, ranks or the manifest's evaluation can't be read")
    values = folder / "values.parquet"
    if ranks is not None and not impossible and evaluation and values.is_file():  # a run of before has none
        report.add(_guarded("values.parquet", lambda: values_checks(pl.read_parquet(values), ranks, evaluation)))
    if metrics is not None and (folder / "metrics.csv").is_file():
        report.add(_guarded("metrics.csv", lambda: epoch_checks(metrics, read_rows(folder / "metrics.csv"))))
    checkpoint = checkpoint_of(folder, manifest or {})
    is_whole = report.add([checkpoint_check(checkpoint)])
    if config is None or manifest is None or not evaluation:
        return report.unchecked("data and re-scoring", "the run's own files can't be read, or don't say what was done")
    prepared = _folder(report, config, data_dir)
    if prepared is None or not report.add(_guarded(f"data {prepared}", lambda: data_checks(prepared))):
        return report.unchecked("settings and re-scoring", "the data are not whole")
    if not is_whole:
        return report.unchecked("settings and re-scoring", "the checkpoint is not whole")
    try:
        saved = open_saved_run(folder, checkpoint, data_dir, manifest)
        # the folder that was checked, opened and nothing else: by its name, a known source would be prepared anew
        saved.data.dataset, saved.data.prepare_settings = str(prepared), None
        saved.model.allow_other_training = bool(manifest.get("trained_on"))
        settings = saved.data.evaluation_settings() | to_config(saved.evaluation)["init_args"]
        found = with_task_facts(settings, saved.model)
        is_complete = "system_hash" in manifest  # written by a version that records all of the following
        report.add(settings_checks("manifest.json evaluation", evaluation, found, is_complete))
        report.add(origin_checks(manifest, config, saved, read_checkpoint(checkpoint)))
        again, again_ranks = rescore(saved)
        report.add([same("manifest.json trained_on", manifest.get("trained_on"), saved.model.trained_on)])
    except Exception as error:
        report.foreign = foreign_class(error)
        if report.foreign is None:
            report.add([Check("re-scoring", False, f"it stopped: {_why(error)}")])
        return None
    complete = set(evaluation) >= set(found)
    if metrics is not None:
        recorded = {name: value for name, value in metrics.items() if name.startswith("test/")}
        report.add(metric_checks("metrics.json re-scored", recorded, again, tolerance, complete))
    if ranks is not None and again_ranks is not None:
        report.add(rank_checks(ranks, again_ranks, complete, differing_ranks))
    return None


def origin_checks(
    manifest: dict[str, Any], config: dict[str, Any], saved: SavedRun, checkpoint: dict[str, Any]
) -> list[Check]:
    """What the manifest says of the system, against the configuration and the checkpoint."""
    model, run = saved.model, config.get("run") or {}
    found = {
        "model": type(model).__name__,
        "loss": loss_name(model),
        "parameters": sum(p.numel() for p in model.parameters()) if is_trained(model) else 0,
        "study": run.get("study"),
        "variant": run.get("variant"),
        "seed": config.get("seed_everything"),
    }
    checks = settings_checks("manifest.json", {name: manifest.get(name) for name in found}, found)
    if not manifest.get("trained_on"):
        spec, training = checkpoint["data_spec"], dict(checkpoint["data_spec"].get("training") or {})
        began = training.pop("started_from", None)  # the data say nothing of a warm start
        spec = spec if began is None else {**spec, "training": training}
        checks += settings_checks("checkpoint data_spec", spec, saved.data.spec.as_dict())
        if began is not None:
            told = (manifest.get("warm_start") or {}).get("system_hash")
            checks += settings_checks(
                "manifest.json warm_start", {"system_hash": told}, {"system_hash": began["system_hash"]}
            )
    asked = differing(settings_in(checkpoint)["model"], in_use(manifest.get("model_config")), "model_config")
    changed = [(name, old, new) for name, old, new in asked if new is not None]  # a default need not be written
    checks += [differs(f"manifest.json {name}", old, new) for name, old, new in changed]
    if "system_hash" in manifest and "system" in checkpoint:
        recorded = {"training_hash": manifest.get("training_hash"), "system_hash": manifest["system_hash"]}
        system = manifest.get("system") or {}
        as_named = system_hash(system, as_named=True)  # a run of before hashed the class names of its time
        again = {
            "training_hash": checkpoint["data_spec"].get("training_hash"),
            "system_hash": as_named if as_named == manifest["system_hash"] else system_hash(system),
        }
        checks += settings_checks("manifest.json", recorded, again)
        checks += [
            differs(f"manifest.json system {name}", old, new)
            for name, old, new in differing(settings_in(checkpoint)["model"], manifest["system"].get("model"), "model")
        ]
    return checks


def rescore(saved: SavedRun) -> tuple[dict[str, float], pl.DataFrame | None]:
    """The test metrics and the rows of ranks.parquet, where there is a ranking, from the checkpoint, on the kind of
    device that the run names."""
    device = str(saved.manifest.get("device", ""))
    threads, before = re.search(r"cpu, (\d+) threads", device), torch.get_num_threads()
    if threads:
        torch.set_num_threads(int(threads[1]))  # another number adds up in another order
    try:
        precision = saved.manifest.get("precision", "32-true")
        trainer = saved.trainer(accelerator="cpu" if threads else "auto", precision=precision)
        with interruptible(trainer):
            trainer.test(saved.model, saved.data, verbose=False)
    finally:
        torch.set_num_threads(before)
    metrics = logged(trainer, ("test/",))
    for evaluation in find_evaluations(trainer):
        metrics |= evaluation.last_metrics
    return metrics, None if saved.evaluation.last is None else saved.evaluation.ranks_frame(saved.data)


def _read(report: Report, path: Path, parse: Callable[[Path], Any]) -> Any:
    """None for a file that can't be read, which is a failed check."""
    try:
        return parse(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # polars panics at some damage, and a panic is no Exception
        report.add([Check(path.name, False, f"it can't be read: {_why(error)}")])
        return None


def _why(error: BaseException) -> str:
    """An error in a line; what a parser says of damage stands for itself, another kind is named."""
    text = " ".join(str(error).split())
    of_content = isinstance(error, RecsysLabError | ValueError | yaml.YAMLError | pl.exceptions.PolarsError)
    return text if of_content else f"{type(error).__name__}: {text}"


def _mapping(report: Report, path: Path, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    found = _read(report, path, lambda path: parse(path.read_text()))
    if found is not None and not (isinstance(found, dict) and found):
        report.add([Check(path.name, False, "it holds no entries")])
        return None
    if found is None and not any(check.field == path.name for check in report.failed):
        report.add([Check(path.name, False, "it is empty")])
    return found


def _guarded(name: str, make: Callable[[], list[Check]]) -> list[Check]:
    """A file with the wrong things in it is a failed check, too."""
    try:
        return make()
    except KeyError as error:
        return [Check(name, False, f"it can't be checked: it has no {error}")]
    except Exception as error:
        return [Check(name, False, f"it can't be checked: {_why(error)}")]


def _folder(report: Report, config: Any, data_dir: str | None) -> Path | None:
    """The prepared folder that a run's configuration names; nothing is prepared or downloaded."""
    try:
        data = config["data"]
        root = Path(data_dir if data_dir is not None else data["data_dir"])
        if data["dataset"] in source_names():
            source = get_source(data["dataset"])
            defaults = PrepareSettings(**source.default_settings)
            chosen = PrepareSettings(**data["prepare"]) if data.get("prepare") else defaults
            return prepared_folder(source.name, root, chosen, defaults)
        return next((path for path in (Path(data["dataset"]), root / data["dataset"]) if path.is_dir()), root)
    except (KeyError, TypeError) as error:
        report.add([Check("config.yaml data", False, f"it names no data set: {_why(error)}")])
        return None
