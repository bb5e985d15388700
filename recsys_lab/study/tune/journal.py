"""Optuna's journal: which trials there are, and what each came to. Several workers, on several machines, share it.

A trial is taken under a lock, and its folder is claimed before the lock is given back. So a trial that is RUNNING in
the journal and whose folder nobody claims was abandoned (its worker was killed, or Ctrl-C came): the next worker takes
it up, and the budget holds exactly.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from recsys_lab.schema import RecsysLabError
from recsys_lab.study.launch.claim import claimed
from recsys_lab.study.launch.job import state_of
from recsys_lab.study.plan.study_file import Settings
from recsys_lab.study.runs import TRIALS
from recsys_lab.study.tune.searches import Search
from recsys_lab.study.tune.settings import Budget, TuneSettings
from recsys_lab.study.tune.space import Choices, Range, as_in, value_in

if TYPE_CHECKING:
    import optuna

FILE = "journal.log"
State = Literal["complete", "pruned", "cut", "failed"]
"""How a trial ended. cut: the seconds of its search were used up. failed: by itself (NaN, out of memory)."""


@dataclass
class Taken:
    """A trial that this process has; `claim` is closed when it lets go of it. seconds: of earlier attempts."""

    search: Search
    number: int
    settings: Settings
    seconds: float
    reported: set[int]
    claim: ExitStack

    @property
    def folder(self) -> Path:
        return self.search.folder / f"trial{self.number}"


@dataclass(frozen=True)
class Account:
    """What a search has used of its budget. open: trials that have not ended."""

    trials: int
    open: int
    seconds: float

    def is_spent(self, budget: Budget, more_seconds: float = 0.0) -> bool:
        """No new trial may begin. more_seconds: of trials at work that are not in the journal yet."""
        if budget.trials is not None:
            return self.trials >= budget.trials
        return self.trials > 0 and self.seconds + more_seconds >= (budget.seconds or 0.0)


class Journal:
    """The journal of a study's searches.

    Args:
        folder: of the study's results; made when needed.

    Raises:
        RecsysLabError: when Optuna is not installed.
    """

    def __init__(self, folder: Path, settings: TuneSettings) -> None:
        storages = import_storages()
        self.folder, self.settings = folder / TRIALS, settings
        self.folder.mkdir(parents=True, exist_ok=True)
        backend = storages.journal.JournalFileBackend(str(self.folder / FILE))
        self._storage: optuna.storages.BaseStorage = storages.JournalStorage(backend)
        self._studies: dict[str, optuna.Study] = {}

    # -- taking trials -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time; the lock of a killed one is found to be stale."""
        while True:
            with claimed(self.folder / "lock") as is_mine:
                if is_mine:
                    yield
                    return
            time.sleep(0.02)

    def take(self, search: Search, budget: Budget, more_seconds: float = 0.0) -> Taken | None:
        """An abandoned trial of `search`, or else a new one while the budget lasts. Call it with the lock held."""
        study = self._study(search)
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            if not trial.state.is_finished():
                taken = self._claim(search, trial.number)
                if taken is not None:
                    return taken
        account = _account(trials)
        most = 1 if not search.space else None
        if account.is_spent(budget, more_seconds) or account.trials == most:
            return None
        study.sampler = self._sampler(account.trials)
        new = study.ask()
        new.set_user_attr("settings", {} if new.number == 0 else _suggested(new, search))
        return self._claim(search, new.number)

    def account(self, search: Search) -> Account:
        return _account(self._study(search).get_trials(deepcopy=False))

    def _claim(self, search: Search, number: int) -> Taken | None:
        """None where another worker has the trial, or its worker was killed and its run lives on: it is left to end."""
        claim, folder = ExitStack(), search.folder / f"trial{number}"
        if not claim.enter_context(claimed(folder)) or state_of(folder, ignore_claim=True) == "running":
            claim.close()
            return None
        trial = self._study(search).get_trials(deepcopy=False)[number]
        settings = trial.user_attrs.get("settings")
        if settings is None:  # killed between the trial's birth and its settings
            live = self._live(search, number)
            settings = {} if number == 0 else _suggested(live, search)
            live.set_user_attr("settings", settings)
        return Taken(
            search, number, settings, trial.user_attrs.get("seconds", 0.0), set(trial.intermediate_values), claim
        )

    # -- a trial at work -----------------------------------------------------------------------------------------------

    def report(self, taken: Taken, rows: list[tuple[int, float]], seconds: float) -> None:
        """Validation values by epoch, those already known left out, and the seconds used until now."""
        trial = self._live(taken.search, taken.number)
        for epoch, value in rows:
            if epoch not in taken.reported and math.isfinite(value):
                trial.report(value, epoch)
                taken.reported.add(epoch)
        trial.set_user_attr("seconds", round(seconds, 2))

    def should_prune(self, taken: Taken) -> bool:
        """Never trial 0: what was found must be compared with the study's own settings."""
        return taken.number > 0 and self._live(taken.search, taken.number).should_prune()

    def tell(self, taken: Taken, state: State, value: float | None, seconds: float) -> None:
        """Ends a trial."""
        from optuna.trial import TrialState

        trial = self._live(taken.search, taken.number)
        trial.set_user_attr("seconds", round(seconds, 2))
        if taken.number == 0 and state == "complete":
            self._tell_own_settings(taken)
        if state == "complete":
            self._study(taken.search).tell(taken.number, value)
        else:
            end = TrialState.FAIL if state == "failed" else TrialState.PRUNED
            self._study(taken.search).tell(taken.number, state=end)

    def count_loss(self, taken: Taken) -> int:
        """How often a run of this trial was killed from outside, this time included."""
        trial = self._live(taken.search, taken.number)
        losses = int(trial.user_attrs.get("losses", 0)) + 1
        trial.set_user_attr("losses", losses)
        return losses

    def _tell_own_settings(self, taken: Taken) -> None:
        """The study's own settings, as far as the space holds them, so that the sampler learns from trial 0 too."""
        from optuna.trial import FixedTrial

        config = yaml.safe_load((taken.folder / "config.yaml").read_text())
        trial_id = self._trial_id(taken.search, taken.number)
        for key, one in taken.search.space.items():
            with contextlib.suppress(KeyError):
                is_in, value = as_in(one, value_in(config, key))
                if is_in:
                    given = one.names()[one.values.index(value)] if isinstance(one, Choices) else value
                    fixed = FixedTrial({key: given})
                    _suggest(fixed, key, one)
                    kind = fixed.distributions[key]
                    self._storage.set_trial_param(trial_id, key, kind.to_internal_repr(given), kind)

    # -- Optuna --------------------------------------------------------------------------------------------------------

    def _study(self, search: Search) -> optuna.Study:
        import optuna

        name = search.folder.name
        if name not in self._studies:
            self._studies[name] = optuna.create_study(
                study_name=name,
                storage=self._storage,
                direction="maximize" if search.mode == "max" else "minimize",
                pruner=_pruner(self.settings),
                load_if_exists=True,
            )
        return self._studies[name]

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """A fresh one for each trial: workers that shared one seed would draw the same points. The first draws are the
        same in every search, so that none is luckier."""
        import optuna

        seed = self.settings.seed * 1_000_003 + number
        if self.settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def _live(self, search: Search, number: int) -> optuna.Trial:
        import optuna

        return optuna.Trial(self._study(search), self._trial_id(search, number))

    def _trial_id(self, search: Search, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(search.folder.name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)


def import_storages() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise RecsysLabError("`study tune` needs Optuna: pip install 'recsys-lab[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages


def _account(trials: list[Any]) -> Account:
    seconds = sum(trial.user_attrs.get("seconds", 0.0) for trial in trials)
    return Account(len(trials), sum(not trial.state.is_finished() for trial in trials), seconds)


def _suggested(trial: optuna.Trial, search: Search) -> Settings:
    return {key: _suggest(trial, key, one) for key, one in search.space.items()}


def _suggest(trial: optuna.trial.BaseTrial, key: str, one: Range | Choices) -> Any:
    if isinstance(one, Choices):
        names = one.names()
        return one.values[names.index(trial.suggest_categorical(key, names))]
    if one.is_whole:
        step = 1 if one.step is None else int(one.step)
        return trial.suggest_int(key, int(one.low), int(one.high), step=step, log=one.log)
    return trial.suggest_float(key, float(one.low), float(one.high), step=one.step, log=one.log)


def _pruner(settings: TuneSettings) -> optuna.pruners.BasePruner:
    import optuna

    kinds: dict[str, type[optuna.pruners.BasePruner]] = {
        "median": optuna.pruners.MedianPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
    }
    kind = kinds.get(settings.pruner)
    return optuna.pruners.NopPruner() if kind is None else kind(**settings.pruner_options)
