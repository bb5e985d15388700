"""The variants of a study: the grid of its axes less the exclusions, and the explicit ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from recsys_lab.study.plan.beginnings import link, other_variant
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.plan.study_file import AxisValue, Settings, Study, matches
from recsys_lab.words import LOWER_IS_BETTER, RecsysLabError

LONGEST_LABEL = 120
"""Of file names, in characters: file systems take 255, and the identity follows."""


@dataclass(frozen=True)
class Variant:
    """One thing that a study compares.

    label: unique in the study, and a file name.
    values: axis -> label of its value; empty for an explicit variant.
    settings: nested run configuration, without the seed and the run folder.
    identity: hash of the resolved configuration without the seed and without what equals its default.
    seeds: that it is trained with.
    begins_with: identity of the variant whose run of the same seed its own begins with; empty for most.
    """

    label: str
    values: dict[str, str]
    settings: dict[str, Any]
    identity: str
    seeds: tuple[int, ...]
    begins_with: str = ""

    @property
    def folder_name(self) -> str:
        return f"{self.label}-{self.identity[:8]}"


def make_variants(study: Study, resolver: Resolver) -> list[Variant]:
    """All variants of a study, checked.

    Raises:
        RecsysLabError: for a key that does not exist, a value of the wrong type, two variants with the same resolved
            configuration; names the variant and the key.
    """
    selecting = {"early_stopping.monitor": study.select, "checkpoint.monitor": study.select}
    common: list[Settings] = [selecting, _mode(study), study.base]
    chosen = [*_grid(study), *[({}, [value]) for value in study.variants]]
    if not study.axes and not study.variants:
        chosen = [({}, [AxisValue("base", {})])]
    if not chosen:
        raise RecsysLabError(f"{study.file}: every variant is excluded")
    try:
        base = resolver.compose(common)
    except RecsysLabError as error:
        raise RecsysLabError(f"{study.file}: base: {error}") from error
    problems: dict[str, str] = {}  # text -> the first variant that has it
    found: list[Variant] = []
    begins: list[dict[str, str]] = []
    for values, parts in chosen:
        label = _label(values, parts)
        try:
            parts = [*parts, *[adjusted for when, adjusted in study.adjust if values and matches(values, when)]]
            layers = [*[part.settings for part in parts], study.overrides]
            settings = resolver.compose(layers, base)
            begins.append(other_variant(settings, study.axes))
            found.append(Variant(label, values, settings, "", _seeds(study, parts)))
        except RecsysLabError as error:
            problems.setdefault(str(error), label)
    _raise(study.file, problems)
    for variant, checked in zip(found, resolver.check([variant.settings for variant in found]), strict=True):
        if checked.error:
            problems.setdefault(checked.error, variant.label)
        object.__setattr__(variant, "identity", checked.identity)
    _raise(study.file, problems)
    link(study.file, found, begins)
    found = _unique_labels(_distinct(study, found))
    return _covering(found) if study.fast else found


def prefers_low(select: str) -> bool:
    """Whether less of the metric by which a study selects is better."""
    name = select.rpartition("/")[2]
    return name in LOWER_IS_BETTER or "loss" in name or "rank" in name


def _mode(study: Study) -> Settings:
    better = "min" if prefers_low(study.select) else "max"
    return {"early_stopping.mode": better, "checkpoint.mode": better}


def _grid(study: Study) -> list[tuple[dict[str, str], list[AxisValue]]]:
    if not study.axes:
        return []
    found = []
    for parts in product(*study.axes.values()):
        values = {axis: part.label for axis, part in zip(study.axes, parts, strict=True)}
        if not any(matches(values, one) for one in study.exclude):
            found.append((values, list(parts)))
    return found


def _seeds(study: Study, parts: list[AxisValue]) -> tuple[int, ...]:
    """Those of the study, less what a value is limited to. A value may also ask for seeds that the study has not."""
    limits = [part.seeds for part in parts if part.seeds is not None]
    seeds = [seed for seed in limits[0] if all(seed in other for other in limits)] if limits else list(study.seeds)
    return tuple(seeds[:1] if study.fast else seeds)


def _label(values: dict[str, str], parts: list[AxisValue]) -> str:
    texts = [part.label for part in parts]
    for i, axis in enumerate(values):
        is_plain = "." in axis and not re.search(r"[A-Za-z]", texts[i].replace("true", "").replace("none", ""))
        if is_plain or texts[i] in ("true", "false", "none"):  # a number alone says nothing
            texts[i] = f"{axis.rpartition('.')[2]}={texts[i]}"
    return re.sub(r"[^A-Za-z0-9.=+,@-]+", "_", "_".join(texts))[:LONGEST_LABEL].strip(".") or "variant"


def _distinct(study: Study, variants: list[Variant]) -> list[Variant]:
    """Refuses two variants with one resolved configuration; the smoke test makes some alike and keeps the first."""
    seen: dict[str, Variant] = {}
    for variant in variants:
        first = seen.setdefault(variant.identity, variant)
        if first is not variant and not study.fast:
            raise RecsysLabError(
                f"{study.file}: the variants {first.label} and {variant.label} have the same resolved configuration; "
                "leave one out (exclude), or check that their settings differ from each other"
            )
    return list(seen.values())


def _covering(variants: list[Variant]) -> list[Variant]:
    """Few variants that hold every value of every axis, and all explicit ones: what a smoke test runs."""
    wanted = {pair for variant in variants for pair in variant.values.items()}
    chosen = [variant for variant in variants if not variant.values]
    while wanted:
        best = max(variants, key=lambda variant: len(wanted & variant.values.items()))
        chosen.append(best)
        wanted -= set(best.values.items())
    by_identity, last = {variant.identity: variant for variant in variants}, list(chosen)
    while last:  # and what they begin with
        last = [by_identity[one.begins_with] for one in last if one.begins_with]
        chosen += [one for one in last if one not in chosen]
    return chosen


def _unique_labels(variants: list[Variant]) -> list[Variant]:
    count: dict[str, int] = {}
    for variant in variants:
        count[variant.label] = count.get(variant.label, 0) + 1
    return [
        replace(variant, label=f"{variant.label}+{variant.identity[:4]}") if count[variant.label] > 1 else variant
        for variant in variants
    ]


def _raise(file: Path, problems: dict[str, str]) -> None:
    if problems:
        raise RecsysLabError(f"{file}: " + "\n".join(f"variant {label}: {text}" for text, label in problems.items()))
