"""Keeps the values of finished runs beside the study file, and the identities of its variants, to be committed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recsys_lab.runs.finished import UnreadableRunError
from recsys_lab.runs.seeds import current_numbers, numbers_version
from recsys_lab.study.plan.planned import PlannedRun
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.plan.study_file import Study
from recsys_lab.study.values import FOLDER, values_file, write_values


def keeps_values(study: Study) -> bool:
    """A study with a folder of values keeps those of each run as it ends."""
    return (study.file.parent / FOLDER).is_dir() and not study.fast


def keep_identities(study: Study, resolver: Resolver) -> None:
    """Writes `values/identities.json`, for a study that keeps values and is planned as its file says."""
    if keeps_values(study) and not study.overrides:
        resolver.keep_beside(study.file)


def keep_values(study: Study, runs: Iterable[PlannedRun]) -> list[Path]:
    """Writes `values/<variant>-seed<k>.parquet` for each run whose folder is finished; one that can't be read, or that
    code with other numbers made, is passed over.

    Returns:
        what was written.
    """
    written = []
    for planned in runs:
        if planned.kept is not None:
            continue
        try:
            run = planned.read()
        except UnreadableRunError:
            continue
        if numbers_version(run.manifest) == current_numbers():
            file = values_file(study.file, planned.variant.label, planned.seed)
            write_values(run, file, study.select, planned.variant.identity, planned.seed)
            written.append(file)
    return written
