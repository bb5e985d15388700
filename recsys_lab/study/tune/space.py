"""What a search may choose from: dotted keys of a run configuration, each with a range or with choices."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lab.study.plan.study_file import Settings, must_be_known, settings_of, text_of
from recsys_lab.words import RecsysLabError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MEASURED = ("data.dataset", "data.data_dir", "data.prepare", "data.split", "data.exclude_seen", "evaluation")
"""Keys (and all below them) that say what is measured: values of trials that differ in them can't be compared."""
WATCHED = ("early_stopping.monitor", "early_stopping.mode", "checkpoint", "run")
"""Keys that the study sets by itself."""

One = dict[str, Any]
"""`low`, `high`, `log` and `step` of a range with both ends; or `choices`, a list of anything that YAML can write."""
Space = dict[str, One]


def read_space(plain: Any, key: str, where: Path) -> dict[str, One | None]:
    """A `space` section of a study file; None stands for a key that is taken out.

    Raises:
        RecsysLabError: naming the key and what is wrong with it; when Optuna is not installed.
    """
    if not isinstance(plain, dict):
        raise RecsysLabError(f"{key}: must be a mapping of dotted keys to ranges or choices, got {plain!r}")
    found: dict[str, One | None] = {}
    for name, value in plain.items():
        if str(name) == "config":
            raise RecsysLabError(f"{key}.config: a file can't be searched; give its dotted keys one by one")
        full = next(iter(settings_of({name: None}, key, where)))
        for prefix in (*MEASURED, *WATCHED):
            if full == prefix or full.startswith(prefix + "."):
                why = "says what is measured" if prefix in MEASURED else "is set by the study"
                raise RecsysLabError(f"{key}.{name}: can't be searched: {prefix} {why}")
        found[full] = None if value is None else _read_one(value, f"{key}.{name}")
    return found


def _read_one(value: Any, key: str) -> One:
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        raise RecsysLabError(f"{key}: must be {{low: .., high: ..}} or {{choices: [..]}}, got {value!r}")
    for name in value:
        must_be_known(f"part of {key}", str(name), ("low", "high", "log", "step", "choices"))
    if "choices" in value:
        choices = value["choices"]
        if len(value) > 1:
            raise RecsysLabError(f"{key}: choices stand alone, without low, high, log or step")
        if not isinstance(choices, list) or not choices:
            raise RecsysLabError(f"{key}.choices: must be a list with at least one value, got {choices!r}")
        if len({json.dumps(choice, sort_keys=True, default=str) for choice in choices}) < len(choices):
            raise RecsysLabError(f"{key}.choices: holds a value twice")
        return {"choices": choices}
    if "low" not in value or "high" not in value:
        raise RecsysLabError(f"{key}: needs both low and high, or choices")
    ends = {name: _number(value[name], f"{key}.{name}") for name in ("low", "high")}
    log, step = value.get("log", False), value.get("step")
    if not isinstance(log, bool):
        raise RecsysLabError(f"{key}.log: must be true or false, got {log!r}")
    if not ends["low"] < ends["high"]:
        raise RecsysLabError(f"{key}: low {ends['low']} must be below high {ends['high']}")
    one = {**ends, "log": log, "step": None if step is None else _number(step, f"{key}.step")}
    if isinstance(one["step"], float):
        one |= {name: float(end) for name, end in ends.items()}
    try:
        distribution(one)
    except ValueError as error:
        raise RecsysLabError(f"{key}: {error}") from error
    return one


def _number(value: Any, key: str) -> int | float:
    """YAML reads 1e-4 as a text (it wants 1.0e-4)."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecsysLabError(f"{key}: must be a number, got {value!r}")
    return value


def extremes(one: One) -> list[Any]:
    """Both ends of a range, or every choice."""
    return list(one["choices"]) if "choices" in one else [one["low"], one["high"]]


# -- as Optuna has it --------------------------------------------------------------------------------------------------


def import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise RecsysLabError("`study tune` needs Optuna: pip install 'recsys-lab[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def distribution(one: One) -> BaseDistribution:
    """Whole numbers when both ends of a range were written as whole numbers.

    Raises:
        ValueError: for a range that Optuna can't draw from.
    """
    kinds = import_optuna().distributions
    if "choices" in one:
        return kinds.CategoricalDistribution(_names(one))
    if isinstance(one["low"], int) and isinstance(one["high"], int):
        return kinds.IntDistribution(one["low"], one["high"], one["log"], 1 if one["step"] is None else one["step"])
    return kinds.FloatDistribution(one["low"], one["high"], one["log"], one["step"])


def meant(one: One, drawn: Any) -> Any:
    """The value of the space that Optuna's value stands for."""
    return one["choices"][_names(one).index(drawn)] if "choices" in one else drawn


def own_values(space: Space, settings: Settings) -> dict[str, Any]:
    """Optuna's form of a study's own values, where the space holds them. settings: of `Resolver.resolved`."""
    found = {}
    for key, one in space.items():
        with contextlib.suppress(KeyError, ValueError):
            value = settings[f"{key}.class_path" if f"{key}.class_path" in settings else key]
            if "choices" in one:  # `CrossEntropy` stands for its whole class path
                value = _names(one)[[text_of(choice) for choice in one["choices"]].index(text_of(value))]
            kinds = {key: distribution(one)}
            import_optuna().trial.create_trial(value=0.0, params={key: value}, distributions=kinds)  # checks the range
            found[key] = value
    return found


def _names(one: One) -> list[Any]:
    """What Optuna is given for choices: it knows only texts, numbers, booleans and None."""
    choices = one["choices"]
    return [v if v is None or isinstance(v, str | int | float | bool) else json.dumps(v) for v in choices]
