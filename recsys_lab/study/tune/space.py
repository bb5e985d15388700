"""What a search may choose from: dotted keys of a run configuration, each with a range or with choices."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lab.study.plan.study_file import settings_of, text_of
from recsys_lab.words import RecsysLabError

MEASURED = ("data.dataset", "data.data_dir", "data.prepare", "data.split", "data.exclude_seen", "evaluation")
"""Keys (and all below them) that say what is measured: values of trials that differ in them can't be compared."""
WATCHED = ("early_stopping.monitor", "early_stopping.mode", "checkpoint", "run")
"""Keys that the study sets by itself."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones when both were written as whole numbers."""

    low: float | int
    high: float | int
    log: bool = False
    step: float | int | None = None

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def extremes(self) -> list[Any]:
        return [self.low, self.high]


@dataclass(frozen=True)
class Choices:
    """One of these; anything that YAML can write."""

    values: tuple[Any, ...]

    def extremes(self) -> list[Any]:
        return list(self.values)

    def names(self) -> tuple[Any, ...]:
        """What Optuna is given: it knows only texts, numbers, booleans and None."""
        return tuple(v if v is None or isinstance(v, str | int | float | bool) else json.dumps(v) for v in self.values)


Space = dict[str, Range | Choices]


def read_space(plain: Any, key: str, where: Path) -> dict[str, Range | Choices | None]:
    """A `space` section of a study file; None stands for a key that is taken out.

    Raises:
        RecsysLabError: naming the key and what is wrong with it.
    """
    if not isinstance(plain, dict):
        raise RecsysLabError(f"{key}: must be a mapping of dotted keys to ranges or choices, got {plain!r}")
    found: dict[str, Range | Choices | None] = {}
    for name, value in plain.items():
        if str(name) == "config":
            raise RecsysLabError(f"{key}.config: a file can't be searched; give its dotted keys one by one")
        full = next(iter(settings_of({name: None}, key, where)))
        for prefix in (*MEASURED, *WATCHED):
            if full == prefix or full.startswith(prefix + "."):
                why = "says what is measured" if prefix in MEASURED else "is set by the study"
                raise RecsysLabError(f"{key}.{name}: can't be searched: {prefix} {why}")
        found[full] = None if value is None else _one(value, f"{key}.{name}")
    return found


def _one(value: Any, key: str) -> Range | Choices:
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        raise RecsysLabError(f"{key}: must be {{low: .., high: ..}} or {{choices: [..]}}, got {value!r}")
    unknown = set(map(str, value)) - {"low", "high", "log", "step", "choices"}
    if unknown:
        raise RecsysLabError(f"{key}: unknown {', '.join(sorted(unknown))}; known: low, high, log, step, choices")
    if "choices" in value:
        return _choices(value, key)
    if "low" not in value or "high" not in value:
        raise RecsysLabError(f"{key}: needs both low and high, or choices")
    low, high = _number(value["low"], f"{key}.low"), _number(value["high"], f"{key}.high")
    step = None if value.get("step") is None else _number(value["step"], f"{key}.step")
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise RecsysLabError(f"{key}.log: must be true or false, got {log!r}")
    if not low < high:
        raise RecsysLabError(f"{key}: low {low} must be below high {high}")
    if log and low <= 0:
        raise RecsysLabError(f"{key}: low must be above 0 on a log scale, got {low}")
    if step is not None and (log or step <= 0):
        raise RecsysLabError(f"{key}.step: must be above 0, and can't go with log; got {step}")
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, float):
        low, high = float(low), float(high)
    return Range(low, high, log, step)


def _choices(value: dict[str, Any], key: str) -> Choices:
    if len(value) > 1:
        raise RecsysLabError(f"{key}: choices stand alone, without low, high, log or step")
    choices = value["choices"]
    if not isinstance(choices, list) or not choices:
        raise RecsysLabError(f"{key}.choices: must be a list with at least one value, got {choices!r}")
    texts = [json.dumps(choice, sort_keys=True, default=str) for choice in choices]
    if len(set(texts)) < len(texts):
        raise RecsysLabError(f"{key}.choices: holds a value twice")
    return Choices(tuple(choices))


def _number(value: Any, key: str) -> int | float:
    """YAML reads 1e-4 as a text (it wants 1.0e-4)."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecsysLabError(f"{key}: must be a number, got {value!r}")
    return value


def plain_space(space: Space) -> dict[str, Any]:
    """As a study file writes it."""
    return {
        name: {"choices": list(one.values)}
        if isinstance(one, Choices)
        else {"low": one.low, "high": one.high, "log": one.log, "step": one.step}
        for name, one in space.items()
    }


def value_in(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key in a resolved configuration (config.yaml of a run), through `init_args`.

    Raises:
        KeyError: when there is none.
    """
    node: Any = config
    for part in key.split("."):
        if isinstance(node, dict) and part not in node and isinstance(node.get("init_args"), dict):
            node = node["init_args"]
        if not isinstance(node, dict) or part not in node:
            raise KeyError(key)
        node = node[part]
    return node


def as_in(one: Range | Choices, value: Any) -> tuple[bool, Any]:
    """Whether a space holds `value`, and how the space writes it (`CrossEntropy` for its whole class path)."""
    if isinstance(one, Choices):
        same = [choice for choice in one.values if text_of(choice) == text_of(value)]
        return bool(same), same[0] if same else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not one.low <= value <= one.high or (one.is_whole and value != int(value)):
        return False, None
    if one.step is not None:
        steps = (value - one.low) / one.step
        if abs(steps - round(steps)) > 1e-9:
            return False, None
    return True, int(value) if one.is_whole else float(value)
