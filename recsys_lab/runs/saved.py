"""A finished run, opened again: its model, its data and its evaluation, as `verify` and `diagnose` need them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.trainer.states import TrainerStatus

import recsys_lab.data
import recsys_lab.losses
import recsys_lab.models
from recsys_lab.config import allowed_classes, from_config, import_all, read_yaml, to_config
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models.checkpoint import check_goes_on, check_same_model, read_checkpoint, settings_in
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.randomness import run_seed
from recsys_lab.models.system import OF_MEMORY, differing, model_settings
from recsys_lab.runs.interrupts import restored_interrupt
from recsys_lab.runs.messages import hush_lightning
from recsys_lab.runs.progress_lines import own_progress
from recsys_lab.runs.run_files import (
    ChangedRunError,
    check_checkpoint,
    check_file,
    no_run_folder,
    read_manifest,
    warn_of_unfinished,
)
from recsys_lab.runs.trust import check_saved_config, find_own_modules
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

OTHER_TRAINING = """Go on where the checkpoint was trained on other data, under another split or in other windows than
is asked. The results say so; where it knows events at or after the targets, no significance test takes them."""


@dataclass
class SavedData:
    """The data and the evaluation of a run, built again."""

    folder: Path
    data: SequenceDataModule
    evaluation: RankingEvaluation

    def trainer(self, callbacks: list[L.Callback] | None = None, progress_bar: bool = True, **settings: Any) -> Any:
        """A Trainer that writes no file of its own and trains, if at all, one epoch. `settings` are the Trainer's."""
        quiet: dict[str, Any] = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "devices": 1,
            "max_epochs": 1,
            "num_sanity_val_steps": 0,
        }
        chosen: list[L.Callback] = callbacks if callbacks is not None else [self.evaluation]
        asked = {**quiet, "enable_progress_bar": progress_bar, **settings}
        return L.Trainer(**asked, callbacks=[*chosen, *own_progress({**asked, "callbacks": chosen})])


@dataclass
class SavedRun(SavedData):
    """A run with its model. Nothing of the folder is changed."""

    manifest: dict[str, Any]
    checkpoint: Path
    model: NextItemModule


def open_saved_run(
    folder: str | Path,
    checkpoint: str | Path | None = None,
    data_dir: str | None = None,
    manifest: dict[str, Any] | None = None,
) -> SavedRun:
    """Opens what `recsys-lab fit` left.

    Args:
        folder: the run folder.
        checkpoint: None = its `checkpoints/best.ckpt`.
        data_dir: where raw files and prepared sets lie; None = what the run was given, from the current folder.
        manifest: the run's, already read and checked.

    Raises:
        RecsysLabError: when the folder is no finished run, or its model or data can't be found.
    """
    saved = open_saved_data(folder, data_dir)
    manifest = read_manifest(saved.folder) if manifest is None else manifest
    if checkpoint is None:
        warn_of_unfinished(saved.folder, manifest)
    checkpoint = Path(checkpoint) if checkpoint is not None else saved.folder / "checkpoints" / "best.ckpt"
    model = NextItemModule.load_from_checkpoint(checkpoint)
    saved.data.give(model.task.samples)
    return SavedRun(saved.folder, saved.data, saved.evaluation, manifest, checkpoint, model)


def open_saved_data(folder: str | Path, data_dir: str | None = None) -> SavedData:
    """The data and the evaluation that a run folder's config.yaml says; see `open_saved_run`."""
    hush_lightning()
    if allowed_classes():
        find_own_modules()
    _import_parts()
    folder = Path(folder)
    config = _read(folder, "config.yaml", read_yaml)
    check_saved_config(folder / "config.yaml", ("data", "evaluation"))
    if data_dir is not None:
        config["data"]["data_dir"] = data_dir
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SequenceDataModule, "data")
    parser.add_class_arguments(RankingEvaluation, "evaluation")
    try:
        parsed = parser.parse_object({name: config[name] for name in ("data", "evaluation")})
        built = parser.instantiate_classes(parsed)
    except Exception as error:
        raise RecsysLabError(f"{folder / 'config.yaml'} can't be built again: {error}") from error
    return SavedData(folder, built.data, built.evaluation)


def check_run_folder(folder: Path) -> None:
    """Before `fit FOLDER`, `test FOLDER` and their like take a run's configuration and checkpoint.

    Raises:
        RecsysLabError: when a file of the run is damaged, or was changed since, naming it and the way out.
    """
    if not (folder / "manifest.json").is_file():
        return
    try:
        manifest = read_manifest(folder)
        if manifest.get("stopped_by") != "running":  # a run that was killed may be between two of its files
            for name in ("config.yaml", "metrics.csv"):
                check_file(folder, manifest, name)
            check_checkpoint(folder, manifest)
            if manifest.get("checkpoint") and not (folder / manifest["checkpoint"]).is_file():
                raise ChangedRunError(f"{folder / manifest['checkpoint']} is gone")
    except ChangedRunError as error:
        raise RecsysLabError(
            f"{error}. Restore it; or leave the run folder aside: --config FILE with settings that you trust, and "
            "--ckpt_path FILE for all but fit"
        ) from error


def heed_checkpoint(line: Any, config: Any) -> NextItemModule:
    """The model to use, once model, data and Trainer of a command are there and before anything is written.

    Args:
        line: the `CommandLine`.
        config: of its command.

    Raises:
        RecsysLabError: when the checkpoint is of another model than is asked, or its run can't go on so.
    """
    model: NextItemModule = line.model
    line.datamodule.give(model.task.samples)
    typed = any(word.partition("=")[0] == "--warm_start" for word in line.arguments)
    if typed and config.warm_start and (line.subcommand != "fit" or config.get("ckpt_path") is not None):
        what = "a run that goes on has begun" if line.subcommand == "fit" else f"{line.subcommand} trains nothing"
        raise RecsysLabError(f"--warm_start {config.warm_start}: {what}: leave it out")
    if "allow_other_training" in config:
        model = model_of_checkpoint(model, config.ckpt_path)
        model.allow_other_training = config.allow_other_training
    elif config.get("ckpt_path") is not None:
        check_goes_on(read_checkpoint(config.ckpt_path), model, line.trainer, line.datamodule, run_seed())
    elif config.warm_start is not None:
        if Path(config.warm_start).is_dir():
            check_run_folder(Path(config.warm_start))
        model.warm_start(config.warm_start)
    return model


def model_of_checkpoint(model: NextItemModule, path: str | Path) -> NextItemModule:
    """The model that a checkpoint holds, without its weights, where `model` was asked for.

    What shapes training only (loss, negatives, optimization, compile_model) is taken from the checkpoint, too, so that
    a manifest names what trained. What changes memory alone (the chunk of a scorer) is as asked.

    Raises:
        RecsysLabError: when another setting differs, naming it.
    """
    checkpoint = read_checkpoint(path)
    check_same_model(checkpoint, model)
    differ = [name for name, _, _ in differing(settings_in(checkpoint)["model"], model_settings(model), "model")]
    ignored = [name for name in differ if name.removeprefix("model.") not in OF_MEMORY]
    if not ignored:
        return model
    log.info("%s: a test takes what the checkpoint was trained with", ", ".join(f"--{name}" for name in ignored))
    config, asked = checkpoint["model_config"], to_config(model)["init_args"]
    as_asked = {"scorer": asked["scorer"]} if "scorer" in asked else {}  # the same, but for its chunk
    config = {**config, "init_args": {**config["init_args"], **as_asked}}
    found: NextItemModule = from_config(config, NextItemModule, where=str(path))
    return found


@contextmanager
def interruptible(trainer: L.Trainer) -> Iterator[None]:
    """Ctrl-C while `trainer` works is a KeyboardInterrupt again, which Lightning turns into exit code 1; and the signal
    is handled as before, which Lightning leaves ignored."""
    try:
        with restored_interrupt():
            yield
    except SystemExit:
        if trainer.state.status == TrainerStatus.INTERRUPTED:
            raise KeyboardInterrupt from None
        raise


def _read(folder: Path, name: str, parse: Any) -> dict[str, Any]:
    try:
        found = parse((folder / name).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise RecsysLabError(no_run_folder(folder, name)) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecsysLabError(f"{folder / name} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise RecsysLabError(f"{folder / name} can't be read: it holds no mapping")
    return found


def _import_parts() -> None:
    """So that class names are known without their module path."""
    import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data)
