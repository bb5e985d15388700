"""Which study, and which of its runs: what every command of a study is given, and the plan of it."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import yaml

from recsys_lab.arguments import Natural, Repeated, Seed
from recsys_lab.config import find_own_modules
from recsys_lab.runs.messages import hush_lightning
from recsys_lab.study.plan import Plan, PlannedRun, make_plan, read_study
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.words import RecsysLabError, did_you_mean, number_of


@dataclass(frozen=True)
class StudyAsked:
    """A study file and what is set on top of it.

    Args:
        file: study.yaml, or the folder that holds it.
        root: folder of all runs; results go to ROOT/<study>.
        data_dir: where raw files and prepared sets lie (default: the study's).
        set: KEY=VALUE, a setting on top of every variant, such as --set trainer.max_epochs=5; repeatable. Other
            settings are other runs.
        fast: smoke test: made data, one short epoch, one seed, ROOT/<study>-fast.
    """

    file: str
    root: str = "runs"
    data_dir: str | None = None
    set: Annotated[Sequence[str], Repeated] = ()
    fast: bool = False


@dataclass(frozen=True)
class Selection:
    """Some of a study's runs.

    Args:
        only: variants whose name matches, e.g. 'sasrec*'; repeatable.
        seeds: only these seeds of the study.
        index: only the runs of these numbers, which `study plan` shows: for tasks of a job array.
    """

    only: Annotated[Sequence[str], Repeated] = ()
    seeds: Sequence[Seed] = ()
    index: Sequence[Natural] = ()


def open_study(asked: StudyAsked, only_looks: bool = False) -> tuple[Plan, Resolver]:
    """The plan of a study.

    Args:
        only_looks: what was kept beside the study of its variants is believed, so that most often nothing is parsed.

    Raises:
        RecsysLabError: for a study that can't be planned.
    """
    hush_lightning()
    find_own_modules()
    overrides = dict(_pair(text) for text in asked.set or ())
    if asked.data_dir is not None:
        overrides["data.data_dir"] = asked.data_dir
    study = read_study(asked.file, asked.root, asked.fast, overrides)
    resolver = Resolver(study=study.file if only_looks and not study.overrides else None)
    return make_plan(study, resolver), resolver


def select(plan: Plan, chosen: Selection) -> list[PlannedRun]:
    """Those runs of a plan that are asked for.

    Raises:
        RecsysLabError: when that is none.
    """
    runs = plan.runs
    if chosen.index:
        if max(chosen.index) >= len(runs):
            raise RecsysLabError(
                f"--index {max(chosen.index)}: the study has {number_of(len(runs), 'run')}, numbered from 0"
            )
        runs = [runs[i] for i in dict.fromkeys(chosen.index)]
    if chosen.only:
        runs = [run for run in runs if any(fnmatch.fnmatchcase(run.variant.label, p) for p in chosen.only)]
        if not runs:
            raise RecsysLabError(_no_variant(plan, chosen.only))
    if chosen.seeds:
        there, runs = {run.seed for run in runs}, [run for run in runs if run.seed in chosen.seeds]
        if not runs:
            of_these = "the chosen runs have" if chosen.only or chosen.index else "the study has"
            asked, known = " ".join(map(str, chosen.seeds)), ", ".join(map(str, sorted(there)))
            more = "`seeds:` in the study file says how many there are"
            raise RecsysLabError(f"--seeds {asked}: {of_these} {known}; {more}")
    return runs


def _no_variant(plan: Plan, asked: Sequence[str]) -> str:
    """What to say of patterns that match nothing."""
    labels = [variant.label for variant in plan.variants]
    for pattern in asked:
        part = pattern.lower().strip("*")
        if part and (parts := [label for label in labels if part in label.lower()]):
            wider = f"*{part}*"
            meant = f" Did you mean --only {wider!r}? It matches {number_of(len(parts), 'variant')}."
            break
    else:
        meant = did_you_mean(asked[0], labels)
    more = f" and {len(labels) - 20} more, which `study plan` lists" if len(labels) > 20 else ""
    return f"no variant matches {' or '.join(map(repr, asked))}.{meant} There are: {', '.join(labels[:20])}{more}"


def refuse_other_data(plan: Plan) -> None:
    """Raises where results lie in the study's folder that were made on another version of the data."""
    if plan.refusals:
        more = f"\n... and {len(plan.refusals) - 5} more" if len(plan.refusals) > 5 else ""
        raise RecsysLabError(
            f"{plan.study.folder} holds results that can't be gone on with:\n" + "\n".join(plan.refusals[:5]) + more
        )


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecsysLabError(f"--set {text}: write KEY=VALUE, e.g. --set trainer.max_epochs=5")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecsysLabError(f"--set {text}: {value!r} is no value: {error}") from error
