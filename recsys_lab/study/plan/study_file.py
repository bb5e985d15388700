"""study.yaml read and checked: what is varied, from which base, over which seeds. Builds no run configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from recsys_lab.words import RecsysLabError, did_you_mean

Settings = dict[str, Any]
"""Dotted keys of a run configuration and their values; `config` names a YAML file that they start from."""

SHORT_NAMES = {"loss": "model.loss", "negatives": "model.negatives", "seed_everything": None, "seed": None, "run": None}
"""Names that users write, and the key that is meant; None: the study sets it."""
RUN_KEYS = ("run.retrain", "run.logger", "run.test_after_fit")
"""What a study may set of the run itself; names and folders it gives by itself."""

FAST: Settings = {
    "data.dataset": "synthetic",
    "data.prepare": None,
    "trainer.max_epochs": 1,
    "trainer.max_time": None,
    "trainer.limit_train_batches": 2,
}
"""What `--fast` changes in every variant: a smoke test of the study on made data, one seed."""


@dataclass(frozen=True)
class AxisValue:
    """One value of an axis: its name in labels and tables, what it sets, and the seeds it is limited to."""

    label: str
    settings: Settings
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Study:
    """One study file.

    file: where it was read.
    name: of the folder of results, `<root>/<name>`.
    question: what the study is to answer, in a sentence; may be empty.
    base: dotted keys that every variant starts from.
    axes: name -> its values; the variants are their grid.
    exclude: each a mapping of axis name -> labels; a variant that matches all of one is left out.
    adjust: settings, seeds or both, for variants that match all of a mapping of axis name -> labels, on top of their
        axes' own.
    variants: explicit ones beside the grid.
    seeds: of every variant.
    select: validation metric that picks epochs, and trials when tuning.
    tune, report: those sections as they stand in the file.
    overrides: dotted keys set last in every variant (`--fast`, `--set`).
    fast: this is the smoke test.
    """

    file: Path
    name: str
    question: str = ""
    base: Settings = field(default_factory=dict)
    axes: dict[str, list[AxisValue]] = field(default_factory=dict)
    exclude: list[dict[str, list[str]]] = field(default_factory=list)
    adjust: list[tuple[dict[str, list[str]], AxisValue]] = field(default_factory=list)
    variants: list[AxisValue] = field(default_factory=list)
    seeds: tuple[int, ...] = (0,)
    select: str = "val/ndcg@10"
    tune: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    overrides: Settings = field(default_factory=dict)
    fast: bool = False
    root: Path = Path("runs")

    @property
    def folder(self) -> Path:
        """Of all results."""
        return self.root / self.name


KEYS = [f.name for f in fields(Study) if f.name not in ("file", "overrides", "root", "fast")] + ["fast"]


def read_study(
    path: str | Path, root: str | Path = "runs", fast: bool = False, overrides: Settings | None = None
) -> Study:
    """Reads a study file.

    Args:
        path: the file, or the folder that holds a study.yaml.
        root: folder of all runs.
        fast: the smoke test: made data, one short epoch, one seed, results in `<root>/<name>-fast`. What the file's own
            `fast` section sets comes on top.
        overrides: dotted keys set last in every variant.

    Raises:
        RecsysLabError: when there is no such file or something in it can't be meant; names the key.
    """
    path = Path(path)
    path = path / "study.yaml" if path.is_dir() else path
    try:
        plain = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RecsysLabError(f"there is no study file {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecsysLabError(f"{path} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(plain, dict):
        raise RecsysLabError(f"{path} holds no study: it must be a mapping with base, axes, seeds, ...")
    try:
        return _study(path, plain, Path(root), fast, overrides or {})
    except RecsysLabError as error:
        raise RecsysLabError(f"{path}: {error}") from error


def _study(path: Path, plain: dict[str, Any], root: Path, fast: bool, overrides: Settings) -> Study:
    if "slurm" in plain:
        raise RecsysLabError(
            "slurm: is no section of a study; give these options to sbatch: sbatch --array=0-9 --partition=gpu "
            "scripts/cluster/study.sh FILE"
        )
    for key in plain:
        must_be_known("key", str(key), KEYS)
    where = path.parent
    name = plain.get("name", path.resolve().parent.name)
    if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
        raise RecsysLabError(f"name: {name!r} is no folder name")
    axes = {axis: _axis(axis, values, where) for axis, values in _mapping(plain, "axes").items()}
    variants = [_named("variants", label, one, where) for label, one in _mapping(plain, "variants").items()]
    seeds = _seeds(plain.get("seeds", [0]), "seeds")
    own = settings_of(_mapping(plain, "fast"), "fast", where)
    return Study(
        file=path,
        name=f"{name}-fast" if fast else name,
        question=str(plain.get("question", "")).strip(),
        base=settings_of(_mapping(plain, "base"), "base", where),
        axes=axes,
        exclude=[_condition(one, axes, "exclude") for one in _list(plain, "exclude")],
        adjust=[_adjustment(one, axes, where) for one in _list(plain, "adjust")],
        variants=variants,
        seeds=seeds[:1] if fast else seeds,
        select=_metric(plain.get("select", "val/ndcg@10")),
        tune=_mapping(plain, "tune"),
        report=_report(_mapping(plain, "report"), axes),
        overrides={**(FAST | own if fast else {}), **settings_of(overrides, "--set", Path())},
        fast=fast,
        root=root,
    )


def _report(plain: dict[str, Any], axes: dict[str, Any]) -> dict[str, Any]:
    """asks: axes that the question is about, or `axis: [a, b, ...]`, a value and those to compare with it. published:
    numbers of others. best_of: an axis of trials, of whose values the best on validation stands in the tables."""
    for key in plain:
        must_be_known("report key", str(key), ("asks", "best_of", "published"))
    if "best_of" in plain:
        must_be_known("axis in report.best_of", str(plain["best_of"]), list(axes))
    for asked in _list(plain, "asks"):
        pairs = asked.items() if isinstance(asked, dict) else [(asked, None)]
        for axis, values in pairs:
            must_be_known("axis in report.asks", str(axis), list(axes))
            if values is None:
                continue
            if not isinstance(values, list) or len(values) < 2:
                raise RecsysLabError(f"report.asks: {axis}: two or more values of it, [a, b], not {values!r}")
            for value in values:
                must_be_known(f"value in report.asks: {axis}", str(value), [one.label for one in axes[axis]])
    return plain


def settings_of(plain: Any, key: str, where: Path) -> Settings:
    """Dotted keys as they are meant: short names written out, `config` files found from the study's folder."""
    found: Settings = {}
    for name, value in plain.items():
        head, dot, rest = str(name).partition(".")
        if head in SHORT_NAMES:
            full = SHORT_NAMES[head]
            if full is None and name not in RUN_KEYS:
                raise RecsysLabError(
                    f"{key}: {name} can't be set here: the study names runs and folders, and `seeds` holds the seeds "
                    f"(of the run itself: {', '.join(RUN_KEYS)})"
                )
            name = f"{full}{dot}{rest}" if full is not None else name
        if name == "config":
            files = value if isinstance(value, list) else [value]
            found[name] = [str(_config_file(file, key, where)) for file in files]
        else:
            found[str(name)] = value
    return found


def _config_file(file: Any, key: str, where: Path) -> Path:
    path = where / str(file)
    if not path.is_file():
        raise RecsysLabError(f"{key}.config: there is no file {path} (paths are seen from the study file)")
    return path


def _axis(axis: str, values: Any, where: Path) -> list[AxisValue]:
    key = f"axes.{axis}"
    if isinstance(values, dict):
        found = [_named(key, label, one, where) for label, one in values.items()]
    elif isinstance(values, list):
        dotted = next(iter(settings_of({axis: None}, key, where)))
        found = [AxisValue(text_of(value), {dotted: value}) for value in values]
    else:
        raise RecsysLabError(f"{key}: must be a list of values, or a mapping of names to settings; got {values!r}")
    if not found:
        raise RecsysLabError(f"{key}: has no value")
    twice = [value.label for i, value in enumerate(found) if value.label in [v.label for v in found[:i]]]
    if twice:
        raise RecsysLabError(f"{key}: value {twice[0]} stands there twice")
    return found


def _named(key: str, label: Any, one: Any, where: Path) -> AxisValue:
    if one is None:
        one = {}
    if not isinstance(one, dict):
        raise RecsysLabError(f"{key}.{label}: must be a mapping of dotted keys to values, got {one!r}")
    seeds = _seeds(one["seeds"], f"{key}.{label}.seeds") if "seeds" in one else None
    plain = {name: value for name, value in one.items() if name != "seeds"}
    return AxisValue(text_of(label), settings_of(plain, f"{key}.{label}", where), seeds)


def _seeds(value: Any, key: str) -> tuple[int, ...]:
    """A list of seeds, or how many: 3 is 0, 1, 2."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return tuple(range(value))
    if not isinstance(value, list) or not value or any(isinstance(s, bool) or not isinstance(s, int) for s in value):
        raise RecsysLabError(f"{key}: must be a list of whole numbers, or how many; got {value!r}")
    if len(set(value)) < len(value):
        raise RecsysLabError(f"{key}: {value} holds a seed twice")
    beyond = [seed for seed in value if not 0 <= seed < 2**32]
    if beyond:
        raise RecsysLabError(f"{key}: a seed must be at least 0 and below {2**32:,}, not {beyond[0]}")
    return tuple(value)


def _condition(one: Any, axes: dict[str, list[AxisValue]], key: str) -> dict[str, list[str]]:
    """Axis -> labels, of variants that are meant: those that have one of the labels on each of the axes."""
    if not isinstance(one, dict) or not one:
        raise RecsysLabError(f"{key}: each entry must be a mapping of axes to values, got {one!r}")
    found = {}
    for axis, values in one.items():
        must_be_known(f"axis in {key}", str(axis), list(axes))
        labels = [text_of(value) for value in (values if isinstance(values, list) else [values])]
        for label in labels:
            must_be_known(f"value of {axis} in {key}", label, [value.label for value in axes[axis]])
        found[axis] = labels
    return found


def _adjustment(one: Any, axes: dict[str, list[AxisValue]], where: Path) -> tuple[dict[str, list[str]], AxisValue]:
    known = isinstance(one, dict) and "when" in one and {"when"} < set(one) <= {"when", "set", "seeds"}
    if not known or not isinstance(one.get("set", {}), dict):
        raise RecsysLabError(
            f"adjust: each entry must hold `when` (axes and values), and `set` (settings), `seeds` or both; got {one!r}"
        )
    seeds = _seeds(one["seeds"], "adjust.seeds") if "seeds" in one else None
    settings = settings_of(one.get("set", {}), "adjust", where)
    return _condition(one["when"], axes, "adjust"), AxisValue("", settings, seeds)


def matches(values: dict[str, str], condition: dict[str, list[str]]) -> bool:
    """Whether a variant with these axis values is meant by a condition of `exclude` or `adjust`."""
    return all(values[axis] in labels for axis, labels in condition.items())


def _metric(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("val/"):
        raise RecsysLabError(f"select: must be a validation metric such as val/ndcg@10, got {value!r}")
    return value


def _mapping(plain: dict[str, Any], key: str) -> dict[str, Any]:
    value = plain.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RecsysLabError(f"{key}: must be a mapping, got {value!r}")
    return value


def _list(plain: dict[str, Any], key: str) -> list[Any]:
    value = plain.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise RecsysLabError(f"{key}: must be a list, got {value!r}")
    return value


def must_be_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        listed = ", ".join(known) or "none"
        raise RecsysLabError(f"unknown {what} {name!r}.{did_you_mean(name, known)} Known: {listed}")


def text_of(value: Any) -> str:
    """How a value is written in labels: classes without their module path."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        return text_of(value["class_path"])
    if isinstance(value, str) and value.startswith("recsys_lab."):
        return value.rpartition(".")[2]
    if isinstance(value, list | tuple):
        return "+".join(map(text_of, value))
    return str(value)
