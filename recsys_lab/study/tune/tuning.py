"""The same search budget for everything that a study compares, told as trials end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recsys_lab.runs.messages import show_messages
from recsys_lab.study.launch.execute import terminated_as_interrupt
from recsys_lab.study.launch.local import Places, make_places
from recsys_lab.study.plan import Plan
from recsys_lab.study.plan.opened import refuse_other_data
from recsys_lab.study.plan.plan_text import duration
from recsys_lab.study.plan.variants import Resolver
from recsys_lab.study.tune.best import write_best, write_tuning
from recsys_lab.study.tune.journal import ClaimedTrial, Journal
from recsys_lab.study.tune.results import Trial, read_tuning
from recsys_lab.study.tune.searches import Search, make_searches
from recsys_lab.study.tune.tune_settings import read_settings
from recsys_lab.study.tune.tune_text import render, settings_text
from recsys_lab.study.tune.worker import Worker
from recsys_lab.words import RecsysLabError


class BrokenSearchError(RecsysLabError):
    """Some searches can't begin, since the study's own settings fail; the others are done."""

    exit_code = 1


def tune(
    plan: Plan,
    resolver: Resolver,
    trials: int | None = None,
    axes: Sequence[str] | None = None,
    places: Places | None = None,
) -> Path | None:
    """Searches with the same number of trials for each value of the compared axis, told as trials end.

    Args:
        resolver: of `open_study`.
        trials: of each search; None = the file's budget.
        axes: compared at an equal budget; None = the file's.
        places: where trials run; None = one per GPU, or per 4 cores.

    Returns:
        the study file of what was found; None where no search has found anything yet.

    Raises:
        BrokenSearchError: when the study's own settings fail; the other searches are done.
    """
    settings = read_settings(plan.study, trials, list(axes) if axes else None)
    searches = make_searches(plan.study, plan.variants, settings, resolver)
    refuse_other_data(plan)
    journal, places = Journal(plan.study.folder, settings), places or make_places()
    write_tuning(plan.study, settings, searches)
    print(
        f"{plan.study.name}: {len(searches)} searches, {settings.trials} trials each; {places.describe()}", flush=True
    )
    show_messages()
    resolver.prepare([search.start.settings for search in searches])
    progress = Progress(journal, settings.trials)
    worker = Worker(plan.study, searches, journal, settings.trials, places, resolver, progress.started, progress.ended)
    with terminated_as_interrupt():
        broken = worker.run()
    file = write_best(plan.study, settings, searches, resolver)
    print(tuned_text(plan), flush=True)
    if file is not None:
        root = "" if str(plan.study.folder.parent) == "runs" else f" --root {plan.study.folder.parent}"
        print(f"\nthe found settings are the study {file}: recsys-lab study run {file}{root}", flush=True)
    if broken:
        texts = [f"{label}: {text}" for label, text in broken.items()]
        raise BrokenSearchError(
            "trial 0, the study's own settings, failed; the same command tries it again:\n" + "\n".join(texts)
        )
    return file


def tuned_text(plan: Plan) -> str:
    """What the trials so far have found."""
    results = read_tuning(plan.study.folder)
    if results is None:
        raise RecsysLabError(f"{plan.study.folder}: was not tuned yet")
    return render(results)


class Progress:
    """A line for each trial that begins, and one when it ends."""

    def __init__(self, journal: Journal, budget: int) -> None:
        self.journal, self.budget = journal, budget

    def started(self, taken: ClaimedTrial) -> None:
        goes_on = " goes on" if taken.reported else ""
        print(f"{taken.search.label} trial {taken.number}{goes_on}: {settings_text(taken.settings)}", flush=True)

    def ended(self, search: Search, trial: Trial) -> None:
        value = "-" if trial.value is None else f"{trial.value:.4f}"
        ended = sum(one.state.is_finished() for one in self.journal.trials(search))
        why = f", {trial.error.splitlines()[-1]}" if trial.error else ""
        print(
            f"{search.label} trial {trial.number}: {trial.state}, {value} after {trial.epochs} epochs, "
            f"{duration(trial.seconds)}{why} ({ended} of {self.budget} trials)",
            flush=True,
        )
