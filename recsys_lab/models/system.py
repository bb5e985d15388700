"""What makes a trained system: everything but the seed that decides its weights, as plain data with one hash.

Runs are seeds of one system when this is equal. It stands in the checkpoint and in manifest.json, so that a run that
goes on, or two runs side by side, can be compared setting by setting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import recsys_lab
from recsys_lab.arguments import defaults_of
from recsys_lab.config import Configurable, hash_of, named_today, one_way, to_config
from recsys_lab.models import randomness
from recsys_lab.ops.processes import of_every_process
from recsys_lab.words import RecsysLabError

TRAINER = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "limit_val_batches",
    "overfit_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
)
DATA = ("batch_size", "batch_tokens", "length_bucketing", "bucket_batches", "exclude_seen")
"""Settings of the data module that shape training beside those of `DataSpec.training`."""
RESOLVED = ("loss", "negatives", "optimization")
"""Arguments of a model that may be None, and what the model then takes."""
FOUND = ("item_vectors_width",)
"""Arguments that follow from a file which another argument names."""
OF_MEMORY = ("scorer.chunk",)
"""Arguments that change memory and speed alone: a test may ask for others than its checkpoint trained with."""
LATER = {
    "item_vectors": None,
    "item_vectors_mode": "frozen",
    "target_fields": (),
    "task": None,
    "auxiliary": None,
    "inputs": None,
    "item_vectors_preprocessing": "none",
    "item_vectors_missing": "error",
    "scorer": None,
    "shard_items": False,
    "norm": "pre",
    "feed_forward": "swiglu",
    "gate": True,
}
"""Arguments that came later, and the values by which nothing changes: left out then, so that runs from before are seeds
of the same systems."""
FINDERS = ("BatchSizeFinder", "LearningRateFinder")
"""Callbacks that choose a setting before the first step; what they found is recorded as if it had been asked for."""
WATCHING = (
    *FINDERS,
    "DeviceStatsMonitor",
    "EarlyStopping",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelSummary",
    "ProgressBar",
    "Timer",
)
"""Callbacks that don't change the weights of an epoch; how they end a fit is recorded apart."""
FROM_RUN_TO_RUN = ("seed",)
"""In the checkpoint, but no part of the system."""


def numbers_version() -> int:
    """Raised whenever the same seed gives other numbers: systems of two versions are two systems."""
    return int(getattr(recsys_lab, "NUMBERS", 1))


def system_of(module: Any, trainer: Any = None, data: Any = None) -> dict[str, Any]:
    """The settings that decide the weights of `module`, as plain data.

    The names are those of the command line: `data`, `model`, `trainer`, `early_stopping`, `checkpoint`.

    Args:
        trainer: None = the one that the module is attached to.
        data: None = that Trainer's data module.
    """
    trainer = module.trainer if trainer is None else trainer
    data = getattr(trainer, "datamodule", None) if data is None else data
    spec = data.spec if module.spec is None else module.spec
    found: dict[str, Any] = {
        "seed": getattr(data, "seed", None),
        "model": model_settings(module),
        "data": {**spec.training, **{name: getattr(data, name) for name in DATA if hasattr(data, name)}},
        "numbers_version": numbers_version(),
    }
    if hasattr(module, "is_counted"):  # nothing below moves a count, and the order of the windows doesn't either
        return found | {"data": dict(spec.training)}
    callbacks = trainer.callbacks
    ranking = next((c for c in callbacks if hasattr(c, "ties") and hasattr(c, "cold_targets")), None)
    stopping = next((c for c in callbacks if is_a(c, "EarlyStopping")), None)
    best = next((c for c in callbacks if is_a(c, "ModelCheckpoint") and c.monitor), None)
    found |= {
        "trainer": {name: getattr(trainer, name) for name in TRAINER} | {"processes": trainer.world_size},
        "early_stopping": _of(stopping, "monitor", "mode", "patience", "min_delta"),
        "checkpoint": _of(best, "monitor", "mode"),
        "evaluation": _of(ranking, "ties", "cold_targets"),
        "callbacks": sorted(type(c).__name__ for c in callbacks if not _only_watches(c)),
    }
    if ranking is not None and getattr(ranking, "candidates", "trained") != "trained":
        found["evaluation"]["candidates"] = ranking.candidates
    if trainer.accumulate_grad_batches != 1:  # before, each batch of a step weighed the same, whatever its targets
        found["accumulation"] = "mean over targets"
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))  # as a manifest and a checkpoint hold it
    return plain


def check_same_everywhere(module: Any) -> None:
    """Raises RecsysLabError, on every process, where one is to train with other data or settings than the first."""
    own = {"prepared data": module.spec.data_hash, "random seed": randomness.run_seed(), **system_of(module)}
    own.pop("callbacks", None)  # one that only the first process has is nobody's mistake
    first, *others = of_every_process(own)
    for rank, other in enumerate(others, start=1):
        found = [f"{name} is {there} and not {here}" for name, here, there in differing(first, other)]
        if found:
            copied = (
                "" if first["prepared data"] == other["prepared data"] else " on a copy of the same prepared folder"
            )
            raise RecsysLabError(
                f"process {rank} is not set up as process 0, and they can't train one model: {'; '.join(found[:3])}. "
                f"Start every process with the same options{copied}"
            )


def identity_of(module: Any) -> dict[str, Any]:
    """What manifest.json says of the system that `module`, attached to a Trainer, is."""
    system = getattr(module, "trained_system", None) or system_of(module)
    return {
        "training_hash": module.spec.training_hash or None,
        "numbers_version": numbers_version(),
        "system_hash": system_hash(system),
        "system": {name: value for name, value in system.items() if name not in FROM_RUN_TO_RUN},
        "reads": [*(["query_time"] if module.uses_query_time else []), *module.uses_target_fields],
    }


def system_hash(system: Mapping[str, Any], as_named: bool = False) -> str:
    """16 hex digits; equal for settings that are written differently (1 and 1.0, a list and a tuple).

    Args:
        as_named: with the class names that stand in `system`, which may be of before, and not with those of today.
    """
    plain = {name: value for name, value in system.items() if name not in FROM_RUN_TO_RUN}
    return hash_of(plain if as_named else named_today(plain))


def model_settings(model: Any) -> dict[str, Any]:
    """`to_config(model)` with what was left at its default: also where no loss was named, and the model chose."""
    config = full_config(model)
    for name in RESOLVED:
        if name in config["init_args"]:
            config["init_args"][name] = full_config(getattr(model, name))
    return in_use(config)


def in_use(config: Any) -> Any:
    """The configuration of a model without arguments of `LATER` that change nothing, and without those of `FOUND`."""
    if not isinstance(config, Mapping) or not isinstance(config.get("init_args"), Mapping):
        return config
    unused = {name: full_config(value) for name, value in LATER.items()}
    kept = {
        name: value
        for name, value in config["init_args"].items()
        if name not in FOUND and not (name in unused and value == unused[name])
    }
    return {**config, "init_args": kept}


def full_config(value: Any) -> Any:
    """`to_config(value)`, with every argument that has a default written out."""
    if isinstance(value, dict):
        return {str(k): full_config(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [full_config(v) for v in value]
    if not isinstance(value, Configurable):
        return to_config(value)
    init_args = {**defaults_of(type(value)), **value._init_args}
    path = f"{type(value).__module__}.{type(value).__qualname__}"
    return {"class_path": path, "init_args": {k: full_config(v) for k, v in init_args.items()}}


def differing(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name of a setting, value before, value now) of each that differs; a class is compared as a whole."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        if named_today(one_way(before)) != named_today(one_way(now)):
            yield name, _short(before), _short(now)
    elif named_today(before.get("class_path")) != named_today(now.get("class_path")):
        yield name, _short(before), _short(now)
    else:
        for key in [*before, *(k for k in now if k not in before)]:
            inner = name if key in ("init_args", "class_path") else f"{name}.{key}".lstrip(".")
            yield from differing(before.get(key), now.get(key), inner)


def _of(part: Any, *names: str) -> dict[str, Any] | None:
    return None if part is None else {name: getattr(part, name) for name in names}


def is_a(callback: Any, *names: str) -> bool:
    """Whether it is one of these callbacks of Lightning, or below one. By name: only who trains imports Lightning."""
    own = {cls.__name__ for cls in type(callback).__mro__ if cls.__module__.startswith("lightning.")}
    return not own.isdisjoint(names)


def _only_watches(callback: Any) -> bool:
    return is_a(callback, *WATCHING) or type(callback).__module__.startswith("recsys_lab.")


def _short(value: Any) -> Any:
    """`recsys_lab.losses.softmax.CrossEntropy` with its arguments -> `CrossEntropy`, for messages."""
    return (
        str(value["class_path"]).rpartition(".")[2] if isinstance(value, Mapping) and "class_path" in value else value
    )
