"""Run configurations validated by the parser of `recsys-lab fit`, and their identities. Thousands in seconds.

Parsing a configuration costs a good part of a second, so each section (model, data, the rest) is looked at by itself,
and within a section configurations of one shape (the same keys and classes) share their parses: only so many are parsed
that every value of every key has been parsed once. What a value becomes (`1e-3` a number, `SASRec` a class) is then
known for all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from types import SimpleNamespace
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LightningArgumentParser

import recsys_lab.data
import recsys_lab.losses
import recsys_lab.models
from recsys_lab.cli import lightning as commands
from recsys_lab.cli.errors import class_options, explain, mendable
from recsys_lab.cli.study.settings import compose, short
from recsys_lab.configuration import import_class
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.locate import find_prepared
from recsys_lab.data.settings import PrepareSettings
from recsys_lab.data.split_rule import Split
from recsys_lab.models.base import NextItemModule
from recsys_lab.schema import DataSpec, Loss, NegativeSampler, RecsysLabError
from recsys_lab.study.plan.study_file import Settings
from recsys_lab.study.plan.variants import Checked

Flat = dict[tuple[str, ...], Any]
SECTIONS = ("model", "data")
REST = "rest"

ENOUGH_ERRORS = 5
"""Per shape: each costs a parse."""

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
    num_event_types=2,
    max_length=4,
    has_timestamps=True,
    mean_gap_seconds=1.0,
    data_hash="none",
    vocabulary_hash="none",
    split="none",
)
"""Of no data set: a model that can't be built for it can't be built."""


class Resolver:
    """`study.plan.variants.Resolver` over LightningCLI's parser."""

    def __init__(self) -> None:
        commands.import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data)
        self._parsers = {name: _parser(name) for name in (*SECTIONS, REST)}
        self._defaults: dict[str, Flat] = {}
        self._hashes: dict[str, str | None] = {}

    def compose(self, settings: list[Settings], start: dict[str, Any] | None = None) -> dict[str, Any]:
        return compose(settings, _options, start)

    def check(self, configs: list[dict[str, Any]]) -> list[Checked]:
        parts = {name: self._check_section(name, [_section(config, name) for config in configs]) for name in SECTIONS}
        parts[REST] = self._check_section(REST, [_section(config, REST) for config in configs])
        found = []
        for of_one in zip(*parts.values(), strict=True):
            errors = [part.error for part in of_one if part.error]
            whole = hashlib.sha256("\n".join(part.identity for part in of_one).encode()).hexdigest()
            found.append(Checked("" if errors else whole, "; ".join(errors)))
        return found

    def data_hash(self, config: dict[str, Any]) -> str | None:
        data = config.get("data") or {}
        key = json.dumps([data.get(name) for name in ("dataset", "data_dir", "prepare")], default=str)
        if key not in self._hashes:
            prepare = PrepareSettings.from_dict(data["prepare"]) if data.get("prepare") else None
            default = SequenceDataModule()
            there = find_prepared(data.get("dataset", default.dataset), data.get("data_dir", default.data_dir), prepare)
            self._hashes[key] = None if there is None else there.data_hash
        return self._hashes[key]

    def prepare(self, configs: list[dict[str, Any]]) -> None:
        """Downloads and prepares every data set of the configurations that is not there yet, once and before the runs.

        Raises:
            RecsysLabError: when one can't be had.
        """
        sections = {json.dumps(config.get("data") or {}, sort_keys=True, default=str): config for config in configs}
        done = set()
        for config in sections.values():
            data: SequenceDataModule = self._build("data", self._parsed("data", {"data": config.get("data") or {}}))
            key = (data.dataset, str(data.data_dir), str(data.prepare_settings))
            if key not in done:
                data.prepare_data()
                done.add(key)
        self._hashes.clear()

    # -- one section ---------------------------------------------------------------------------------------------------

    def _check_section(self, name: str, configs: list[dict[str, Any]]) -> list[Checked]:
        texts = [_text(config) for config in configs]
        distinct = dict(zip(texts, configs, strict=True))
        shapes: dict[str, dict[str, Flat]] = {}  # shape -> text -> flat
        for text, config in distinct.items():
            flat = _flatten(config)
            shapes.setdefault(_shape(flat), {})[text] = flat
        checked: dict[str, Checked] = {}
        for members in shapes.values():
            checked |= self._check_shape(name, members, distinct)
        return [checked[text] for text in texts]

    def _check_shape(
        self, name: str, members: dict[str, Flat], configs: dict[str, dict[str, Any]]
    ) -> dict[str, Checked]:
        """Parses members until every value of every key has been seen; the others are put together from those."""
        given = {text: {path: _text(value) for path, value in flat.items()} for text, flat in members.items()}
        known: dict[tuple[tuple[str, ...], str], Flat] = {}  # key, value as given -> what it was parsed to
        errors: dict[str, str] = {}
        varied = sum(len({values[path] for values in given.values()}) > 1 for path in next(iter(given.values())))
        for least_new in (max(varied, 1), 1):  # first those that are new in every respect: few parses see all values
            for text, values in given.items():
                new = sum(pair not in known for pair in values.items())
                if new < least_new or text in errors or len(errors) >= ENOUGH_ERRORS:
                    continue
                try:
                    parsed = self._parse(name, configs[text])
                except RecsysLabError as error:
                    errors[text] = str(error)
                    continue
                for path, value in values.items():
                    known[path, value] = {p: v for p, v in parsed.items() if p[: len(path)] == path}
        if errors:  # the study can't run; which of the others are good is not looked into
            return {text: Checked(error=errors.get(text, next(iter(errors.values())))) for text in members}
        found = {}
        for text, values in given.items():
            resolved = {path: value for pair in values.items() for path, value in known[pair].items()}
            found[text] = Checked(self._identity(name, resolved))
        return found

    def _parse(self, name: str, config: dict[str, Any]) -> Flat:
        """Parses and builds one section; only what the configuration itself names is returned.

        Raises:
            RecsysLabError: naming the key.
        """
        parsed = self._parsed(name, config)
        built = self._build(name, parsed)
        if name == "model":
            _try_to_build(built)
        return _flatten(_plain(parsed))

    def _parsed(self, name: str, config: dict[str, Any]) -> Any:
        parser = self._parsers[name]
        try:
            return parser.parse_object(config, env=False)
        except Exception as error:
            raise RecsysLabError(explain(str(error), parser)) from error

    def _build(self, name: str, parsed: Any) -> Any:
        if name == REST:
            _check_time(parsed)
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
        fit: Any = SimpleNamespace(subcommands=lambda: ("fit",))  # whose arguments are those of a fit
        commands.CommandLine.add_arguments_to_parser(fit, parser)
        parser.set_defaults({f"trainer.{name}": value for name, value in commands.TRAINER_DEFAULTS.items()})
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


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _shape(flat: Flat) -> str:
    """What decides how the values are parsed: the keys, and every text that may name a class."""
    return json.dumps(
        sorted((".".join(path), value if _may_be_class(path, value) else None) for path, value in flat.items())
    )


def _may_be_class(path: tuple[str, ...], value: Any) -> bool:
    if not isinstance(value, str) or path == ("data", "dataset"):
        return False
    return not re.fullmatch(r"[-+.\d][-+.\de]*", value)  # YAML reads 1e-4 as a text


def _plain(parsed: Any) -> Any:
    return parsed.as_dict() if hasattr(parsed, "as_dict") else parsed


@cache
def _options(class_path: str) -> set[str] | None:
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
