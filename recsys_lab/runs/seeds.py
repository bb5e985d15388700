"""Which runs are seeds of one system: those that are equal in everything but the seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import yaml

import recsys_lab
from recsys_lab.config import hash_of, named_today, read_yaml
from recsys_lab.runs.finished import Run

NOT_OF_THE_RESULT = {
    "data": ("data_dir", "num_workers"),
    "trainer": (
        "enable_progress_bar",
        "enable_model_summary",
        "logger",
        "default_root_dir",
        "profiler",
        "log_every_n_steps",
        "enable_autolog_hparams",
        "model_registry",
        "callbacks",
    ),
}
"""Where things lie and what is shown, in config.yaml."""
NAMED = 2
"""Settings that tell two systems of one variant apart, named behind the variant."""


@dataclass(frozen=True)
class System:
    """One row of a comparison. runs: its seeds, each seed once."""

    name: str
    runs: list[Run]


def find_systems(runs: Sequence[Run]) -> tuple[list[System], list[str]]:
    """The systems among `runs`, in the order of their first runs, and what is to be known of them, one line each.

    Runs of one study, variant, model and loss are seeds of one system when their settings and the version of the
    numbers are equal. Where they are not, each system is named by what tells it from the others.
    """
    named: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        key = (
            run.variant,
            *(str(run.manifest.get(name)) for name in ("study", "model", "loss")),
            str(run.is_retrained),
        )
        named.setdefault(key, []).append(run)
    systems, notes = [], []
    for (variant, *_), of_name in named.items():
        groups = _by_settings(of_name) if len(of_name) > 1 else [of_name]
        names, note = _apart(variant, groups)
        notes += note
        for name, group in zip(names, groups, strict=True):
            kept, twice = _each_once(group)
            systems.append(System(name, kept))
            notes += [
                f"WARNING: {name} holds seed {seed} more than once: {run.folder} is left out" for seed, run in twice
            ]
    return systems, notes


def numbers_version(manifest: dict[str, Any]) -> int:
    """Of the code: raised whenever the same seed gives other numbers. Older manifests don't have it."""
    return int(manifest.get("numbers_version") or 1)


def current_numbers() -> int:
    return recsys_lab.NUMBERS


def system_hash(run: Run) -> str:
    """Of all that makes the system but the seed; of a run of an older version, of what its files say of that."""
    known, system = run.manifest.get("system_hash"), run.manifest.get("system")
    if known and isinstance(system, dict):  # a run of before hashed the class names of its time
        known = hash_of(named_today(system))
    if run.manifest.get("trained_on"):  # the same weights, where they are tested on what they were not trained for
        return sha256(json.dumps([known, settings_of(run)], default=str).encode()).hexdigest()[:16]
    return str(known) if known else sha256(json.dumps(settings_of(run), default=str).encode()).hexdigest()[:16]


def settings_of(run: Run) -> dict[str, Any]:
    """Dotted key -> value: model, data, training and evaluation of a run, and the version of the numbers."""
    found: dict[str, Any] = {"numbers_version": numbers_version(run.manifest)}
    if isinstance(run.manifest.get("trained_on"), dict):
        found["trained_on"] = run.manifest["trained_on"].get("description")
    if isinstance(run.manifest.get("system"), dict):
        return found | {
            key: value for name, of in run.manifest["system"].items() for key, value in _flat(name, of).items()
        }
    try:
        config = read_yaml((run.folder / "config.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError):
        config = {}
    config = config if isinstance(config, dict) else {}
    found |= _flat("model", run.manifest.get("model_config"))
    for section, hidden in NOT_OF_THE_RESULT.items():
        of_section = config.get(section)
        if isinstance(of_section, dict):
            found |= _flat(section, {name: value for name, value in of_section.items() if name not in hidden})
    found |= _flat("early_stopping", config.get("early_stopping"))
    found |= _flat("evaluation", run.evaluation)
    return dict(sorted(found.items()))


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: leaf for part, of in value.items() for key, leaf in _flat(f"{name}.{part}", of).items()}
    return {name.replace(".init_args", ""): value}


def _by_settings(runs: list[Run]) -> list[list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(system_hash(run), []).append(run)
    return list(found.values())


def _apart(variant: str, groups: list[list[Run]]) -> tuple[list[str], list[str]]:
    """Names of the systems of one variant, and a note where there is more than one."""
    if len(groups) == 1:
        return [variant], []
    settings = [settings_of(group[0]) for group in groups]
    keys = [
        key
        for key in dict.fromkeys(key for of in settings for key in of)
        if len({str(of.get(key)) for of in settings}) > 1
    ]
    keys.sort(key=lambda key: key.endswith("_hash"))  # last: what a person reads says more
    names = []
    for number, of in enumerate(settings, 1):
        shown = [f"{key.rpartition('.')[2]}={_told(of.get(key))}" for key in keys[:NAMED]]
        names.append(f"{variant} ({', '.join(shown) or number})")
    if len(set(names)) < len(names):
        names = [f"{variant} ({number})" for number in range(1, len(groups) + 1)]
    differing = "; ".join(f"{key}: {', '.join(_told(of.get(key)) for of in settings)}" for key in keys[:6])
    more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
    what = differing + more or "what their manifests call system_hash"
    return names, [
        f"WARNING: {variant} is {len(groups)} systems: rows of their own, no seeds of each other; they differ in {what}"
    ]


def _told(value: Any) -> str:
    """A setting as it is typed: of fields and of classes their names."""
    if isinstance(value, list):
        return f"[{', '.join(_told(one) for one in value)}]"
    if isinstance(value, dict) and {"name", "scope"} <= set(value):
        return f"{'' if value['scope'] == 'event' else value['scope'] + '.'}{value['name']}"
    if isinstance(value, dict) and "class_path" in value:
        arguments = ", ".join(f"{name}={_told(of)}" for name, of in (value.get("init_args") or {}).items())
        return str(value["class_path"]).rpartition(".")[2] + (f"({arguments})" if arguments else "")
    return str(value)


def _each_once(runs: list[Run]) -> tuple[list[Run], list[tuple[int, Run]]]:
    """The first run of each seed, and the others: equal draws would make the variance over seeds too small."""
    kept: dict[Any, Run] = {}
    twice = []
    for place, run in enumerate(runs):
        seed = run.manifest.get("seed")
        if seed is not None and seed in kept:
            twice.append((int(seed), run))
        else:
            kept[seed if seed is not None else ("unknown", place)] = run
    return list(kept.values()), twice
