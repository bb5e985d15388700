"""Trials at work: so many at a time in this process, watched epoch by epoch. More processes may share the searches."""

from __future__ import annotations

import csv
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys_lab.study.launch.job import GRACE_SECONDS, Execution, Job, read_job, state_of
from recsys_lab.study.launch.local import Places, stop_all
from recsys_lab.study.plan.study_file import Study
from recsys_lab.study.plan.variants import Resolver
from recsys_lab.study.tune.journal import Journal, State, Taken
from recsys_lab.study.tune.searches import Search, trial_config
from recsys_lab.study.tune.trial_record import TrialRecord, write_record

POLL_SECONDS = 0.1
TAKE_SECONDS = 2.0
"""Between two looks for a trial to take, while there is none."""
MOST_LOSSES = 3
"""A trial whose run was killed from outside so often is given up: most likely it needs more memory than there is."""


@dataclass
class Live:
    """A trial at work.

    changed: when metrics.csv was written last.
    stopping: why it was asked to stop; kill_at: when it has had time enough for that.
    """

    taken: Taken
    execution: Execution
    environment: dict[str, str]
    changed: float = 0.0
    stopping: State | None = None
    kill_at: float = 0.0

    @property
    def seconds(self) -> float:
        """Of this trial, earlier attempts included."""
        return self.taken.seconds + time.time() - self.execution.started


class Worker:
    """Runs trials until every search has used its budget.

    Args:
        budget: trials of each search.
        on_start, on_end: are told of each trial.
    """

    def __init__(
        self,
        study: Study,
        searches: Sequence[Search],
        journal: Journal,
        budget: int,
        places: Places,
        resolver: Resolver,
        on_start: Callable[[Taken], None] = lambda taken: None,
        on_end: Callable[[Search, TrialRecord], None] = lambda search, record: None,
    ) -> None:
        self.study, self.searches, self.journal, self.budget, self.resolver = study, searches, journal, budget, resolver
        self.on_start, self.on_end = on_start, on_end
        self.free = list(reversed(places.environments))
        self.live: list[Live] = []
        self.broken: dict[str, str] = {}
        self._next_look = 0.0

    def run(self) -> dict[str, str]:
        """Label of each search whose trial 0 failed -> why: the study's own settings don't run, so nothing is searched.
        Such a trial is tried again by the next call.

        Raises:
            KeyboardInterrupt: after Ctrl-C was passed on to the runs and all have ended; the trials are gone on with by
                the next call.
        """
        try:
            while self._take_some() or self.live or self._others_work():
                for live in list(self.live):
                    self._watch(live)
                time.sleep(POLL_SECONDS if self.live else TAKE_SECONDS)
            return self.broken
        except BaseException:
            self._stop_all()
            raise

    # -- taking --------------------------------------------------------------------------------------------------------

    def _take_some(self) -> bool:
        """Fills the free places, as far as there are trials to take."""
        took = False
        while self.free and time.time() >= self._next_look:
            taken = self._take()
            if taken is None:
                self._next_look = time.time() + TAKE_SECONDS
                break
            took = True
            self._start(taken)
        return took

    def _take(self) -> Taken | None:
        """From the search that has used least, so that a study that is cut short was fair until then."""
        with self.journal.lock():
            for search in sorted(self._open_searches(), key=lambda one: len(self.journal.trials(one))):
                if (taken := self.journal.take(search, self.budget)) is not None:
                    return taken
        return None

    def _open_searches(self) -> list[Search]:
        return [search for search in self.searches if search.label not in self.broken]

    def _others_work(self) -> bool:
        """Trials that others have, or that wait to be taken: looked at again until there are none."""
        with self.journal.lock():
            every = (trial for search in self._open_searches() for trial in self.journal.trials(search))
            return any(not trial.state.is_finished() for trial in every)

    # -- one trial -----------------------------------------------------------------------------------------------------

    def _start(self, taken: Taken) -> None:
        state = state_of(taken.folder, ignore_claim=True)
        if state == "finished" or (state == "failed" and taken.number > 0):  # its worker was killed before it said so
            seconds = max(taken.seconds, seconds_of_run(taken.folder))
            self._end(taken, "complete" if state == "finished" else "failed", seconds)
            return
        try:
            self.on_start(taken)
            config = trial_config(self.study, taken.search, taken.number, taken.settings, self.resolver)
            execution = Execution(Job(taken.folder, config), self.free[-1])
        except BaseException:
            taken.claim.close()
            raise
        self.live.append(Live(taken, execution, self.free.pop()))

    def _watch(self, live: Live) -> None:
        ended = live.execution.process.poll() is not None
        self._report(live)
        if ended:
            self._after(live)
        elif live.stopping is not None and time.time() > live.kill_at:
            live.execution.kill()

    def _report(self, live: Live) -> None:
        path = live.taken.folder / "metrics.csv"
        try:
            changed = path.stat().st_mtime
        except OSError:
            return
        if changed == live.changed:
            return
        live.changed = changed
        before = len(live.taken.reported)
        self.journal.report(live.taken, epoch_values(path, self.study.select), live.seconds)
        is_new = len(live.taken.reported) > before
        if is_new and live.stopping is None and self.journal.should_prune(live.taken):
            live.stopping, live.kill_at = "pruned", time.time() + GRACE_SECONDS
            live.execution.ask_to_stop()

    def _after(self, live: Live) -> None:
        """The run has ended: so has its trial, unless the run was killed from outside."""
        outcome = live.execution.finish()
        self._report(live)
        seconds = live.seconds
        self.live.remove(live)
        self.free.append(live.environment)
        self._next_look = 0.0
        if outcome.state == "finished":
            self._end(live.taken, "complete", seconds)
        elif live.stopping is not None:
            self._end(live.taken, live.stopping, seconds)
        elif outcome.state == "failed":
            self._end(live.taken, "failed", seconds, outcome.error)
        else:
            losses = self.journal.count_loss(live.taken)
            if losses >= MOST_LOSSES:
                self._end(live.taken, "failed", seconds, f"killed {losses} times; {outcome.error}")
            else:
                self.journal.report(live.taken, [], seconds)
                live.taken.claim.close()

    def _end(self, taken: Taken, state: State, seconds: float, error: str = "") -> None:
        search = taken.search
        rows = epoch_values(taken.folder / "metrics.csv", self.study.select)
        value = best_of([value for _, value in rows], search.mode)
        if state == "complete" and value is None:
            state, error = "failed", f"metrics.csv has no number under {self.study.select}, which the study selects by"
        error = error or (str(read_job(taken.folder).get("error", "")) if state == "failed" else "")
        if state == "failed" and taken.number == 0:
            self.broken[search.label] = f"{taken.folder}: {error}"
            self.journal.report(taken, [], seconds)
            taken.claim.close()
            return
        record = TrialRecord(taken.number, taken.settings, state, value, len(rows), round(seconds, 2), error)
        write_record(taken.folder, record)  # before the journal knows: what it counts as ended can be read
        self.journal.tell(taken, state, value, seconds)
        shutil.rmtree(taken.folder / "checkpoints", ignore_errors=True)  # of hundreds of trials: they fill the disk
        taken.claim.close()
        self.on_end(search, record)

    def _stop_all(self) -> None:
        """The runs keep their epochs, and the trials stay open."""
        stop_all([live.execution for live in self.live])
        for live in self.live:
            live.execution.finish()
            self._report(live)
            self.journal.report(live.taken, [], live.seconds)
            live.taken.claim.close()
        self.live.clear()


def epoch_values(path: Path, metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of each epoch of a metrics.csv that has a finite one."""
    try:
        with path.open(newline="") as file:
            rows = [(row["epoch"], row.get(metric)) for row in csv.DictReader(file)]
    except (OSError, KeyError):
        return []
    found = [(int(epoch), float(value)) for epoch, value in rows if value]
    return [(epoch, value) for epoch, value in found if math.isfinite(value)]


def seconds_of_run(folder: Path) -> float:
    """As the run itself counted them, all attempts together; 0 when it did not."""
    try:
        return float(json.loads((folder / "manifest.json").read_text())["wall_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def best_of(values: Sequence[float], mode: str) -> float | None:
    if not values:
        return None
    return max(values) if mode == "max" else min(values)
