"""The `tune` section of a study file: what is compared at which equal budget, and how it is searched."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from recsys_lab.study.plan.study_file import Study
from recsys_lab.study.tune.space import Choices, Range, read_space
from recsys_lab.words import RecsysLabError

Sampler = Literal["tpe", "random"]
Pruner = Literal["none", "median", "hyperband"]
PRUNER_OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    # a learning rate that starts slowly must not be cut for its first epochs
    "median": {"n_startup_trials": 5, "n_warmup_steps": 5, "interval_steps": 1, "n_min_trials": 1},
    "hyperband": {"min_resource": 1, "max_resource": "auto", "reduction_factor": 3, "bootstrap_count": 0},
}
"""Options of Optuna's pruners, and the values that they have here; epochs are the steps."""
KEYS = ("axis", "trials", "space", "spaces", "pruner", "sampler", "seed")
FAST_TRIALS = 2


@dataclass(frozen=True)
class TuneSettings:
    """What is compared and how it is searched.

    trials: of each search.
    axes: that are compared at an equal budget; none: each variant is.
    space: of every search.
    spaces: label of a variant or of an axis value -> what is added, or with None taken out, for it.
    seed: of the sampler.
    """

    trials: int
    axes: tuple[str, ...] = ()
    space: dict[str, Range | Choices | None] = field(default_factory=dict)
    spaces: dict[str, dict[str, Range | Choices | None]] = field(default_factory=dict)
    pruner: Pruner = "median"
    pruner_options: dict[str, Any] = field(default_factory=dict)
    sampler: Sampler = "tpe"
    seed: int = 0


def read_settings(study: Study, trials: int | None = None, axes: list[str] | None = None) -> TuneSettings:
    """The `tune` section, with what the command line sets in its place.

    Raises:
        RecsysLabError: naming the key.
    """
    plain = dict(study.tune)
    if not plain:
        raise RecsysLabError(f"{study.file}: has no `tune` section; it needs a space, and trials")
    for key in plain:
        _must_be_known(f"{study.file}: tune", str(key), KEYS)
    if trials is not None:
        plain["trials"] = trials
    if axes:
        plain["axis"] = axes
    try:
        return _settings(study, plain)
    except RecsysLabError as error:
        raise RecsysLabError(f"{study.file}: {error}") from error


def _settings(study: Study, plain: dict[str, Any]) -> TuneSettings:
    where = study.file.parent
    spaces = plain.get("spaces") or {}
    if not isinstance(spaces, dict):
        raise RecsysLabError(f"tune.spaces: must be a mapping of labels to spaces, got {spaces!r}")
    pruner, options = _pruner(plain.get("pruner", "median"))
    sampler = plain.get("sampler", "tpe")
    _must_be_known("tune.sampler", str(sampler), get_args(Sampler))
    seed = plain.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise RecsysLabError(f"tune.seed: must be a whole number from 0 on, got {seed!r}")
    return TuneSettings(
        trials=FAST_TRIALS if study.fast else _trials(plain.get("trials")),
        axes=_axes(plain.get("axis"), study),
        space=read_space(plain.get("space") or {}, "tune.space", where),
        spaces={str(k): read_space(v or {}, f"tune.spaces.{k}", where) for k, v in spaces.items()},
        pruner=pruner,
        pruner_options=options,
        sampler=sampler,
        seed=seed,
    )


def _trials(trials: Any) -> int:
    if trials is None:
        raise RecsysLabError("tune: has no budget; set trials (of each search)")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise RecsysLabError(f"tune.trials: must be a whole number from 1 on, got {trials!r}")
    return trials


def _axes(value: Any, study: Study) -> tuple[str, ...]:
    axes = [] if value is None else value if isinstance(value, list) else [value]
    for axis in axes:
        _must_be_known("tune.axis", str(axis), tuple(study.axes))
    return tuple(dict.fromkeys(map(str, axes)))


def _pruner(value: Any) -> tuple[Pruner, dict[str, Any]]:
    """A name, or one name with options: `{median: {n_warmup_steps: 10}}`."""
    if value is None or value is False:
        value = "none"
    name, options = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else (value, {})
    _must_be_known("tune.pruner", str(name), get_args(Pruner))
    options = options or {}
    if not isinstance(options, dict):
        raise RecsysLabError(f"tune.pruner.{name}: must be a mapping of options, got {options!r}")
    for option, given in options.items():
        _must_be_known(f"tune.pruner.{name}", str(option), tuple(PRUNER_OPTIONS[name]))
        is_count = isinstance(given, int) and not isinstance(given, bool) and given >= 0
        if not is_count and given != "auto":
            raise RecsysLabError(f"tune.pruner.{name}.{option}: must be a whole number from 0 on, got {given!r}")
    return name, {**PRUNER_OPTIONS[name], **options}


def _must_be_known(key: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise RecsysLabError(f"{key}: unknown {name!r}.{hint} Known: {', '.join(known) or 'none'}")
