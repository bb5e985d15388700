"""What was found, as a study of its own: `<study>/tune/best.yaml`, which every study command takes.

<study>/tune/best/<variant>.yaml   the resolved settings of each variant, also for `recsys-lab fit --config`
<root>/<study>-tuned/              its runs
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from recsys_lab.runs.finished import TRIALS
from recsys_lab.runs.run_files import write_json
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.plan.study_file import Study
from recsys_lab.study.plan.variants import Variant
from recsys_lab.study.tune.results import TUNING_FILE, read_tuning
from recsys_lab.study.tune.searches import Search, describe
from recsys_lab.study.tune.tune_settings import TuneSettings
from recsys_lab.study.tune.tune_text import settings_text


def write_tuning(study: Study, settings: TuneSettings, searches: Sequence[Search]) -> None:
    """tuning.json: which searches there are."""
    plain = {
        "study": study.name,
        "select": study.select,
        "axes": list(settings.axis),
        "budget": {"trials": settings.trials},
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "seed": settings.seed,
        "searches": [describe(search) for search in searches],
    }
    (study.folder / TRIALS).mkdir(parents=True, exist_ok=True)
    write_json(study.folder / TRIALS / TUNING_FILE, plain)


def write_best(study: Study, settings: TuneSettings, searches: Sequence[Search], resolver: Resolver) -> Path | None:
    """Writes best.yaml with what the trials so far have found.

    Returns:
        the file; None when no search has a complete trial.
    """
    results = read_tuning(study.folder)
    found = {result.label: result.best for result in results.searches} if results is not None else {}
    place = study.folder / TRIALS
    variants: list[tuple[Variant, str]] = []
    shutil.rmtree(place / "best", ignore_errors=True)
    (place / "best").mkdir()
    for search in searches:
        best = found.get(search.label)
        if best is None:
            continue
        why = f"{search.label} trial {best.number}: {study.select} {best.value:.4f} with {settings_text(best.settings)}"
        for variant in search.variants:
            config = resolver.compose([best.settings], variant.settings)
            path = place / "best" / f"{variant.label}.yaml"
            path.write_text(f"# {why}\n" + yaml.safe_dump(config, sort_keys=False))
            variants.append((variant, f"best/{path.name}"))
    if not variants:
        return None
    file = place / "best.yaml"
    by = f"{settings.trials} trials each"
    head = f"# Written by `recsys-lab study tune {study.file}` ({by}): the best by {study.select} of each search.\n"
    file.write_text(head + yaml.safe_dump(_study(study, variants), sort_keys=False))
    return file


def _study(study: Study, variants: list[tuple[Variant, str]]) -> dict[str, Any]:
    """The study with each variant's settings in a file: the same axes, so the same labels and effects."""
    plain: dict[str, Any] = {"name": f"{study.name}-tuned", "question": study.question}
    grid = [(variant, path) for variant, path in variants if variant.values]
    if grid:
        plain["axes"] = {
            axis: {value.label: _seeds(value.seeds, study) for value in values} for axis, values in study.axes.items()
        }
        there = [variant.values for variant, _ in grid]
        every = [dict(zip(study.axes, one, strict=True)) for one in product(*_labels(study))]
        plain["exclude"] = [values for values in every if values not in there]
        plain["adjust"] = [{"when": variant.values, "set": {"config": path}} for variant, path in grid]
    plain["variants"] = {
        variant.label: {"config": path, **_seeds(variant.seeds, study)}
        for variant, path in variants
        if not variant.values
    }
    plain |= {"seeds": list(study.seeds), "select": study.select, "report": study.report}
    return {name: section for name, section in plain.items() if section not in ("", [], {})}


def _labels(study: Study) -> list[list[str]]:
    return [[value.label for value in values] for values in study.axes.values()]


def _seeds(seeds: tuple[int, ...] | None, study: Study) -> dict[str, Any]:
    if seeds is None or seeds == study.seeds:
        return {}
    return {"seeds": list(seeds[:1] if study.fast else seeds)}
