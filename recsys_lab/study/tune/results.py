"""A tuned study read back from its files, for every report of it. Needs no Optuna.

<study>/tune/tuning.json                   the searches, their budget, how trials are chosen
<study>/tune/<search>/trial<k>/trial.json  what was set and what came of it, once the trial has ended
<study>/tune/best.yaml                     the study of what was found (best.py)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from recsys_lab.runs.finished import TRIALS
from recsys_lab.runs.run_files import write_json
from recsys_lab.study.tune.expected import Point, expected_best
from recsys_lab.words import RecsysLabError

TRIAL_FILE = "trial.json"
TUNING_FILE = "tuning.json"


@dataclass(frozen=True)
class Trial:
    """One ended trial.

    settings: dotted key -> value that was tried; empty for trial 0, the study's own settings.
    state: complete; pruned (looked worse than the others); failed.
    value: the selecting metric of the best epoch; of a trial that was stopped, of the best epoch until then; None
        when there was no epoch.
    seconds: of its process, all attempts together.
    folder: of its run.
    """

    number: int
    settings: dict[str, Any]
    state: str
    value: float | None
    epochs: int
    seconds: float
    error: str = ""
    folder: Path = field(kw_only=True)


def write_trial(trial: Trial) -> None:
    trial.folder.mkdir(parents=True, exist_ok=True)
    write_json(trial.folder / TRIAL_FILE, {k: v for k, v in asdict(trial).items() if k != "folder"})


@dataclass(frozen=True)
class SearchResult:
    """What one search came to.

    label: of the axis value or the variant.
    values: compared axis -> label of its value.
    variants: labels of the variants that the found settings are for.
    trials: that have ended, by number; trial 0 is the study's own settings.
    mode: max or min, of the selecting metric.
    space: dotted key -> range or choices.
    measured: equal for searches whose values may be compared: the same data, split and evaluation.
    """

    label: str
    values: dict[str, str]
    variants: list[str]
    folder: Path
    trials: list[Trial]
    mode: str
    space: dict[str, Any]
    measured: str

    @property
    def best(self) -> Trial | None:
        """By validation, among the trials that came to their own end; the earliest of equals."""
        complete = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        if not complete:
            return None
        sign = 1 if self.mode == "max" else -1
        return max(complete, key=lambda trial: (sign * (trial.value or 0.0), -trial.number))

    @property
    def default(self) -> Trial | None:
        """Trial 0, once it has ended."""
        return next((trial for trial in self.trials if trial.number == 0), None)

    @property
    def seconds(self) -> float:
        return sum(trial.seconds for trial in self.trials)

    def count(self, state: str) -> int:
        return sum(trial.state == state for trial in self.trials)

    @cached_property
    def curve(self) -> list[Point]:
        """Expected best over the number of trials. A stopped trial counts with its best epoch until then."""
        return expected_best([trial.value for trial in self.trials], self.mode)


@dataclass(frozen=True)
class TuningResults:
    """All searches of a study.

    select: validation metric that trials are compared by.
    axes: that are compared; none: each variant is.
    trials: the budget of each search.
    """

    study: str
    folder: Path
    select: str
    axes: list[str]
    trials: int
    sampler: str
    pruner: str
    searches: list[SearchResult]

    def comparable(self) -> list[list[SearchResult]]:
        """The searches, those together whose values may be compared."""
        groups: dict[str, list[SearchResult]] = {}
        for search in self.searches:
            groups.setdefault(search.measured, []).append(search)
        return list(groups.values())


def read_tuning(folder: str | Path) -> TuningResults | None:
    """The tuning of a study from its folder of results, `<root>/<study>`; None when it was never tuned.

    Raises:
        RecsysLabError: when its files can't be read.
    """
    folder = Path(folder)
    place = folder / TRIALS
    try:
        plain = json.loads((place / TUNING_FILE).read_text())
        here = {
            "folder": place,
            "trials": plain["budget"]["trials"],
            "searches": [_search(folder, one) for one in plain["searches"]],
        }
        return TuningResults(**_known(TuningResults, plain | here))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecsysLabError(f"{place} can't be read ({type(error).__name__}: {error})") from error


def _search(folder: Path, plain: dict[str, Any]) -> SearchResult:
    place = folder / TRIALS / plain["folder"]
    trials = [Trial(**json.loads(path.read_text()), folder=path.parent) for path in place.glob(f"trial*/{TRIAL_FILE}")]
    here = {"folder": place, "trials": sorted(trials, key=lambda trial: trial.number)}
    return SearchResult(**_known(SearchResult, plain | here))


def _known(cls: type, plain: dict[str, Any]) -> dict[str, Any]:
    """What `cls` holds of a file that may say more."""
    return {one.name: plain[one.name] for one in fields(cls)}
