"""The options of a run beside model, data and Trainer, and the defaults that differ from Lightning's."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser

from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.runs.fit.trainer_checks import BATCHES, WATCHED
from recsys_lab.runs.run_settings import RunSettings

TRAINER_DEFAULTS: dict[str, Any] = {"max_epochs": 200}
CALLBACK_DEFAULTS: dict[str, Any] = {
    "early_stopping.monitor": WATCHED,
    "early_stopping.mode": "max",
    "early_stopping.patience": 10,
    "checkpoint.monitor": WATCHED,
    "checkpoint.mode": "max",
    "checkpoint.filename": "best",
    "checkpoint.enable_version_counter": False,
    "evaluation.measures": [{"class_path": "recsys_lab.evaluation.beyond_accuracy.BeyondAccuracy"}],
}

WARM_START = """For fit: begin with the weights of this run (a folder or a checkpoint) of the same model on a shorter
log. Items and values of fields are matched by raw id; new ones begin with the mean. The optimiser begins anew."""


def add_run_arguments(parser: LightningArgumentParser) -> None:
    """What `fit`, `validate`, `test` and `predict` take beside `model`, `data` and `trainer`."""
    parser.add_lightning_class_args(RankingEvaluation, "evaluation")
    parser.add_lightning_class_args(Recommendations, "recommendations")
    parser.add_lightning_class_args(EarlyStopping, "early_stopping")
    parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
    parser.add_class_arguments(RunSettings, "run")
    parser.add_argument("--warm_start", type=str | None, default=None, help=WARM_START)
    parser.set_defaults(CALLBACK_DEFAULTS)
    _numbers_as_typed(parser)


def _numbers_as_typed(parser: LightningArgumentParser) -> None:
    """`limit_*_batches 1` is one batch, `1.0` all of them. `typing.Union[int, float]` may come out of Python's cache
    as `Union[float, int]`, whose first type takes every 1 for 1.0."""
    for action in parser._actions:
        if action.dest.removeprefix("trainer.") in BATCHES:
            vars(action)["_typehint"] = int | float | None
