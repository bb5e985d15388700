"""Are next-item probabilities as large as what then happens? One temperature is fitted on the validation targets, and
the test targets are evaluated with and without it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from recsys_lab.evaluation.calibration import Calibration
from recsys_lab.evaluation.calibration_metrics import ReliabilityBins
from recsys_lab.evaluation.temperature import fit_temperature
from recsys_lab.models.checkpoint import other_training_note, trained_elsewhere
from recsys_lab.runs.folder import is_trained
from recsys_lab.runs.saved import SavedRun, interruptible, open_saved_run
from recsys_lab.words import RecsysLabError


def calibrate(
    folder: str | Path,
    checkpoint: str | Path | None = None,
    data_dir: str | None = None,
    num_bins: int = 15,
    allow_other_training: bool = False,
) -> dict[str, Any]:
    """What calibration.json holds.

    Args:
        folder: a finished run. checkpoint: another one than its best.
        data_dir: of raw files and prepared sets; None = as the run says.
        num_bins: of the calibration error.
        allow_other_training: also where the checkpoint was trained on other data or another split.

    Raises:
        RecsysLabError: when there is no validation or test target with a probability, or no best temperature.
    """
    Calibration(num_bins=num_bins)  # says what is wrong before the data is opened
    saved = open_saved_run(folder, checkpoint, data_dir)
    saved.model.check_ranks()
    saved.model.allow_other_training = allow_other_training
    trained_on = trained_elsewhere(saved.model.spec, saved.data, allow_other_training, "test")  # type: ignore[arg-type]
    for stage in ("val", "test"):
        if not len(getattr(saved.data.split_result, stage)):
            raise RecsysLabError(f"the split of {saved.folder} has no {stage} targets: the temperature needs both")
    saved.evaluation.measures = []
    trainer = saved.trainer(progress_bar=False)
    metrics, bins = {}, {}
    with interruptible(trainer):
        fit = fit_temperature(trainer, saved.model, saved.data)
        for when, temperature in (("before", 1.0), ("after", fit.temperature)):
            measure = Calibration(temperature, num_bins)
            saved.evaluation.measures = [measure]
            trainer.test(saved.model, saved.data, verbose=False)
            if not measure.bins:
                raise RecsysLabError("no test target has a probability: all are cold, or seen and hidden")
            named = saved.evaluation.last_metrics.items()
            metrics[when] = {name.removeprefix("test/"): value for name, value in named if "@" not in name}
            bins[when] = {kind: _plain(found) for kind, found in measure.bins.items()}
    manifest = saved.manifest
    return {
        "run": {name: manifest.get(name) for name in ("study", "variant", "seed", "model", "loss")}
        | {"checkpoint": saved.checkpoint.name},
        "evaluation": saved.data.evaluation_settings(),
        "temperature": fit.temperature,
        "fit": asdict(fit) | {"targets": len(saved.data.split_result.val)},
        "test": {**metrics, "bins": bins},
        "trained_on": trained_on,
        "notes": _notes(saved, trained_on),
    }


def _plain(bins: ReliabilityBins) -> dict[str, Any]:
    columns = {name: getattr(bins, name).tolist() for name in ("confidence", "accuracy", "count")}
    return {"error": bins.error, **columns}


def _notes(saved: SavedRun, trained_on: dict[str, Any] | None) -> list[str]:
    notes = [other_training_note(trained_on)] if trained_on else []
    if not is_trained(saved.model):
        name = type(saved.model).__name__
        notes.append(
            f"{name} counts: its scores are no logits, so without the fitted temperature they mean no probabilities"
        )
    return notes
