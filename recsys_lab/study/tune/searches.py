"""The searches of a study: one for each value of the compared axis, or for each variant, at the same budget."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recsys_lab.runs.finished import TRIALS
from recsys_lab.study.plan.planned import PlannedRun
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.plan.study_file import Settings, Study
from recsys_lab.study.plan.variants import LONGEST_LABEL, Variant
from recsys_lab.study.tune.space import Space, extremes, own_values
from recsys_lab.study.tune.tune_settings import TuneSettings
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class Search:
    """One search for good settings.

    label: unique, and a file name.
    values: compared axis -> label of its value; empty for an explicit variant.
    start: the variant whose settings the trials start from; trial 0 is this one as it stands.
    variants: all that the found settings are for: those with the same values of the compared axes.
    space: may be empty (models that only count): trial 0 is then all.
    own: what trial 0 is in Optuna's journal: the study's own settings, as far as the space holds them.
    mode: max or min, of the selecting metric.
    identity: hash of all that decides how the search goes, except for its budget.
    folder: of its trials.
    """

    label: str
    values: dict[str, str]
    start: Variant
    variants: tuple[Variant, ...]
    space: Space
    own: dict[str, Any]
    mode: str
    identity: str
    folder: Path

    @property
    def seed(self) -> int:
        """Of every trial."""
        return self.start.seeds[0]

    def trial_folder(self, number: int) -> Path:
        return self.folder / f"trial{number}"


def make_searches(
    study: Study, variants: Sequence[Variant], settings: TuneSettings, resolver: Resolver
) -> list[Search]:
    """All searches of a study over its variants, with every key and every end of their spaces checked.

    Raises:
        RecsysLabError: for a key that a variant does not have, a value that it does not take, an axis that is searched
            as well; names the key.
    """
    groups: dict[str, list[Variant]] = {}
    for variant in (variant for variant in variants if variant.seeds):
        if variant.begins_with:
            raise RecsysLabError(
                f"{study.file}: variant {variant.label} begins with the weights of another one (warm_start), and a "
                "search makes models of its own settings: leave it out with --only, or tune without warm_start"
            )
        groups.setdefault(_label(variant, settings.axis), []).append(variant)
    known = {name for label, members in groups.items() for name in (label, *members[0].values.values())}
    if unknown := [name for name in settings.spaces if name not in known]:
        names = ", ".join(sorted(known)[:20])
        raise RecsysLabError(
            f"{study.file}: tune.spaces.{unknown[0]}: nothing that is compared has this name; known: {names}"
        )
    searches = []
    for label, members in groups.items():
        start = members[0]
        values = {axis: value for axis, value in start.values.items() if not settings.axis or axis in settings.axis}
        space = _space(settings, start, label)
        mode = str((start.settings.get("checkpoint") or {}).get("mode", "max"))
        identity = _identity(study, settings, start, space, mode)
        folder = study.folder / TRIALS / f"{label}-{identity[:8]}"
        own = own_values(space, resolver.resolved(start.settings))
        searches.append(Search(label, values, start, tuple(members), space, own, mode, identity, folder))
    _axes_stay(study, searches)
    _check_spaces(study, searches, resolver)
    return searches


def _label(variant: Variant, axes: tuple[str, ...]) -> str:
    if not axes or not variant.values:
        return variant.label
    texts = [
        f"{axis.rpartition('.')[2]}={variant.values[axis]}" if "." in axis else variant.values[axis] for axis in axes
    ]
    return re.sub(r"[^A-Za-z0-9.=+,@-]+", "_", "_".join(texts))[:LONGEST_LABEL].strip(".")


def _space(settings: TuneSettings, start: Variant, label: str) -> Space:
    merged = dict(settings.space)
    for name, more in settings.spaces.items():
        if name == label or name in start.values.values():
            merged |= more
    return {key: one for key, one in merged.items() if one is not None}


def _identity(study: Study, settings: TuneSettings, start: Variant, space: Space, mode: str) -> str:
    facts = {
        "variant": start.identity,
        "space": space,
        "select": [study.select, mode],
        "search": [settings.sampler, settings.seed, settings.pruner, settings.pruner_options],
        "seed": start.seeds[0],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _axes_stay(study: Study, searches: list[Search]) -> None:
    """What is compared, or varied beside the search, can't be searched: its values would become alike."""
    searched = {key for search in searches for key in search.space}
    for axis, values in study.axes.items():
        if axis in searches[0].values:  # compared: each value may start its search from a setting of its own
            bad = all(set(value.settings) <= searched for value in values)
        else:
            bad = any(set(value.settings) & searched for value in values)
        if bad:
            key = sorted({key for value in values for key in value.settings} & searched)[0]
            raise RecsysLabError(
                f"{study.file}: tune.space.{key}: is what the axis {axis} varies; it can't be searched as well"
            )


def _check_spaces(study: Study, searches: list[Search], resolver: Resolver) -> None:
    """Every end of every range and every choice, one key at a time."""
    problems: dict[str, str] = {}  # the first of each key
    for search in searches:
        for key, value in ((key, value) for key, one in search.space.items() for value in extremes(one)):
            try:
                config = resolver.compose([{key: value}], search.start.settings)
                error = resolver.check([config])[0].error
            except RecsysLabError as refused:
                error = str(refused)
            if error:
                problems.setdefault(key, f"tune.space.{key}: {value!r} for {search.label}: {error}")
    if problems:
        hint = (
            "\nA key for some of the compared only: put it into tune.spaces.<their name>, or take it out there (null)"
        )
        raise RecsysLabError(f"{study.file}: " + "\n".join(problems.values()) + (hint if len(searches) > 1 else ""))


def trial_config(study: Study, search: Search, number: int, settings: Settings, resolver: Resolver) -> dict[str, Any]:
    """What `recsys-lab fit --config` is given for a trial: no test, no second training."""
    composed = resolver.compose([settings], search.start.settings)
    variant = replace(search.start, label=f"{search.label}-trial{number}", settings=composed)
    config = PlannedRun(study.name, variant, search.seed, search.trial_folder(number), "missing").config
    config["run"] |= {"test_after_fit": False, "retrain": False}
    return config


def measured(settings: dict[str, Any]) -> str:
    """Of a run configuration: equal for two whose validation metrics mean the same."""
    data = settings.get("data") or {}
    facts = [data.get(name) for name in ("dataset", "prepare", "split", "exclude_seen")]
    return json.dumps([*facts, settings.get("evaluation")], sort_keys=True, default=str)


def describe(search: Search) -> dict[str, Any]:
    """For tuning.json."""
    return {
        "label": search.label,
        "values": search.values,
        "variants": [variant.label for variant in search.variants],
        "folder": search.folder.name,
        "mode": search.mode,
        "seed": search.seed,
        "measured": measured(search.start.settings),
        "space": search.space,
    }
