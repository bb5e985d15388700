"""Checkpoints read safely, and checked against what is asked of them: data, training, model, and how a run goes on."""

from __future__ import annotations

import errno
import logging
import pickle
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from recsys_lab.config import from_config
from recsys_lab.contracts import DataSpec, Field, Label
from recsys_lab.models.system import FINDERS, OF_MEMORY, RESOLVED, differing, is_a, model_settings, system_of
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

EXPLAINED_BY = {
    "train_hash": ("data_hash", "split", "retrained", "target_types"),
    "val_hash": ("data_hash", "split", "train_hash", "target_types"),
    "stride": ("max_length", "training_mode"),
    "num_event_types": ("data_hash",),
    "has_timestamps": ("data_hash",),
    "fields_hash": ("data_hash", "train_hash", "fields", "field_values_hash"),
    "field_values_hash": ("data_hash", "fields"),
}
"""Settings of `DataSpec.training` that follow from others, and are named only where those agree."""
OPTION = {
    "field_values_hash": "--data.dataset",
    "data_hash": "--data.dataset",
    "train_hash": "--data.split",
    "val_hash": "--data.split",
    "num_event_types": "--data.dataset",
    "has_timestamps": "--data.dataset",
}
NOT_COMPARED = ("split_config", "train_until", "started_from")
MAY_CHANGE = ("trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps", "trainer.min_steps", "trainer.processes")
"""Of a run that goes on."""
NO_PART_OF_A_TEST = (*RESOLVED, "compile_model", "shard_items")
"""Arguments of a model that shape its training only: a test takes those of the checkpoint, whatever was asked."""


def accept(checkpoint: dict[str, Any], module: Any) -> None:
    """Builds `module` for the weights of `checkpoint`, once it is clear that they belong to what is asked.

    Raises:
        RecsysLabError: naming what differs and the way out.
    """
    spec, trainer = spec_of(checkpoint), module._trainer
    if trainer is not None and trainer.ckpt_path and not _is_of_a_finder(trainer.ckpt_path):
        if checkpoint.get("vocabulary") and trainer.state.fn != "fit":
            trainer.datamodule.take_vocabulary(checkpoint["vocabulary"])
        module.trained_on = check_trained(spec, module)
        if trainer.state.fn == "fit":
            for name, old, new in check_goes_on(checkpoint, module, trainer, trainer.datamodule):
                log.info("going on with --%s %s (it began with %s)", name, new, old)
        else:
            check_same_model(checkpoint, module)
    if module.spec is None or module.trained_on is not None:
        module._build(spec)
    elif "started_from" in spec.training and trainer is not None and trainer.state.fn == "fit":
        module.spec = spec  # a run that goes on began where it began
    module.trained_system = None if trainer is not None and trainer.state.fn == "fit" else checkpoint.get("system")


def _is_of_a_finder(path: Any) -> bool:
    """A file to which Lightning's finders go back when they have found a batch size or a learning rate."""
    return Path(path).name.startswith((".scale_batch_size_", ".lr_find_"))


def spec_of(checkpoint: dict[str, Any]) -> DataSpec:
    """The data that a checkpoint was trained on."""
    if "data_spec" not in checkpoint:
        raise RecsysLabError("this checkpoint was not written by recsys_lab: it names no data set")
    held = checkpoint["data_spec"]
    unknown_rows = held.get("fields") and held.get("training") and "fields_hash" not in held["training"]
    if held.get("num_event_types") or unknown_rows:
        raise RecsysLabError(
            f"this checkpoint numbers the {'values of fields' if unknown_rows else 'event types'} as earlier versions "
            "did, which this version can't read: train the model again (the data need not be prepared again)"
        )
    plain = {field.name: held[field.name] for field in fields(DataSpec) if field.name in held}
    plain["fields"] = tuple(Field(**field) for field in held.get("fields", ()))
    plain["labels"] = tuple(Label(**{**label, "values": tuple(label["values"])}) for label in held.get("labels", ()))
    return DataSpec(**plain)


def vocabulary_in(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Raw ids of the items, and what the training part knows of the fields: what a predictor needs beside the model.

    Raises:
        RecsysLabError: for a checkpoint of an earlier version, which holds neither.
    """
    held: dict[str, Any] | None = checkpoint.get("vocabulary")
    if held is None:
        raise RecsysLabError(
            "this checkpoint holds no raw ids: it was written by an earlier version, or without a SequenceDataModule. "
            "Train the model again; or test and predict with its data set, as before"
        )
    return held


def check_vocabulary(trained: DataSpec, asked: DataSpec) -> None:
    """Raises RecsysLabError when a model's tables belong to another catalogue."""
    if trained.vocabulary_hash != asked.vocabulary_hash:
        raise RecsysLabError(
            f"the checkpoint belongs to another data set: its item vocabulary is {trained.dataset} "
            f"({trained.vocabulary_hash}), the data module's is {asked.dataset} ({asked.vocabulary_hash}). "
            "Use the data set (and prepare settings) that it was trained on"
        )
    if asked.fields != trained.fields:
        known, given = (", ".join(f"{f.name} ({f.size})" for f in s.fields) or "none" for s in (trained, asked))
        raise RecsysLabError(
            f"the checkpoint was trained with other fields than {asked.dataset} gives: {known} (table sizes), and not "
            f"{given}. Use the data set (and prepare settings) that it was trained on"
        )
    if asked.training.get("fields_hash") != trained.training.get("fields_hash"):
        raise RecsysLabError(
            "the fields of this model were fitted on another training part, where their values have other rows: test "
            "it from its checkpoint, which holds them (--ckpt_path)"
        )


def other_training(trained: DataSpec, asked: DataSpec) -> list[str]:
    """One text for each setting of the training in which a checkpoint is not what is asked; none where all agree.

    A checkpoint of a version that recorded no training is compared by what it holds: data, name of the split, length.
    """
    if trained.training_hash and trained.training_hash == asked.training_hash:
        return []
    before, now = trained.training, asked.training
    if not before:
        before = {"data_hash": trained.data_hash, "split": trained.split, "max_length": trained.max_length}
        log.warning(
            "this checkpoint does not record what it was trained on (it was written by an earlier version): only its "
            "data, the name of its split and its max_length are compared"
        )
    names = [name for name in before if name not in NOT_COMPARED and before[name] != now.get(name)]
    names += ["target_types"] * ("val_hash" in names and now.keys() - before.keys() >= {"target_types"})  # only if set
    told = {"data_hash": (f"{trained.dataset} ({trained.data_hash})", f"{asked.dataset} ({asked.data_hash})")}
    texts = []
    for name in [name for name in names if not set(EXPLAINED_BY.get(name, ())) & set(names)]:
        values = told.get(name, (before.get(name), now.get(name)))
        texts.append(f"{OPTION.get(name, f'--data.{name}')}: trained with {values[0]}, asked {values[1]}")
    return texts


def trained_elsewhere(trained: DataSpec, data: Any, allowed: bool, stage: str | None) -> dict[str, Any] | None:
    """Whether weights that were trained on `trained` may be used on a data module.

    Args:
        data: the data module. allowed: it may also be of another training part.
        stage: whose targets are evaluated, `val` or `test`; None where there are none.

    Returns:
        None where it was trained as is asked; else, where that is allowed, what it was trained on: `description` for
        tables, `training_hash`, and `sees_targets`, true where it knows events at or after a target (such numbers take
        part in no test).

    Raises:
        RecsysLabError: naming each setting, both values and the way out.
    """
    check_vocabulary(trained, data.spec)
    texts = other_training(trained, data.spec)
    if not texts:
        return None
    if not allowed:
        raise RecsysLabError(
            f"the checkpoint was trained on something else than is asked. {'; '.join(texts)}. Ask for what it was "
            "trained with; or go on all the same with --allow_other_training true, and the results say what it was "
            "trained on"
        )
    sees = data.sees_targets(trained.training, stage) if stage else False
    words = "; ".join(text.removeprefix("--").replace("trained with ", "") for text in texts)
    if stage:
        more = ". It knows events at or after the targets, so no significance test takes these numbers" if sees else ""
        log.warning("trained on something else than is asked: %s%s", words, more)
    return {"description": words, "training_hash": trained.training_hash or None, "sees_targets": sees}


def other_training_note(trained_on: dict[str, Any]) -> str:
    """What `trained_elsewhere` found, as one line under a table."""
    more = ", so it knows events at or after the targets" if trained_on["sees_targets"] else ""
    return f"trained on something else than it is evaluated on ({trained_on['description']}){more}"


def check_trained(trained: DataSpec, module: Any) -> dict[str, Any] | None:
    """`trained_elsewhere` for `module`, attached to a Trainer, with weights of `trained`.

    Raises:
        RecsysLabError: also where it would be trained further on another training part.
    """
    data, fn = module.trainer.datamodule, str(getattr(module.trainer.state.fn, "value", "fit"))
    if fn != "fit":
        return trained_elsewhere(
            trained, data, module.allow_other_training, {"test": "test", "validate": "val"}.get(fn)
        )
    check_vocabulary(trained, data.spec)
    texts = other_training(trained, data.spec)
    if texts:
        raise RecsysLabError(
            "a model can't be trained further on another training part: its numbers would belong to neither. "
            f"{'; '.join(texts)}. Keep the settings that it was trained with, or train a new model"
        )
    return None


def check_same_model(checkpoint: dict[str, Any], module: Any) -> None:
    """Raises RecsysLabError when the weights belong to a model with other settings, naming each."""
    found = list(differing(settings_in(checkpoint)["model"], model_settings(module), "model"))
    ignored = tuple(f"model.{name}" for name in (*NO_PART_OF_A_TEST, *OF_MEMORY))
    found = [change for change in found if not change[0].startswith(ignored)]
    if found:
        raise RecsysLabError(
            f"the checkpoint is of another model than is asked. {_texts(found, 'trained with')}. Leave the "
            "setting out: a test takes the model of the checkpoint; or train a new model with it"
        )


def check_goes_on(
    checkpoint: dict[str, Any], module: Any, trainer: Any, data: Any, seed: int | None = None
) -> list[tuple[str, Any, Any]]:
    """The settings of `MAY_CHANGE` that are other than when the run of `checkpoint` began: (name, then, now).

    Args:
        seed: that of the run, where it was asked for; a model goes on with the checkpoint's.

    Raises:
        RecsysLabError: when any other setting was changed, naming it; or when the run is past its end already.
    """
    spec_of(checkpoint)  # first: what an earlier version wrote differs for no reason of the user's
    finders = [type(c).__name__ for c in trainer.callbacks if is_a(c, *FINDERS)]
    if finders:
        raise RecsysLabError(
            f"a run that goes on keeps its batch size and learning rate: leave out --trainer.callbacks+={finders[0]}"
        )
    before, now = settings_in(checkpoint), system_of(module, trainer, data)
    shared = [name for name in before if name in now and name != "seed"]
    changed = list(differing({k: before[k] for k in shared}, {k: now[k] for k in shared}))
    of_run, of_batches = checkpoint.get("seed"), before.get("seed")  # that of the batches may have been given by name
    if seed is not None and of_run is not None and of_run != seed:
        changed.append(("seed_everything", of_run, seed))
    elif of_batches is not None and of_batches != data.seed:
        changed.append(("data.seed", of_batches, data.seed))
    changed = [change for change in changed if not change[0].startswith("data.started_from")]
    refused = [change for change in changed if change[0] not in MAY_CHANGE]
    if refused:
        raise RecsysLabError(
            f"a run that goes on keeps its settings, and these were changed. {_texts(refused, 'it began with')}. Leave "
            "them out (max_epochs, max_steps, max_time, paths, devices and loggers may change); or start a new run: "
            "--run.variant NAME"
        )
    _check_not_past(checkpoint, trainer)
    return changed


def _check_not_past(checkpoint: dict[str, Any], trainer: Any) -> None:
    """Raises RecsysLabError when a run has more epochs or steps than it may have now: Lightning says so too late, when
    the files of the run have been written anew."""
    progress = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    for name, done in (("epochs", progress.get("processed", 0)), ("steps", checkpoint.get("global_step", 0))):
        most = getattr(trainer, f"max_{name}")
        if most is not None and 0 <= most < done:
            raise RecsysLabError(
                f"--trainer.max_{name} {most}: the run has {done} {name} already; ask for more, or leave it out"
            )


def settings_in(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """`system_of` as the checkpoint holds it; of a checkpoint from an earlier version, its model only."""
    found: dict[str, Any] = checkpoint.get("system") or {
        "model": model_settings(from_config(checkpoint["model_config"]))
    }
    return found


def read_checkpoint(path: Any, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint's dict, read with `weights_only=True`.

    Raises:
        RecsysLabError: when the file is missing, is not a checkpoint, or was not written by recsys_lab.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise RecsysLabError(f"no checkpoint at {path}{_way_to_one(Path(path))}") from error
    except Exception as error:  # torch's own text tells its reader how to switch the protection off
        raise RecsysLabError(
            f"{path} is not a checkpoint of recsys_lab: {_why(error)}. {_way_out(Path(path))}"
        ) from error
    if not isinstance(checkpoint, dict) or "model_config" not in checkpoint:
        raise RecsysLabError(f"{path} was not written by recsys_lab: it holds no model configuration")
    return checkpoint


def _way_to_one(path: Path) -> str:
    """What to type where a run folder has no best epoch."""
    folder, last = path.parent.parent, path.with_name("last.ckpt")
    if path.name != "best.ckpt" or not (folder / "config.yaml").is_file():
        return ""
    if last.is_file():
        epochs = folder / "metrics.csv"
        was_there = epochs.is_file() and "val/" in epochs.read_text(errors="replace")
        why = "it was moved or removed" if was_there else "no epoch of this run was validated"
        return f": {why}. Name its last one instead: {last}"
    return f": no epoch of this run has ended. Train it first: recsys-lab fit {folder}"


def _why(error: Exception) -> str:
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        named = re.search(
            r"Unsupported (?:global|class)[^:]*: (?:GLOBAL )?([\w.]+)|GLOBAL ([\w.]+)", text, re.IGNORECASE
        )
        what = f" (it names {next(filter(None, named.groups()))})" if named else ""
        return (
            f"it holds more than numbers and plain settings{what}, and reading that could run code, so nothing was run"
        )
    if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is how a cut archive ends
        return (error.strerror or text).lower()
    return "it is damaged or cut off, or no checkpoint at all"


def _way_out(path: Path) -> str:
    best, last = path.with_name("best.ckpt"), path.with_name("last.ckpt")
    other = next((file for file in (best, last) if file.name != path.name and file.is_file()), None)
    if other is not None:
        return f"Beside it lies {other}: --ckpt_path {other}"
    if path.parent.name == "checkpoints":
        return f"Train again: recsys-lab fit --config {path.parent.parent / 'config.yaml'} --run.folder NEW_FOLDER"
    return "Use the checkpoints/best.ckpt of a run folder"


def _texts(changes: Iterable[tuple[str, Any, Any]], word: str) -> str:
    return "; ".join(f"--{name}: {word} {before}, asked {now}" for name, before, now in changes)
