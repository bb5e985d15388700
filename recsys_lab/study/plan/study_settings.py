"""Dotted keys applied to a nested run configuration, as `recsys-lab fit --model.dropout 0.3` would apply them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from recsys_lab.words import RecsysLabError

Options = Callable[[str], set[str] | None]
"""Class name -> the settings that it takes; None for a class that is not known."""


@dataclass(frozen=True)
class Checked:
    """What is known of one run configuration: its identity, or why it can't be built."""

    identity: str = ""
    error: str = ""


def compose(layers: list[dict[str, Any]], options: Options, start: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settings one over the other.

    Args:
        start: nested configuration that they go on top of; it is not changed.
        layers: dotted key -> value, the later ones on top; the key `config` holds YAML files that come before the other
            keys of its layer.
        options: where one class takes another's place, the settings that it has too are kept.

    Returns:
        a nested configuration as `recsys-lab fit --config` reads it.

    Raises:
        RecsysLabError: when a key goes through something that is no mapping, or a file is no configuration.
    """
    config: dict[str, Any] = copy.deepcopy(start or {})
    for layer in layers:
        for file in layer.get("config", []):
            _merge(config, _read(file, Path(file).stat().st_mtime_ns), options)
        for key, value in layer.items():
            if key != "config":
                _set(config, key.split("."), key, copy.deepcopy(value), options)
    config.pop("seed_everything", None)  # the study's seeds take its place
    run = config.pop("run", {})
    kept = {name: run[name] for name in ("retrain", "logger", "test_after_fit") if name in run}
    return {**config, "run": kept} if kept else config


def data_key(config: dict[str, Any]) -> str:
    """Of a run configuration: equal for two that open the same prepared data set."""
    data = config.get("data") or {}
    return json.dumps([data.get(name) for name in ("dataset", "data_dir", "prepare")], default=str)


def short(class_path: Any) -> str:
    """The class's own name."""
    return str(class_path).rpartition(".")[2]


def _set(node: dict[str, Any], parts: list[str], key: str, value: Any, options: Options) -> None:
    name, rest = parts[0], parts[1:]
    if "class_path" in node and name not in ("class_path", "init_args", "dict_kwargs"):
        node = _mapping(node, "init_args", key)
    if rest:
        _set(_mapping(node, name, key), rest, key, value, options)
    elif isinstance(node.get(name), dict) and isinstance(value, str):
        _swap(node, name, {"class_path": value}, options)
    elif isinstance(value, dict) and "class_path" in value:
        _swap(node, name, value, options)
    elif name == "model" and isinstance(value, str):
        node[name] = {"class_path": value}
    else:
        node[name] = value


def _mapping(node: dict[str, Any], name: str, key: str) -> dict[str, Any]:
    """The mapping at `name`, made when there is none; a class written as its bare name becomes one."""
    found = node.get(name)
    if isinstance(found, str):
        node[name] = {"class_path": found}
    elif found is None:
        node[name] = {}
    elif not isinstance(found, dict):
        raise RecsysLabError(f"{key}: {name} is {found!r}, which has no settings of its own")
    made: dict[str, Any] = node[name]
    return made


def _swap(node: dict[str, Any], name: str, new: dict[str, Any], options: Options) -> None:
    """Puts the class `new` in the place of what is at `name`, with those old settings that it takes."""
    old = node.get(name)
    arguments: dict[str, Any] = {}
    if isinstance(old, dict) and "class_path" in old:
        takes = None if short(old["class_path"]) == short(new["class_path"]) else options(new["class_path"]) or set()
        kept = old.get("init_args") or {}
        arguments = {key: value for key, value in kept.items() if takes is None or key in takes}
    node[name] = {"class_path": new["class_path"]}
    if arguments:
        node[name]["init_args"] = arguments
    for key, value in (new.get("init_args") or {}).items():
        _merge(_mapping(node[name], "init_args", name), {key: value}, options)


def _merge(node: dict[str, Any], new: dict[str, Any], options: Options) -> None:
    for name, value in new.items():
        if isinstance(value, dict) and "class_path" in value:
            _swap(node, name, value, options)
        elif name == "model" and isinstance(value, str):
            _swap(node, name, {"class_path": value}, options)
        elif isinstance(value, dict) and isinstance(node.get(name), dict):
            _merge(node[name], value, options)
        else:
            node[name] = copy.deepcopy(value)


@lru_cache
def _read(file: str, changed: int) -> dict[str, Any]:
    """The file as it was at the time `changed`; thousands of variants name the same few."""
    try:
        found = yaml.safe_load(Path(file).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecsysLabError(f"config {file} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise RecsysLabError(f"config {file} holds no run configuration")
    return found
