"""Run configurations validated by the parser of `recsys-lab fit`, and their identities.

Each section (model, data, the rest) is parsed by itself, and each text of a section once: the variants of a grid share
most of their sections.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import is_dataclass
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LightningArgumentParser

import recsys_lab.data
import recsys_lab.losses
import recsys_lab.models
from recsys_lab.config import Configurable, import_all, import_class, to_config
from recsys_lab.contracts import DataSpec, Field, Loss, NegativeSampler
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.split_rule import Split
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.runs.fit.parse_errors import class_options, explain, mendable
from recsys_lab.runs.fit.run_parser import TRAINER_DEFAULTS, add_run_arguments
from recsys_lab.runs.fit.trainer_ranges import check_ranges
from recsys_lab.study.plan.study_settings import Checked, data_key, short
from recsys_lab.words import RecsysLabError

Flat = dict[tuple[str, ...], Any]
SECTIONS = ("model", "data")
REST = "rest"

NOT_OF_THE_RESULT = {
    ("data", "data_dir"),
    ("data", "num_workers"),
    ("run", "logger"),
    ("run", "test_after_fit"),
    *(("trainer", name) for name in ("enable_progress_bar", "enable_model_summary", "logger", "default_root_dir")),
    *(("trainer", name) for name in ("profiler", "log_every_n_steps", "enable_autolog_hparams", "model_registry")),
}
"""Where things lie and what is shown; a run that differs only in these is the same run."""

SMALL_SPEC = DataSpec(
    dataset="none",
    num_items=11,
    num_users=3,
    max_length=4,
    has_timestamps=True,
    mean_gap_seconds=1.0,
    data_hash="none",
    vocabulary_hash="none",
    split="none",
    fields=(Field("event_type", "event", "categorical", 4),),
)
"""Of no data set: a model that can't be built for it can't be built."""


class ParsingResolver:
    """What the parser of `fit` says of configurations; `remembered.py` asks it what it has not said before."""

    def __init__(self) -> None:
        import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data)
        self._parsers = {name: _parser(name) for name in (*SECTIONS, REST)}
        self._checked: dict[str, Checked] = {}
        self._defaults: dict[str, Flat] = {}

    def check(self, configs: list[dict[str, Any]]) -> list[Checked]:
        found = []
        for config in configs:
            parts = [self._check_section(name, _section(config, name)) for name in (*SECTIONS, REST)]
            errors = [part.error for part in parts if part.error]
            whole = hashlib.sha256("\n".join(part.identity for part in parts).encode()).hexdigest()
            found.append(Checked("" if errors else whole, "; ".join(errors)))
        return found

    def resolved(self, config: dict[str, Any]) -> dict[str, Any]:
        parsed = {name: self._parsed(name, _section(config, name)) for name in (*SECTIONS, REST)}
        model = self._build("model", parsed["model"])
        given = to_config(model)
        for name, value in given["init_args"].items():  # the loss and the optimiser that it takes where none is given
            taken = getattr(model, name, None)
            if value is None and (isinstance(taken, Configurable) or is_dataclass(taken)):
                given["init_args"][name] = to_config(taken)
        whole = [_flatten(part) for part in ({"model": given}, _plain(parsed["data"]), _plain(parsed[REST]))]
        return {".".join(p for p in path if p != "init_args"): v for part in whole for path, v in part.items()}

    def prepare(self, configs: list[dict[str, Any]]) -> None:
        for config in {data_key(config): config for config in configs}.values():
            data: SequenceDataModule = self._build("data", self._parsed("data", _section(config, "data")))
            data.prepare_data()

    def options(self, class_path: str) -> set[str] | None:
        """What a class takes; None where there is no such class (validation will say so)."""
        if "." in class_path:
            try:
                cls: type | None = import_class(class_path)
            except RecsysLabError:
                cls = None
        else:
            bases = (NextItemModule, Loss, NegativeSampler, Split)
            cls = next((c for base in bases for c in _below(base) if c.__name__ == class_path), None)
        return None if cls is None else {name.partition(".")[0] for name in class_options(cls)}

    # -- one section ---------------------------------------------------------------------------------------------------

    def _check_section(self, name: str, config: dict[str, Any]) -> Checked:
        """Parses and builds one section, once for each text of it."""
        text = name + json.dumps(config, sort_keys=True, default=str)
        if text not in self._checked:
            try:
                parsed = self._parsed(name, config)
                built = self._build(name, parsed)
                if name == "model":
                    _try_to_build(built)
                self._checked[text] = Checked(self._identity(name, _named(_flatten(_plain(parsed)), _flatten(config))))
            except RecsysLabError as error:
                self._checked[text] = Checked(error=str(error))
        return self._checked[text]

    def _parsed(self, name: str, config: dict[str, Any]) -> Any:
        parser = self._parsers[name]
        try:
            return parser.parse_object(copy.deepcopy(config), env=False)  # it changes classes in lists where they are
        except Exception as error:
            raise RecsysLabError(explain(str(error), parser)) from error

    def _build(self, name: str, parsed: Any) -> Any:
        if name == REST:
            _check_time(parsed)
            check_ranges(_plain(parsed))
            return None
        try:
            return self._parsers[name].instantiate_classes(parsed)[name]
        except Exception as error:
            known = mendable(error)
            raise RecsysLabError(f"{name}: {known or error}") from error

    def _identity(self, name: str, resolved: Flat) -> str:
        """Of what differs from its default, so that a setting that is added later changes no identity."""
        defaults = self._defaults_of(name, resolved)
        kept = {
            path: short(value) if path[-1] == "class_path" and value.startswith("recsys_lab.") else value
            for path, value in resolved.items()
            if path[:2] not in NOT_OF_THE_RESULT and (path not in defaults or defaults[path] != value)
        }
        return json.dumps(sorted((".".join(path), value) for path, value in kept.items()), default=str)

    def _defaults_of(self, name: str, resolved: Flat) -> Flat:
        """Values of a configuration with the same classes and nothing else set."""
        classes = {path: value for path, value in resolved.items() if path[-1] == "class_path"}
        groups = sorted({path[:-1] for path in resolved if len(path) > 1})
        key = json.dumps([name, groups, sorted((".".join(path), value) for path, value in classes.items())])
        if key not in self._defaults:
            skeleton: dict[str, Any] = {}
            for group in groups:  # a group that is null by default has defaults of its own once it is there
                node = skeleton
                for part in group:
                    node = node.setdefault(part, {})
                if (*group, "class_path") in classes:
                    node["class_path"] = classes[*group, "class_path"]
            try:
                found = _flatten(_plain(self._parsed(name, skeleton)))
            except RecsysLabError:  # a class with an argument that has no default: nothing of it is left out
                found = {}
            self._defaults[key] = {path: value for path, value in found.items() if path not in classes}
        return self._defaults[key]


# ----------------------------------------------------------------------------------------------------------------------


def _parser(section: str) -> ArgumentParser:
    parser = LightningArgumentParser(exit_on_error=False)
    if section == "model":
        parser.add_lightning_class_args(NextItemModule, "model", subclass_mode=True)
    elif section == "data":
        parser.add_lightning_class_args(SequenceDataModule, "data")
    else:
        parser.add_lightning_class_args(Trainer, "trainer")
        add_run_arguments(parser)
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})
    return parser


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    if name == REST:
        return {key: value for key, value in config.items() if key not in SECTIONS}
    return {name: config[name]} if name in config else {}


def _flatten(config: Any, path: tuple[str, ...] = ()) -> Flat:
    """Nested mappings as path -> leaf; lists are leaves."""
    if isinstance(config, dict) and config:
        return {p: v for key, value in config.items() for p, v in _flatten(value, (*path, str(key))).items()}
    return {path: config} if path else {}


def _named(parsed: Flat, given: Flat) -> Flat:
    """Of the parsed values those that the configuration itself names, or that lie below what it names."""
    return {path: value for path, value in parsed.items() if any(path[:n] in given for n in range(1, len(path) + 1))}


def _plain(parsed: Any) -> Any:
    return parsed.as_dict() if hasattr(parsed, "as_dict") else parsed


def _below(cls: type) -> list[type]:
    subclasses: list[type] = cls.__subclasses__()
    return [below for sub in subclasses for below in (sub, *_below(sub))]


def _check_time(parsed: Any) -> None:
    try:
        Timer(duration=parsed.trainer.max_time)
    except Exception as error:
        raise RecsysLabError(f"trainer.max_time: {error}; write DD:HH:MM:SS") from error


def _try_to_build(model: NextItemModule) -> None:
    try:
        model.build(SMALL_SPEC)
    except Exception as error:
        raise RecsysLabError(f"model: {type(model).__name__} can't be built: {error}") from error
