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

from recsys_lab.runs.claim import claimed
from recsys_lab.runs.finished import TRIALS
from recsys_lab.study.launch.job import state_of
from recsys_lab.study.plan.study_file import Settings
from recsys_lab.study.tune.searches import Search
from recsys_lab.study.tune.space import Choices, Range, as_in, value_in
from recsys_lab.study.tune.tune_settings import TuneSettings
from recsys_lab.words import RecsysLabError

if TYPE_CHECKING:
    import optuna

FILE = "journal.log"
State = Literal["complete", "pruned", "failed"]
"""How a trial ended. failed: by itself (NaN, out of memory)."""


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

    def take(self, search: Search, budget: int) -> Taken | None:
        """An abandoned trial of `search`, or else a new one while fewer than `budget` were begun. Call it with the lock
        held."""
        trials = self.trials(search)
        for trial in trials:
            if not trial.state.is_finished() and (taken := self._claim(search, trial.number)) is not None:
                return taken
        if len(trials) >= (budget if search.space else 1):
            return None
        study = self._study(search)
        study.sampler = self._sampler(len(trials))
        space = {} if not trials else {key: distribution(one) for key, one in search.space.items()}
        return self._claim(search, study.ask(fixed_distributions=space).number)

    def trials(self, search: Search) -> list[optuna.trial.FrozenTrial]:
        """All that were begun, by number."""
        return self._study(search).get_trials(deepcopy=False)

    def _claim(self, search: Search, number: int) -> Taken | None:
        """None where another worker has the trial, or its worker was killed and its run lives on: it is left to end."""
        claim, folder = ExitStack(), search.folder / f"trial{number}"
        if not claim.enter_context(claimed(folder)) or state_of(folder, ignore_claim=True) == "running":
            claim.close()
            return None
        trial = self.trials(search)[number]
        drawn = trial.params if number > 0 else {}  # not all, where its worker was killed as it drew them
        settings = {key: _meant(one, drawn[key]) for key, one in search.space.items() if key in drawn}
        seconds = trial.user_attrs.get("seconds", 0.0)
        return Taken(search, number, settings, seconds, set(trial.intermediate_values), claim)

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
        config = yaml.safe_load((taken.folder / "config.yaml").read_text())
        trial_id = self._trial_id(taken.search, taken.number)
        for key, one in taken.search.space.items():
            with contextlib.suppress(KeyError):
                is_in, value = as_in(one, value_in(config, key))
                if is_in:
                    given = one.names()[one.values.index(value)] if isinstance(one, Choices) else value
                    kind = distribution(one)
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


def distribution(one: Range | Choices) -> optuna.distributions.BaseDistribution:
    """Optuna's form of a range or of choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(one, Choices):
        return CategoricalDistribution(one.names())
    if one.is_whole:
        return IntDistribution(int(one.low), int(one.high), one.log, 1 if one.step is None else int(one.step))
    return FloatDistribution(float(one.low), float(one.high), one.log, one.step)


def _meant(one: Range | Choices, drawn: Any) -> Any:
    """The value of the space that Optuna's value stands for."""
    return one.values[one.names().index(drawn)] if isinstance(one, Choices) else drawn


def _pruner(settings: TuneSettings) -> optuna.pruners.BasePruner:
    import optuna

    kinds: dict[str, type[optuna.pruners.BasePruner]] = {
        "median": optuna.pruners.MedianPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
    }
    kind = kinds.get(settings.pruner)
    return optuna.pruners.NopPruner() if kind is None else kind(**settings.pruner_options)
