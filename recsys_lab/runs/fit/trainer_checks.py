"""What of the Trainer's settings, and of what early stopping and checkpoints watch, can't work: said in one line
before anything is trained. docs/runs.md lists it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, StochasticWeightAveraging

from recsys_lab.arguments import defaults_of
from recsys_lab.config import from_config, import_class
from recsys_lab.contracts import Task
from recsys_lab.evaluation.callback import shown_cutoff
from recsys_lab.ops.query_metrics import QUERY_METRICS
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.words import LOWER_IS_BETTER, RecsysLabError, did_you_mean

log = logging.getLogger("recsys_lab")

BATCHES = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")
WATCHED = "val/ndcg@10"
"""What early stopping and the best checkpoint watch where nothing else is asked for."""
TRAINING_METRICS = ("train/loss", "train/loss_epoch", "train/loss_step", "train/tokens_per_second")
SHARES = ("val/cold_target_share", "val/hidden_target_share")
PROCESSES_PER_CORE = 4
"""More are a typing error; so many are slow, and said to be."""
_RANKING_METRIC = re.compile(r"val/(\w+)@(\d+)")


def check_trainer(command: str, config: Any, typed: Sequence[str]) -> None:
    """Settles what early stopping and the best checkpoint watch in `config`, and refuses what can't work.

    Args:
        command: fit, validate, test or predict.
        config: the parsed options of that command.
        typed: the command line.

    Raises:
        RecsysLabError: naming the option and what to type instead.
    """
    trainer = config.trainer
    if trainer.barebones:
        raise RecsysLabError(
            "--trainer.barebones true logs no metric, so that no epoch could be chosen and nothing reported: leave it "
            "out; --trainer.enable_checkpointing false and --trainer.enable_progress_bar false save most of the time"
        )
    if isinstance(trainer.accelerator, str):
        _check_accelerator(trainer.accelerator)
    _check_devices(trainer)
    only = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}
    if command in only and is_zero(trainer[only[command]]):
        raise RecsysLabError(
            f"--trainer.{only[command]} 0 leaves nothing to {command}: leave it out, or give at least 1"
        )
    _say_who_is_left(trainer, [only[command]] if command in only else ["limit_val_batches", "limit_test_batches"])
    _check_callbacks(trainer.callbacks)
    if command != "fit":
        return
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if is_zero(trainer[name]):
            raise RecsysLabError(
                f"--trainer.{name} 0 trains nothing: leave it out, or give at least 1; `recsys-lab test RUN_FOLDER` "
                "evaluates a model that is trained already"
            )
    if config.run.retrain and trainer.enable_checkpointing is False:
        raise RecsysLabError(
            "--run.retrain true looks for the best epoch in its checkpoint: leave out --trainer.enable_checkpointing "
            "false"
        )
    if not trainer.fast_dev_run:
        for part in ("early_stopping", "checkpoint"):
            if part == "early_stopping" or trainer.enable_checkpointing is not False:
                _settle_monitor(part, config, typed)


def _check_callbacks(callbacks: Any) -> None:
    """Refuses callbacks that can't do here what they are for; by their names, since that of an average can't even be
    written into config.yaml."""
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    named = [str(getattr(one, "class_path", "")).rpartition(".")[2] for one in listed]
    if StochasticWeightAveraging.__name__ in named:
        raise RecsysLabError(
            "StochasticWeightAveraging puts its average in place after the last epoch, and the checkpoint of the best "
            "epoch, which is tested, never holds it: take --trainer.callbacks+=EMAWeightAveraging, whose average is "
            "validated, kept and tested"
        )
    for finder, option in ((BatchSizeFinder, "--data.batch_size"), (LearningRateFinder, "--model.optimization.lr")):
        if finder.__name__ in named:
            raise RecsysLabError(
                f"{finder.__name__} would train with another value than config.yaml names: leave it out and give "
                f"{option}; `recsys-lab study tune` searches for a good one"
            )


def in_one_line(error: Exception) -> RecsysLabError:
    """What Lightning says of a setting that it can't follow."""
    return RecsysLabError(" ".join(str(error).split()))


def _settle_monitor(part: str, config: Any, typed: Sequence[str]) -> None:
    option, settings, cutoffs = f"--{part}.monitor", config[part], list(config.evaluation.cutoffs)
    watched = settings.monitor
    task = _task_without_ranks(config.model)
    if task is not None:
        _settle_outcome_monitor(part, settings, task, typed)
        if settings.monitor is not None and settings.monitor.startswith("val/"):
            _check_there_is_validation(option, settings.monitor, config.trainer)
        return
    if watched is None or not all(k >= 1 for k in cutoffs):  # the evaluation refuses such cutoffs
        return
    follows = f"val/ndcg@{shown_cutoff(cutoffs)}"
    if watched == WATCHED and follows != WATCHED and not _is_typed(option, typed):
        log.info("--%s.monitor is %s, as 10 is not among --evaluation.cutoffs", part, follows)
        settings.monitor = watched = follows
    if watched.startswith("val/") and any(fnmatchcase(watched, one) for one in _joined_metrics(config.model)):
        _settle_mode(part, settings, typed)
        return _check_there_is_validation(option, watched, config.trainer)
    metrics = QUERY_METRICS if _has_several_targets(config.data.split) else RANKING_METRICS
    ranking = [f"val/{name}@{k}" for k in cutoffs for name in metrics]
    known = [*ranking, *SHARES, *_joined_metrics(config.model), *TRAINING_METRICS]
    found = _RANKING_METRIC.fullmatch(watched)
    is_ours = found is not None and found[1] in metrics
    if watched not in known and (is_ours or not _logs_more(config)):
        more = f"; --evaluation.cutoffs '{sorted([*cutoffs, int(found[2])])}' adds it" if is_ours and found else ""
        raise RecsysLabError(f"{option} {watched}: nothing logs that; known: {', '.join(known)}{more}")
    wrong = "max" if watched.startswith("train/loss") else "min" if watched in ranking else None
    if wrong is not None and settings.mode == wrong:
        right = {"max": "min", "min": "max"}[wrong]
        raise RecsysLabError(
            f"--{part}.mode {wrong} takes the worst {watched} for the best: type --{part}.mode {right} beside "
            f"{option} {watched}"
        )
    if watched.startswith("val/"):
        _check_there_is_validation(option, watched, config.trainer)


SHOWN = "recsys_lab.data.impressions.Impressions"


def settle_samples(config: Any) -> None:
    """What users were shown is the samples of a task that learns from that, without being asked for.

    Raises:
        RecsysLabError: for another task that is given such samples.
    """
    typed = config.data.get("shown")
    if any(task.samples.shown for task in _tasks(config.model)):
        if typed is None:
            config.data.shown = Namespace(class_path=SHOWN, init_args=Namespace(defaults_of(import_class(SHOWN))))
    elif typed is not None:
        name = next((task.__name__ for task in _tasks(config.model)), "NextItem")
        raise RecsysLabError(f"--data.shown is for --model.task ClickThrough, and the task is {name}: leave it out")


def _task_without_ranks(model: Any) -> Any:
    """The class of the task that is asked for, where it does not rank; else None."""
    task = next(iter(_tasks(model)), None)
    return None if task is None or task.ranks else task


def _tasks(model: Any) -> list[Any]:
    """The class of the task that is asked for, if any, and those of the tasks that it joins."""
    asked = (model.get("init_args") or {}).get("task") if model is not None else None
    if not asked:  # a baseline may be of one task
        own = getattr(import_class(model["class_path"]), "own_task", None) if model is not None else None
        return [] if own is None else [own]
    joined = (asked.get("init_args") or {}).get("tasks") or []
    return [import_class(one["class_path"]) for one in (asked, *joined)]


def _settle_outcome_monitor(part: str, settings: Any, task: type[Task], typed: Sequence[str]) -> None:
    """Of a task that does not rank: its deciding metric, where nothing else is typed, and the mode that belongs to what
    is watched.

    Raises:
        RecsysLabError: for a metric that nothing logs.
    """
    if settings.monitor == WATCHED and not _is_typed(f"--{part}.monitor", typed):
        settings.monitor = f"val/{task.watched or task.shown_metrics[0]}"
    start, _, name = (settings.monitor or "").rpartition("/")
    if start == "val" and task.fact_names:
        known = [*task.shown_metrics, *task.fact_names]
        if not any(fnmatchcase(name, one) for one in known):
            listed = ", ".join(f"val/{one}" for one in dict.fromkeys(known))
            raise RecsysLabError(f"--{part}.monitor {settings.monitor}: nothing logs that; known: {listed}")
    _settle_mode(part, settings, typed)


def _settle_mode(part: str, settings: Any, typed: Sequence[str]) -> None:
    name = (settings.monitor or "").rpartition("/")[2]
    is_low = name in ("loss", "loss_epoch") or any(name == one or name.endswith(f"_{one}") for one in LOWER_IS_BETTER)
    right = "min" if is_low else "max"
    if settings.mode != right and not _is_typed(f"--{part}.mode", typed):
        settings.mode = right


def _joined_metrics(model: Any) -> list[str]:
    """Of the tasks that are learned beside a ranking; `*` stands for anything."""
    asked = (model.get("init_args") or {}).get("task") if model is not None else None
    if not asked or not (asked.get("init_args") or {}).get("tasks"):
        return []
    try:
        task: Task = from_config(asked.as_dict() if isinstance(asked, Namespace) else asked, Task)
    except RecsysLabError:  # said where the model is built
        return []
    return [
        f"val/{one.prefix}{name}" for one in task.measured for name in (*one.task.shown_metrics, *one.task.fact_names)
    ]


def _has_several_targets(split: Any) -> bool:
    """Whether the split that is asked for gives several targets to a query."""
    asked = dict(split.get("init_args") or {}) if split is not None else {}  # one that takes nothing has none
    return asked.get("num_targets", 1) != 1 or asked.get("target") == "together"


def _check_there_is_validation(option: str, watched: str, trainer: Any) -> None:
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if is_zero(trainer.limit_val_batches):
        why = "--trainer.limit_val_batches 0 leaves no validation"
    elif every is not None and epochs is not None and 0 < epochs < every:
        why = f"--trainer.check_val_every_n_epoch {every} leaves no validation within --trainer.max_epochs {epochs}"
    else:
        return
    raise RecsysLabError(
        f"{why}, and {option} watches {watched}: leave it out, or watch the training loss with "
        "--early_stopping.monitor train/loss --early_stopping.mode min --checkpoint.monitor train/loss "
        "--checkpoint.mode min"
    )


def _say_who_is_left(trainer: Any, names: Sequence[str]) -> None:
    """Of limits that leave a part of the evaluation: batches go from the longest windows to the shortest."""
    for name in names:
        limit = trainer[name]
        if limit is None or is_zero(limit) or (isinstance(limit, float) and limit == 1.0):
            continue
        log.warning(
            "--trainer.%s %s takes the first batches, which hold the longest windows: good for a try, and no estimate "
            "for all users",
            name,
            limit,
        )


def _logs_more(config: Any) -> bool:
    """A model, a metric or a callback of the user's own may log under names that are not known here."""
    callbacks, metrics = config.trainer.callbacks or [], config.evaluation.metrics or []
    parts = [config.model, *metrics, *(callbacks if isinstance(callbacks, list) else [callbacks])]
    paths = [str(getattr(part, "class_path", part)) for part in parts]
    return not all(path.startswith(("recsys_lab.", "lightning.", "pytorch_lightning.")) for path in paths)


def _check_accelerator(name: str) -> None:
    """Refuses one that this machine does not have: Lightning says so late and in its own words."""
    there = {kind: AcceleratorRegistry[kind]["accelerator"].is_available() for kind in sorted(AcceleratorRegistry)}
    known = {**there, "auto": True, "gpu": there.get("cuda", False) or there.get("mps", False)}
    if name not in known:
        raise RecsysLabError(
            f"--trainer.accelerator {name}: there is no such accelerator.{did_you_mean(name, known)} Known: "
            f"{', '.join(sorted(known))}"
        )
    if not known[name]:
        built = f"torch {torch.__version__} is built without CUDA" if torch.version.cuda is None else "torch finds none"
        why = {"gpu": f" ({built})", "cuda": f" ({built})", "tpu": " (it takes a TPU and the package torch_xla)"}.get(
            name, ""
        )
        found = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise RecsysLabError(
            f"--trainer.accelerator {name}: this machine has no such device{why}; it has: {found}. Leave the option "
            "out to take the best that there is"
        )


def _check_devices(trainer: Any) -> None:
    """Processes on a CPU: Lightning starts as many as are asked for."""
    text = str(trainer.devices).strip()
    if re.fullmatch(r"[+-]?\d+", text) and int(text) < 1 and text != "-1":  # -1: all that there are
        raise RecsysLabError(f"--trainer.devices must be at least 1, not {text}")
    if trainer.accelerator == "cpu" and not re.fullmatch(r"\d+|-1|auto", text):
        raise RecsysLabError(f"--trainer.devices {text}: on a CPU this is a number of processes, such as 2")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    on_cpu = trainer.accelerator == "cpu" or (
        trainer.accelerator == "auto" and not torch.cuda.is_available() and not torch.backends.mps.is_available()
    )
    if not on_cpu or not cores or not text.isdigit() or int(text) <= cores:
        return
    if int(text) > PROCESSES_PER_CORE * cores:
        raise RecsysLabError(
            f"--trainer.devices {text} asks for {text} processes on {cores} cores: give --trainer.devices {cores} or "
            "less"
        )
    log.warning("--trainer.devices %s: %s processes share %d cores, which is slow", text, text, cores)


def _is_typed(option: str, typed: Sequence[str]) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in typed)


def is_zero(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and value == 0
