"""Variants whose runs begin with the weights of another variant's: `warm_start: {day: 1}` in a study file names the
variant with the same values on all other axes. Its run of the same seed comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lab.study.plan.study_file import must_be_known, text_of
from recsys_lab.words import RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.study.plan.planned import PlannedRun
    from recsys_lab.study.plan.variants import Variant

KEY = "warm_start"


def other_variant(settings: dict[str, Any], axes: Mapping[str, Any]) -> dict[str, str]:
    """Axis -> label of what `settings` name as `warm_start`, which is taken out of them; empty where they name none, or
    a run of its own by its path.

    Raises:
        RecsysLabError: for an axis that the study has not.
    """
    named = settings.get(KEY)
    if not isinstance(named, dict):
        return {}
    settings.pop(KEY)
    for axis in named:
        must_be_known(f"axis in {KEY}", str(axis), list(axes))
    return {str(axis): text_of(label) for axis, label in named.items()}


def link(file: Path, variants: Sequence[Variant], begins: Sequence[Mapping[str, str]]) -> None:
    """Gives each variant that begins with another one that one's identity, and an identity of its own for it.

    Args:
        file: of the study.
        begins: for each variant, what `other_variant` found.

    Raises:
        RecsysLabError: where there is no such variant, where it lacks a seed, or where variants begin with each other.
    """
    by_values = {frozenset(one.values.items()): place for place, one in enumerate(variants)}
    linked: dict[int, str] = {}

    def identity(place: int, before: tuple[int, ...] = ()) -> str:
        variant, other = variants[place], begins[place]
        if not other or place in linked:
            return linked.get(place, variant.identity)
        wanted = {**variant.values, **other}
        found = by_values.get(frozenset(wanted.items()))
        problem = ""
        if found is None:
            problem = f"there is no variant {', '.join(f'{axis} {label}' for axis, label in wanted.items())}"
        elif found in (*before, place):
            problem = "variants begin with each other in a circle"
        elif set(variant.seeds) - set(variants[found].seeds):
            problem = f"{variants[found].label} is not trained with each of its seeds"
        if found is None or problem:
            raise RecsysLabError(f"{file}: variant {variant.label}: {KEY}: {problem}")
        first = identity(found, (*before, place))
        linked[place] = sha256(f"{variant.identity}\n{first}".encode()).hexdigest()
        object.__setattr__(variant, "begins_with", first)
        object.__setattr__(variant, "identity", linked[place])
        return linked[place]

    for place in range(len(variants)):
        identity(place)


def in_order(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """`runs`, each behind the one that it begins with."""
    by_folder = {run.folder: run for run in runs}
    found: dict[Path, PlannedRun] = {}

    def add(run: PlannedRun) -> None:
        if run.begins_with in by_folder and run.begins_with not in found:
            add(by_folder[run.begins_with])
        found.setdefault(run.folder, run)

    for run in runs:
        add(run)
    return list(found.values())


def with_beginnings(runs: Sequence[PlannedRun], every: Sequence[PlannedRun]) -> list[PlannedRun]:
    """`runs`, and those of `every` that they begin with whose checkpoints are not here: they are trained once more."""
    by_folder, needed = {run.folder: run for run in every}, list(runs)
    for run in needed:  # grows
        first = by_folder.get(run.begins_with) if run.begins_with is not None else None
        if first is not None and first not in needed and not (first.folder / "checkpoints" / "best.ckpt").is_file():
            needed.append(first)
    return in_order(needed)
