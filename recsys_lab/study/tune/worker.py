"""Trials at work: so many at a time in this process, watched epoch by epoch. More processes may share the searches."""

from __future__ import annotations

import csv
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from recsys_lab.runs.run_files import read_json
from recsys_lab.study.launch.job import GRACE_SECONDS, Execution, Job, read_job, state_of
from recsys_lab.study.launch.local import Places, Work, side_by_side, watched
from recsys_lab.study.plan.plan_text import duration
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.plan.study_file import Study
from recsys_lab.study.tune.journal import ClaimedTrial, Journal, State
from recsys_lab.study.tune.results import Trial, write_trial
from recsys_lab.study.tune.searches import Search, trial_config
from recsys_lab.study.tune.tune_text import settings_text
from recsys_lab.words import number_of

TAKE_SECONDS = 2.0
"""Between two looks for a trial to take, while there is none."""
MOST_LOSSES = 3
"""A trial whose run was killed from outside so often is given up: most likely it needs more memory than there is."""


class Worker:
    """Runs trials until every search has used its budget, and prints each.

    Args:
        budget: trials of each search.
    """

    def __init__(
        self,
        study: Study,
        searches: Sequence[Search],
        journal: Journal,
        budget: int,
        places: Places,
        resolver: Resolver,
    ) -> None:
        self.study, self.searches, self.journal, self.budget = study, searches, journal, budget
        self.places, self.resolver = places, resolver
        self.live: list[Execution] = []
        self.broken: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Label of each search whose trial 0 failed -> why: the study's own settings don't run, so nothing is searched.
        Such a trial is tried again by the next call.

        Raises:
            KeyboardInterrupt: after Ctrl-C was passed on to the runs and all have ended; the trials are gone on with by
                the next call.
        """
        side_by_side(self._work(environment) for environment in self.places.environments)
        return self.broken

    def _work(self, environment: dict[str, str]) -> Work:
        """One place: trial after trial, while there are some to take, or others have some that they may leave."""
        while (taken := self._take()) is not None or self._others_work():
            if taken is None:
                again = time.time() + TAKE_SECONDS
                while time.time() < again:
                    yield
                continue
            with taken.claim:
                state = state_of(taken.folder, ignore_claim=True)
                if state == "finished" or (state == "failed" and taken.number > 0):
                    self._end(taken, "complete" if state == "finished" else "failed")  # its worker was killed before
                else:
                    yield from self._run(taken, environment)

    def _take(self) -> ClaimedTrial | None:
        """From the search that has used least, so that a study that is cut short was fair until then."""
        with self.journal.lock():
            for search in sorted(self._open_searches(), key=lambda one: len(self.journal.trials(one))):
                if (taken := self.journal.take(search, self.budget)) is not None:
                    return taken
        return None

    def _others_work(self) -> bool:
        trials = [trial for search in self._open_searches() for trial in self.journal.trials(search)]
        return sum(not trial.state.is_finished() for trial in trials) > len(self.live)

    def _open_searches(self) -> list[Search]:
        return [search for search in self.searches if search.label not in self.broken]

    def _run(self, taken: ClaimedTrial, environment: dict[str, str]) -> Work:
        """One process of a trial, until it ends. It is the trial's end too, unless it was killed from outside."""
        self.on_start(taken)
        config = trial_config(self.study, taken.search, taken.number, taken.settings, self.resolver)
        execution = Execution(Job(taken.folder, config), environment)
        kill_at = None  # of a pruned trial, which has until then to stop by itself
        try:
            with watched(execution, self.live):
                while execution.process.poll() is None:
                    yield
                    is_new = taken.report(self._values(taken))
                    if kill_at is not None and time.time() > kill_at:
                        execution.kill()
                    elif kill_at is None and is_new and taken.should_prune():
                        execution.ask_to_stop()
                        kill_at = time.time() + GRACE_SECONDS
        finally:
            outcome = execution.outcome
            taken.report(self._values(taken))
            taken.count("seconds", outcome.seconds)
        if outcome.state == "finished":
            self._end(taken, "complete")
        elif kill_at is not None:
            self._end(taken, "pruned")
        elif outcome.state == "failed":
            self._end(taken, "failed", outcome.error)
        elif (losses := taken.count("losses", 1)) >= MOST_LOSSES:
            self._end(taken, "failed", f"killed {losses:.0f} times; {outcome.error}")

    def _end(self, taken: ClaimedTrial, state: State, error: str = "") -> None:
        values = [value for _, value in self._values(taken)]
        best = (max if taken.search.mode == "max" else min)(values, default=None)
        if state == "complete" and best is None:
            state, error = "failed", f"metrics.csv has no number under {self.study.select}, which the study selects by"
        error = error or (str(read_job(taken.folder).get("error", "")) if state == "failed" else "")
        if state == "failed" and taken.number == 0:
            self.broken[taken.search.label] = f"{taken.folder}: {error}"
            return
        own_count = read_json(taken.folder / "manifest.json").get("wall_seconds") or 0.0  # it may outlive its worker
        seconds = round(max(taken.trial.user_attrs.get("seconds", 0.0), own_count), 2)
        trial = Trial(taken.number, taken.settings, state, best, len(values), seconds, error, folder=taken.folder)
        write_trial(trial)  # before the journal knows: what it counts as ended can be read
        self.journal.tell(taken, state, best)
        shutil.rmtree(taken.folder / "checkpoints", ignore_errors=True)  # of hundreds of trials: they fill the disk
        self.on_end(taken.search, trial)

    def on_start(self, taken: ClaimedTrial) -> None:
        goes_on = " goes on" if taken.reported else ""
        print(f"{taken.search.label} trial {taken.number}{goes_on}: {settings_text(taken.settings)}", flush=True)

    def on_end(self, search: Search, trial: Trial) -> None:
        value = "-" if trial.value is None else f"{trial.value:.4f}"
        ended = sum(one.state.is_finished() for one in self.journal.trials(search))
        why = f", {trial.error.splitlines()[-1]}" if trial.error else ""
        print(
            f"{search.label} trial {trial.number}: {trial.state}, {value} after {number_of(trial.epochs, 'epoch')}, "
            f"{duration(trial.seconds)}{why} ({ended} of {self.budget} trials)",
            flush=True,
        )

    def _values(self, taken: ClaimedTrial) -> list[tuple[int, float]]:
        return epoch_values(taken.folder / "metrics.csv", self.study.select)


def epoch_values(path: Path, metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of each epoch of a metrics.csv that has a finite one."""
    try:
        with path.open(newline="") as file:
            rows = [(row["epoch"], row.get(metric)) for row in csv.DictReader(file)]
    except (OSError, KeyError):
        return []
    found = [(int(epoch), float(value)) for epoch, value in rows if value]
    return [(epoch, value) for epoch, value in found if math.isfinite(value)]
