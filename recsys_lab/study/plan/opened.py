"""What the study commands share: their options, and the plan of the study that they name."""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from typing import TYPE_CHECKING, Any

import yaml

from recsys_lab.cli.options import SEED, PlainParser
from recsys_lab.runs.messages import hush_lightning
from recsys_lab.study.plan import Plan, PlannedRun, make_plan, read_study
from recsys_lab.words import RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.cli.study.resolver import Resolver


def study_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options of every study command."""
    parser = PlainParser(prog=f"recsys-lab study {name}", allow_abbrev=False, description=description)
    parser.add_argument("file", help="study.yaml, or the folder that holds it")
    parser.add_argument("--root", default="runs", help="folder of all runs; results go to ROOT/<study> (default runs)")
    parser.add_argument("--data-dir", "--data_dir", help="where raw files and prepared sets lie (default: the study's)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting on top of every variant, such as --set trainer.max_epochs=5; other settings are other runs",
    )
    parser.add_argument(
        "--fast", action="store_true", help="smoke test: made data, one short epoch, one seed, ROOT/<study>-fast"
    )
    return parser


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Options that pick some of a study's runs."""
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="variants whose name matches, e.g. 'sasrec*'; repeatable"
    )
    parser.add_argument("--seeds", type=SEED, nargs="+", help="only these seeds of the study")
    parser.add_argument("--run", nargs="+", metavar="FOLDER", help="only these, as ROOT/<study> has them: v-1a2b/seed0")


def open_study(chosen: argparse.Namespace) -> tuple[Plan, Resolver]:
    """The plan of the study that the options name.

    Raises:
        RecsysLabError: for a study that can't be planned.
    """
    from recsys_lab.cli.study.resolver import Resolver  # imports torch: not for --help

    hush_lightning()
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # `class_path: my_package.MyEncoder` may lie beside the user
    overrides = dict(_pair(text) for text in chosen.set)
    if chosen.data_dir is not None:
        overrides["data.data_dir"] = chosen.data_dir
    study = read_study(chosen.file, chosen.root, chosen.fast, overrides)
    resolver = Resolver()
    return make_plan(study, resolver), resolver


def select(plan: Plan, chosen: argparse.Namespace) -> list[PlannedRun]:
    """Those runs of a plan that `--only` and `--seeds` pick.

    Raises:
        RecsysLabError: when that is none.
    """
    runs = plan.runs
    if chosen.only:
        runs = [run for run in runs if any(fnmatch.fnmatchcase(run.variant.label, p) for p in chosen.only)]
        if not runs:
            known = ", ".join(variant.label for variant in plan.variants[:20])
            raise RecsysLabError(f"no variant matches {' or '.join(map(repr, chosen.only))}. There are: {known}")
    if chosen.seeds:
        runs = [run for run in runs if run.seed in chosen.seeds]
        if not runs:
            raise RecsysLabError(f"no such seed in the study: {', '.join(map(str, chosen.seeds))}")
    if chosen.run:
        by_name = {str(run.folder.relative_to(plan.study.folder)): run for run in runs}
        if unknown := [name for name in chosen.run if name not in by_name]:
            raise RecsysLabError(f"--run {unknown[0]}: the study has no such run (any more); `study plan` shows them")
        runs = [by_name[name] for name in dict.fromkeys(chosen.run)]
    return runs


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
