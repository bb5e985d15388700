"""`recsys-lab diagnose calibration RUN_FOLDER`: are next-item probabilities as large as what then happens?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recsys_lab.cli.options import COUNT, PlainParser, underscores
from recsys_lab.diagnose.reliability_page import calibration_text, reliability_page
from recsys_lab.evaluation.calibration import Calibration
from recsys_lab.evaluation.calibration_metrics import ReliabilityBins
from recsys_lab.evaluation.temperature import fit_temperature
from recsys_lab.models.checkpoint import check_same_training
from recsys_lab.runs.folder import is_trained
from recsys_lab.runs.messages import show_messages
from recsys_lab.runs.saved import SavedRun, interruptible, open_saved_run, write_results
from recsys_lab.words import RecsysLabError

DESCRIPTION = """\
Are the model's next-item probabilities (softmax of its scores over the candidates) as large as what then happens?
Fits one temperature on the validation targets, evaluates the test targets with and without it, and writes
calibration/calibration.json and calibration/reliability.html into the run folder. Nothing is trained. docs/metrics.md
defines each number."""


def make_parser() -> argparse.ArgumentParser:
    parser = PlainParser(
        prog="recsys-lab diagnose calibration",
        allow_abbrev=False,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN_FOLDER", help="a finished run; its best checkpoint is taken")
    parser.add_argument("--checkpoint", metavar="FILE", help="another checkpoint")
    parser.add_argument("--num_bins", type=COUNT, default=15, help="of the calibration error (default 15)")
    parser.add_argument("--data_dir", help="folder of raw files and prepared sets (default: as the run says)")
    parser.add_argument("--output", metavar="FOLDER", help="where to write (default: calibration/ in the run folder)")
    return parser


def run(arguments: list[str]) -> None:
    """Runs `recsys-lab diagnose calibration ...`; options may be written with - or _."""
    chosen = make_parser().parse_args(underscores(arguments[1:]))
    show_messages()
    Calibration(num_bins=chosen.num_bins)  # says what is wrong before the data is opened
    saved = open_saved_run(chosen.run, chosen.checkpoint, chosen.data_dir)
    check_same_training(saved.model.spec, saved.data.spec)  # type: ignore[arg-type]
    found = calibrate(saved, chosen.num_bins)
    output = Path(chosen.output) if chosen.output else saved.folder / "calibration"
    page = reliability_page(found)
    write_results(output, {"calibration.json": json.dumps(found, indent=2) + "\n", "reliability.html": page})
    print(calibration_text(found))
    print(f"\nwritten: calibration.json and reliability.html in {output}")


def calibrate(saved: SavedRun, num_bins: int = 15) -> dict[str, Any]:
    """What calibration.json holds.

    Raises:
        RecsysLabError: when there is no validation or test target with a probability, or no best temperature.
    """
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
        "notes": _notes(saved),
    }


def _plain(bins: ReliabilityBins) -> dict[str, Any]:
    columns = {name: getattr(bins, name).tolist() for name in ("confidence", "accuracy", "count")}
    return {"error": bins.error, **columns}


def _notes(saved: SavedRun) -> list[str]:
    if not is_trained(saved.model):
        name = type(saved.model).__name__
        return [
            f"{name} counts: its scores are no logits, so without the fitted temperature they mean no probabilities"
        ]
    return []
