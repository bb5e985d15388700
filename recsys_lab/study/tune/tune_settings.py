"""The `tune` section of a study file: what is compared at which equal budget, and how it is searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from recsys_lab.arguments import Count, Natural, check_fields
from recsys_lab.study.plan.study_file import Study, must_be_known
from recsys_lab.study.tune.space import One, read_space
from recsys_lab.words import ArgumentError, RecsysLabError

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
    axis: those that are compared at an equal budget; none: each variant is.
    space: of every search.
    spaces: label of a variant or of an axis value -> what is added, or with None taken out, for it.
    seed: of the sampler.
    """

    trials: Count
    axis: tuple[str, ...] = ()
    space: dict[str, One | None] = field(default_factory=dict)
    spaces: dict[str, dict[str, One | None]] = field(default_factory=dict)
    pruner: str = "median"
    pruner_options: dict[str, Any] = field(default_factory=dict)
    sampler: Literal["tpe", "random"] = "tpe"
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_fields(self)


def read_settings(study: Study, trials: int | None = None) -> TuneSettings:
    """The `tune` section; `trials` in the place of the file's, where it is given.

    Raises:
        RecsysLabError: naming the key; when Optuna is not installed.
    """
    try:
        return _settings(study, study.tune | ({} if trials is None else {"trials": trials}))
    except ArgumentError as error:
        raise RecsysLabError(f"{study.file}: tune.{error.argument}: {error.problem}") from error
    except RecsysLabError as error:
        raise RecsysLabError(f"{study.file}: {error}") from error


def _settings(study: Study, plain: dict[str, Any]) -> TuneSettings:
    if not study.tune:
        raise RecsysLabError("has no `tune` section; it needs a space, and trials")
    for key in plain:
        must_be_known("key of tune", str(key), KEYS)
    if plain.get("trials") is None:
        raise RecsysLabError("tune: has no budget; set trials (of each search)")
    axes = plain.get("axis") or []
    axes = axes if isinstance(axes, list) else [axes]
    for axis in axes:
        must_be_known("tune.axis", str(axis), tuple(study.axes))
    spaces, where = plain.get("spaces") or {}, study.file.parent
    if not isinstance(spaces, dict):
        raise RecsysLabError(f"tune.spaces: must be a mapping of labels to spaces, got {spaces!r}")
    pruner, options = _pruner(plain.get("pruner", "median"))
    return TuneSettings(
        trials=FAST_TRIALS if study.fast else plain["trials"],
        axis=tuple(dict.fromkeys(map(str, axes))),
        space=read_space(plain.get("space") or {}, "tune.space", where),
        spaces={str(k): read_space(v or {}, f"tune.spaces.{k}", where) for k, v in spaces.items()},
        pruner=pruner,
        pruner_options=options,
        **{name: plain[name] for name in ("sampler", "seed") if name in plain},
    )


def _pruner(value: Any) -> tuple[str, dict[str, Any]]:
    """A name, or one name with options: `{median: {n_warmup_steps: 10}}`."""
    name, options = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else (value or "none", {})
    must_be_known("tune.pruner", str(name), tuple(PRUNER_OPTIONS))
    options = options or {}
    if not isinstance(options, dict):
        raise RecsysLabError(f"tune.pruner.{name}: must be a mapping of options, got {options!r}")
    for option, given in options.items():
        must_be_known(f"option of tune.pruner.{name}", str(option), tuple(PRUNER_OPTIONS[name]))
        if given != "auto" and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
            raise RecsysLabError(f"tune.pruner.{name}.{option}: must be a whole number from 0 on, got {given!r}")
    return str(name), {**PRUNER_OPTIONS[name], **options}
