"""Optuna's journal: which trials there are, and what each came to. Several workers, on several machines, share it.

A trial is taken under a lock, and its folder is claimed before the lock is given back. So a trial that is RUNNING in
the journal and whose folder nobody claims was abandoned (its worker was killed, or Ctrl-C came): it goes back into
Optuna's queue, the next worker takes it up, and the budget holds exactly.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recsys_lab.runs.claim import claimed
from recsys_lab.runs.finished import TRIALS
from recsys_lab.study.launch.job import state_of
from recsys_lab.study.plan.study_file import Settings
from recsys_lab.study.tune.searches import Search
from recsys_lab.study.tune.space import distribution, import_optuna, meant
from recsys_lab.study.tune.tune_settings import TuneSettings

if TYPE_CHECKING:
    import optuna

FILE = "journal.log"
State = Literal["complete", "pruned", "failed"]
"""How a trial ended. failed: by itself (NaN, out of memory)."""
STATES: dict[State, str] = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
"""As Optuna calls them."""


@dataclass
class ClaimedTrial:
    """A trial that this process has; `claim` is closed when it lets go of it.

    settings: what was drawn; none for trial 0, the study's own settings.
    reported: epochs whose value the journal has.
    """

    search: Search
    trial: optuna.Trial
    settings: Settings
    reported: set[int]
    claim: ExitStack

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def folder(self) -> Path:
        return self.search.trial_folder(self.number)

    def report(self, values: list[tuple[int, float]]) -> bool:
        """Validation values by epoch; whether there was one that the journal did not have."""
        new = [(epoch, value) for epoch, value in values if epoch not in self.reported]
        for epoch, value in new:
            self.trial.report(value, epoch)
            self.reported.add(epoch)
        return bool(new)

    def should_prune(self) -> bool:
        """Never trial 0: what was found must be compared with the study's own settings."""
        return self.number > 0 and self.trial.should_prune()

    def count(self, name: str, more: float) -> float:
        """Adds to what the journal counts of this trial over all attempts: `seconds`, `losses`."""
        total = self.trial.user_attrs.get(name, 0) + more
        self.trial.set_user_attr(name, total)
        return float(total)


class Journal:
    """The journal of a study's searches.

    Args:
        folder: of the study's results; made when needed.
    """

    def __init__(self, folder: Path, settings: TuneSettings) -> None:
        self._optuna = import_optuna()
        self.folder, self.settings = folder / TRIALS, settings
        self.folder.mkdir(parents=True, exist_ok=True)
        storages = self._optuna.storages
        backend = storages.journal.JournalFileBackend(str(self.folder / FILE))
        self._storage: optuna.storages.BaseStorage = storages.JournalStorage(backend)
        self._studies: dict[str, optuna.Study] = {}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time; the lock of a killed one is found to be stale."""
        while True:
            with claimed(self.folder / "lock") as is_mine:
                if is_mine:
                    yield
                    return
            time.sleep(0.02)

    def trials(self, search: Search) -> list[optuna.trial.FrozenTrial]:
        """All that were begun, by number."""
        return self._study(search).get_trials(deepcopy=False)

    def take(self, search: Search, budget: int) -> ClaimedTrial | None:
        """An abandoned trial of `search`, or else a new one while fewer than `budget` were begun. Call it with the lock
        held."""
        study, states = self._study(search), self._optuna.trial.TrialState
        if not self.trials(search):
            study.enqueue_trial(search.own)
        for trial in self.trials(search):
            if trial.state == states.RUNNING and state_of(search.trial_folder(trial.number)) != "running":
                self._storage.set_trial_state_values(trial._trial_id, states.WAITING)
        trials = self.trials(search)
        queue = [trial.number for trial in trials if trial.state == states.WAITING]
        if not queue and len(trials) >= (budget if search.space else 1):
            return None
        number = min(queue, default=len(trials))
        study.sampler = self._sampler(number)
        keys = search.space if number else search.own
        asked = study.ask({key: distribution(search.space[key]) for key in keys})
        drawn = {key: meant(search.space[key], value) for key, value in asked.params.items()}
        claim = ExitStack()
        claim.enter_context(claimed(search.trial_folder(number)))
        reported = set(self.trials(search)[number].intermediate_values)
        return ClaimedTrial(search, asked, drawn if number else {}, reported, claim)

    def tell(self, taken: ClaimedTrial, state: State, value: float | None) -> None:
        """Ends a trial."""
        value = value if state == "complete" else None
        self._study(taken.search).tell(taken.number, value, self._optuna.trial.TrialState[STATES[state]])

    # -- Optuna --------------------------------------------------------------------------------------------------------

    def _study(self, search: Search) -> optuna.Study:
        name = search.folder.name
        if name not in self._studies:
            self._studies[name] = self._optuna.create_study(
                study_name=name,
                storage=self._storage,
                direction="maximize" if search.mode == "max" else "minimize",
                pruner=self._pruner(),
                load_if_exists=True,
            )
        return self._studies[name]

    def _pruner(self) -> Any:
        kinds = {"none": "NopPruner", "median": "MedianPruner", "hyperband": "HyperbandPruner"}
        return getattr(self._optuna.pruners, kinds[self.settings.pruner])(**self.settings.pruner_options)

    def _sampler(self, number: int) -> Any:
        """A fresh one for each trial: workers that shared one seed would draw the same points. The first draws are the
        same in every search, so that none is luckier."""
        optuna, seed = self._optuna, self.settings.seed * 1_000_003 + number
        if self.settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings(category=optuna.exceptions.ExperimentalWarning, action="ignore"):
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
