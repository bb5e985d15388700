"""The same search budget for everything that a study compares, told as trials end."""

from __future__ import annotations

from pathlib import Path

from recsys_lab.report.escapes import as_json
from recsys_lab.report.terminal import terminal_width
from recsys_lab.runs.messages import show_messages
from recsys_lab.study.launch.execute import terminated_as_interrupt
from recsys_lab.study.launch.local import Places, make_places
from recsys_lab.study.plan import Plan
from recsys_lab.study.plan.opened import refuse_other_data
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.tune.best import write_best, write_tuning
from recsys_lab.study.tune.journal import Journal
from recsys_lab.study.tune.results import read_tuning
from recsys_lab.study.tune.searches import make_searches
from recsys_lab.study.tune.tune_settings import read_settings
from recsys_lab.study.tune.tune_text import render, tuning_record
from recsys_lab.study.tune.worker import Worker
from recsys_lab.words import RecsysLabError, number_of


class BrokenSearchError(RecsysLabError):
    """Some searches can't begin, since the study's own settings fail; the others are done."""

    exit_code = 1


def tune(plan: Plan, resolver: Resolver, trials: int | None = None, places: Places | None = None) -> Path | None:
    """Searches with the same number of trials for each value of the compared axis, told as trials end.

    Args:
        resolver: of `open_study`.
        trials: of each search; None = the file's budget.
        places: where trials run; None = one per GPU, or per 4 cores.

    Returns:
        the study file of what was found; None where no search has found anything yet.

    Raises:
        BrokenSearchError: when the study's own settings fail; the other searches are done.
    """
    study, settings = plan.study, read_settings(plan.study, trials)
    searches = make_searches(study, plan.variants, settings, resolver)
    refuse_other_data(plan)
    journal, places = Journal(study.folder, settings), places or make_places()
    write_tuning(study, settings, searches)
    print(
        f"{study.name}: {number_of(len(searches), 'search', 'searches')}, {number_of(settings.trials, 'trial')} each; "
        f"{places.describe()}",
        flush=True,
    )
    show_messages()
    resolver.prepare([search.start.settings for search in searches])
    with terminated_as_interrupt():
        broken = Worker(study, searches, journal, settings.trials, places, resolver).run()
    file = write_best(study, settings, searches, resolver)
    print(tuned_text(plan), flush=True)
    if file is not None:
        root = "" if str(study.root) == "runs" else f" --root {study.root}"
        print(f"\nthe found settings are the study {file}: recsys-lab study run {file}{root}", flush=True)
    if broken:
        texts = [f"{label}: {text}" for label, text in broken.items()]
        raise BrokenSearchError(
            "trial 0, the study's own settings, failed; the same command tries it again:\n" + "\n".join(texts)
        )
    return file


def tuned_text(plan: Plan, json: bool = False) -> str:
    """What the trials so far have found. json: for programs, with each trial."""
    results = read_tuning(plan.study.folder)
    if results is None:
        raise RecsysLabError(f"{plan.study.folder}: was not tuned yet")
    return as_json(tuning_record(results)) if json else render(results, terminal_width())
