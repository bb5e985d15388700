"""`recsys-lab study tune FILE`: the same search budget for everything that a study compares."""

from __future__ import annotations

import os
import time

from recsys_lab.cli.study.opened import open_study, refuse_other_data, study_parser
from recsys_lab.cli.study.run import run as run_study
from recsys_lab.cli.study.run import terminated_as_interrupt
from recsys_lab.runs.messages import show_messages
from recsys_lab.study.launch.local import make_places
from recsys_lab.study.plan.plan_text import duration
from recsys_lab.study.tune.best import write_best, write_tuning
from recsys_lab.study.tune.journal import Journal, Taken
from recsys_lab.study.tune.results import read_tuning
from recsys_lab.study.tune.searches import Search, make_searches
from recsys_lab.study.tune.trial_record import TrialRecord
from recsys_lab.study.tune.tune_settings import TuneSettings, read_settings
from recsys_lab.study.tune.tune_text import render, settings_text
from recsys_lab.study.tune.worker import Worker
from recsys_lab.words import RecsysLabError


class BrokenSearchError(RecsysLabError):
    """Some searches can't begin, since the study's own settings fail; the others are done."""

    exit_code = 1


def run(arguments: list[str]) -> None:
    parser = study_parser(
        "tune",
        "Searches good settings for each value of the compared axis (or each variant) with the same number of trials. "
        "Trial 0 is the study's own settings; trials are compared by the validation metric and never "
        "tested. The same command goes on with what was interrupted, or with a larger budget, and may be started more "
        "than once, also on other machines that see the folder: all share the trials. What was found is written to "
        "ROOT/<study>/tune/best.yaml, a study file that every study command takes.",
    )
    parser.add_argument("--axis", action="append", help="compared at an equal budget (default: the file's); repeatable")
    parser.add_argument("--trials", type=int, help="of each search, instead of the file's budget")
    parser.add_argument("--workers", type=int, help="trials at a time (default: one per GPU, or per 4 cores)")
    parser.add_argument("--threads", type=int, help="of each trial (default: the cores shared out)")
    parser.add_argument(
        "--gpus-per-run", type=int, default=1, help="of each trial, for trainer.devices above 1 (default 1)"
    )
    parser.add_argument(
        "--final", action="store_true", help="then run what was found over the study's seeds, with the test"
    )
    parser.add_argument("--show", action="store_true", help="only print what the trials so far have found")
    chosen = parser.parse_args(arguments[1:])
    plan, resolver = open_study(chosen)
    settings = read_settings(plan.study, chosen.trials, chosen.axis)
    searches = make_searches(plan.study, plan.variants, settings, resolver)
    if not chosen.show:
        refuse_other_data(plan)
        journal = Journal(plan.study.folder, settings)
        places = make_places(chosen.workers, chosen.threads, chosen.gpus_per_run)
        write_tuning(plan.study, settings, searches)
        print(
            f"{plan.study.name}: {len(searches)} searches, {settings.trials} trials each; {places.describe()}",
            flush=True,
        )
        show_messages()
        resolver.prepare([search.start.settings for search in searches])
        progress = Progress(searches, settings, journal)
        worker = Worker(
            plan.study, searches, journal, settings.trials, places, resolver, progress.started, progress.ended
        )
        with terminated_as_interrupt():
            broken = worker.run()
        file = write_best(plan.study, settings, searches, resolver)
    show(plan.study.folder)
    if chosen.show:
        return
    if file is not None:
        root = "" if chosen.root == "runs" else f" --root {chosen.root}"
        print(f"\nthe found settings are the study {file}: recsys-lab study run {file}{root}", flush=True)
    if broken:
        texts = [f"{label}: {text}" for label, text in broken.items()]
        raise BrokenSearchError(
            "trial 0, the study's own settings, failed; the same command tries it again:\n" + "\n".join(texts)
        )
    if chosen.final and file is not None:
        options = {"--root": chosen.root, "--workers": chosen.workers, "--threads": chosen.threads}
        options["--gpus-per-run"] = chosen.gpus_per_run
        run_study(["run", str(file), *(text for k, v in options.items() if v is not None for text in (k, str(v)))])
        show(plan.study.folder)


def show(folder: os.PathLike[str]) -> None:
    results = read_tuning(str(folder))
    if results is None:
        raise RecsysLabError(f"{folder}: was not tuned yet")
    print(render(results), flush=True)


class Progress:
    """A line for each trial that ends."""

    def __init__(self, searches: list[Search], settings: TuneSettings, journal: Journal) -> None:
        self.settings, self.journal, self.searches = settings, journal, searches
        self.began = time.time()

    def started(self, taken: Taken) -> None:
        goes_on = " goes on" if taken.seconds else ""
        print(f"{taken.search.label} trial {taken.number}{goes_on}: {settings_text(taken.settings)}", flush=True)

    def ended(self, search: Search, record: TrialRecord) -> None:
        value = "-" if record.value is None else f"{record.value:.4f}"
        ended = sum(trial.state.is_finished() for trial in self.journal.trials(search))
        used = f"{ended} of {self.settings.trials} trials"
        why = f", {record.error.splitlines()[-1]}" if record.error else ""
        print(
            f"{search.label} trial {record.number}: {record.state}, {value} after {record.epochs} epochs, "
            f"{duration(record.seconds)}{why} ({used})",
            flush=True,
        )
