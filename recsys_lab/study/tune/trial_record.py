"""What a search leaves beside Optuna's journal, so that results are read without Optuna.

<study>/tune/tuning.json                 the searches, their budget, how trials are chosen
<study>/tune/<search>/trial<k>/trial.json  what was set and what came of it, once the trial has ended
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys_lab.study.small_files import write_json

FILE = "trial.json"
TUNING_FILE = "tuning.json"


@dataclass(frozen=True)
class TrialRecord:
    """One ended trial.

    settings: dotted key -> value that was tried; empty for trial 0, the study's own settings.
    state: complete; pruned (looked worse than the others); failed.
    value: the selecting metric of the best epoch; of a trial that was stopped, of the best epoch until then; None
        when there was no epoch.
    seconds: of its process, all attempts together.
    """

    number: int
    settings: dict[str, Any]
    state: str
    value: float | None
    epochs: int
    seconds: float
    error: str = ""


def write_record(folder: Path, record: TrialRecord) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, asdict(record))
