"""A run folder may come from a stranger: the classes that its config.yaml names, before the parser imports any of them.

What the user types on the command line or names with `--config` is the user's own word; a run folder is not. So each
name in its configuration must be a class of recsys_lab, Lightning or torch, of the type that its place wants, or be
allowed with `--allow_classes`.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from recsys_lab.arguments import arguments_of, classes_in
from recsys_lab.config import CLASS_PATH, ForeignClassError, allowed_classes, find_class, read_yaml
from recsys_lab.config import find_own_modules as find_own_modules
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.runs.run_settings import RunSettings
from recsys_lab.words import RecsysLabError

PACKAGES = ("recsys_lab", "lightning", "torch")
CLASS_OPTIONS = ("--model", "--data.split", "--evaluation.measures", "--evaluation.metrics", "--trainer")
SECTIONS: dict[str, Any] = {
    "trainer": Trainer,
    "data": SequenceDataModule,
    "evaluation": RankingEvaluation,
    "recommendations": Recommendations,
    "early_stopping": EarlyStopping,
    "checkpoint": ModelCheckpoint,
    "run": RunSettings,
}


def names_own_modules(arguments: Sequence[str]) -> bool:
    """The user trusts modules of others: by `--allow_classes`, a --config, or a dotted class name on this line."""
    option, typed = "", bool(allowed_classes())
    for argument in arguments:
        name, _, value = argument.partition("=") if argument.startswith("--") else (option, "", argument)
        option = name
        typed |= name == "--config"
        typed |= name.startswith(CLASS_OPTIONS) and CLASS_PATH.fullmatch(value) is not None
    return typed


def check_saved_config(path: Path, sections: Sequence[str] = ("model", *SECTIONS)) -> None:
    """The config.yaml of a run folder.

    Raises:
        RecsysLabError: naming the key and the class; nothing of it was imported or called.
    """
    try:
        config = read_yaml(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecsysLabError(f"{path} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, Mapping):
        raise RecsysLabError(f"{path} can't be read: it holds no settings")
    for name in sections:
        value, where = config.get(name), f"{path}: {name}"
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise RecsysLabError(f"{where} must be a mapping, not {value!r}")
        if name == "model":
            _check_place(value, NextItemModule, where)
        else:
            _check_members(value, SECTIONS[name], where)


def foreign_class(error: BaseException) -> RecsysLabError | None:
    """What to type where `error` comes from a class of another package; None where it does not."""
    under: BaseException | None = error
    while under is not None:
        if isinstance(under, ForeignClassError):
            name = under.class_path
            if under.__cause__ is not None:  # it may be imported, and can't be
                return under
            return RecsysLabError(f"its class {name} was not imported; if you trust it: --allow_classes {name}")
        under = under.__cause__ or under.__context__
    return None


def _check_members(values: Mapping[Any, Any], cls: type, where: str) -> None:
    hints = arguments_of(cls)[0]
    for name, value in values.items():
        _check_place(value, hints.get(str(name), Any), f"{where}.{name}")


def _check_place(value: Any, hint: Any, where: str) -> None:
    """`value` where the annotation `hint` says what belongs there."""
    if isinstance(value, str):
        _check_text(value, hint, where)
    elif isinstance(value, list):
        for one in value:
            _check_place(one, hint, where)
    elif isinstance(value, Mapping):
        wanted = classes_in(hint)
        if "class_path" not in value:  # a dataclass, or a mapping of plain values
            for cls in wanted:
                _check_members(value, cls, where)
            if not wanted:
                for name, one in value.items():
                    _check_place(one, Any, f"{where}.{name}")
            return
        if hint is not Any and not wanted:
            raise RecsysLabError(f"{where} is no place for a class, and {value['class_path']!r} is not called")
        name = value["class_path"]
        if isinstance(name, str) and name.isidentifier():  # the parser knows only names of classes that are imported
            found = next((c for base in wanted for c in _below(base) if c.__name__ == name), object)
        else:
            found = find_class(name, wanted, where, PACKAGES)
        for part in ("init_args", "dict_kwargs"):
            if isinstance(value.get(part), Mapping):
                _check_members(value[part], found, where)
            elif value.get(part) is not None:
                raise RecsysLabError(f"{where}.{part} must be a mapping, not {value[part]!r}")


def _check_text(value: str, hint: Any, where: str) -> None:
    """The parser also takes a class, a list of classes, or a file of settings, written as a text."""
    if _takes_callable(hint):
        raise RecsysLabError(f"{where}: a run folder may not name a function, as {value!r} is")
    wanted = classes_in(hint)
    if not wanted:
        return
    if CLASS_PATH.fullmatch(value):
        find_class(value, wanted, where, PACKAGES)
    elif re.search(r"[\[{:/\\]|\.(ya?ml|json)$", value) or Path(value).is_file():
        try:
            inside = yaml.safe_load(value)
        except yaml.YAMLError:
            inside = value
        if isinstance(inside, Mapping | list):
            _check_place(inside, hint, where)
        elif not re.fullmatch(r"[\d:. ]+", value):  # a time, such as max_time's 00:12:00:00
            raise RecsysLabError(f"{where}: a run folder may not name another file, as {value!r} does")


def _takes_callable(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    return (
        hint in (Callable, typing.Callable)
        or origin in (Callable, type)
        or any(_takes_callable(part) for part in typing.get_args(hint))
    )


def _below(cls: type) -> list[type]:
    subclasses: list[type] = cls.__subclasses__()
    return [cls, *(below for sub in subclasses for below in _below(sub))]
