"""Slips in Python: what a notebook's first lines get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from case import PythonCase

from recsys_lab.config import from_config
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation.beyond_accuracy import BeyondAccuracy
from recsys_lab.evaluation.calibration import Calibration
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.losses import GBCE, CrossEntropy, SampledSoftmax
from recsys_lab.losses.negatives import InBatchNegatives, PopularityNegatives, UniformNegatives
from recsys_lab.models import GRU4Rec, LSTMAttention, SASRec
from recsys_lab.models.baselines import EASE, ItemKNN
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.optimization import Optimization

Call = Callable[[Mapping[str, str]], Any]
Loose: Any = None  # the calls below are wrong on purpose


def fit(model: Any, data: Any, **settings: Any) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    L.Trainer(**{**quiet, "max_epochs": 1, "enable_model_summary": False, **settings}).fit(model, data)


def small(places: Mapping[str, str], **more: Any) -> SequenceDataModule:
    return SequenceDataModule(**{"dataset": "small", "data_dir": places["DATA"], "max_length": 5, **more})


def loaded(text: bytes) -> Call:
    def call(places: Mapping[str, str]) -> Any:
        Path("some.ckpt").write_bytes(text)
        return NextItemModule.load_from_checkpoint("some.ckpt")

    return call


CALLS: dict[str, tuple[Call, str]] = {
    "a width as text": (lambda p: SASRec(embedding_dim="64"), "SASRec: embedding_dim must be a whole number.*'64'"),
    "a width of 0": (lambda p: SASRec(embedding_dim=0), "embedding_dim must be at least 1, not 0"),
    "a width as True": (lambda p: SASRec(embedding_dim=True), "embedding_dim must be a whole number"),
    "no layers": (lambda p: GRU4Rec(num_layers=0), "GRU4Rec: num_layers must be at least 1"),
    "heads that do not divide": (lambda p: SASRec(embedding_dim=15), "num_heads must divide embedding_dim 15"),
    "dropout of 1": (lambda p: SASRec(dropout=1), "dropout must be at least 0 and below 1"),
    "dropout nan": (lambda p: SASRec(dropout=float("nan")), "dropout must be a finite number"),
    "a misspelt argument": (
        lambda p: SASRec(embeding_dim=8),
        "embeding_dim is no argument.*'embedding_dim'",
    ),
    "too many arguments": (lambda p: GlobalTemporal(*range(20)), "GlobalTemporal: too many"),
    "a loss by name": (lambda p: SASRec(loss="BPR"), "loss must be an object of the class Loss.*'BPR'"),
    "a loss as class": (lambda p: SASRec(loss=CrossEntropy), "loss must be an object of the class Loss"),
    "a sampler as number": (
        lambda p: SASRec(negatives=256),
        "negatives must be an object.*NegativeSampler",
    ),
    "settings as dict": (lambda p: SASRec(optimization={"lr": 1}), "optimization must be.*Optimization"),
    "lr 0": (lambda p: Optimization(lr=0), "Optimization: lr must be above 0"),
    "lr as text": (lambda p: Optimization(lr="1e-3"), "lr must be a finite number.*'1e-3'"),
    "lr inf": (lambda p: Optimization(lr=float("inf")), "lr must be a finite number"),
    "one beta": (lambda p: Optimization(betas=(0.9,)), "betas must hold 2 values"),
    "optimizer unknown": (lambda p: Optimization(optimizer="sgd"), "optimizer must be one of"),
    "warmup of half a step": (lambda p: Optimization(warmup_steps=0.5), "warmup_steps must be a whole number"),
    "a split by name": (lambda p: small(p, split="GlobalTemporal"), "split must be an object of the class Split"),
    "max_length as text": (lambda p: small(p, max_length="50"), "max_length must be a whole number"),
    "max_length too large": (lambda p: small(p, max_length=10**9), "max_length must be .*at most 1,000,000"),
    "batch_size 0": (lambda p: small(p, batch_size=0), "batch_size must be at least 1"),
    "a mode unknown": (lambda p: small(p, training_mode="all"), "training_mode must be one of"),
    "prepare as dict": (lambda p: small(p, prepare={"min_length": 3}), "prepare must be.*PrepareSettings"),
    "a data set as number": (lambda p: small(p, dataset=100), "dataset must be"),
    "a data set unknown": (lambda p: small(p, dataset="gone").spec, "'gone'"),
    "cutoffs as number": (lambda p: RankingEvaluation(cutoffs=10), "cutoffs must be a list"),
    "cutoffs with 0": (
        lambda p: RankingEvaluation(cutoffs=[0]),
        "cutoffs holds a wrong value.*at least 1",
    ),
    "a measure by name": (
        lambda p: RankingEvaluation(measures=["Calibration"]),
        "measures holds a wrong.*Measure",
    ),
    "a measure alone": (lambda p: RankingEvaluation(measures=Calibration()), "measures must be a list"),
    "score memory 0": (lambda p: RankingEvaluation(max_score_mb=0), "max_score_mb must be at least 1"),
    "exponent -1": (lambda p: BeyondAccuracy(propensity_exponent=-1), "propensity_exponent must be at least 0"),
    "no list": (lambda p: Recommendations(top_k=0), "top_k must be at least 1"),
    "a negative count": (lambda p: UniformNegatives(-1), "num_negatives must be at least 1"),
    "alpha nan": (lambda p: PopularityNegatives(alpha=float("nan")), "alpha must be"),
    "half a negative": (lambda p: InBatchNegatives(0.5), "num_negatives must be a whole number"),
    "a temperature of 0": (lambda p: SampledSoftmax(temperature=0), "temperature must be above 0"),
    "t of 2": (lambda p: GBCE(t=2), "t must be at least 0 and at most 1"),
    "regularization 0": (lambda p: EASE(regularization=0), "regularization must be above 0"),
    "history unknown": (lambda p: ItemKNN(history="some"), "history must be one of"),
    "a time unknown": (lambda p: LSTMAttention(time="clock"), "time must be one of"),
    "quantile 1": (lambda p: GlobalTemporal(quantile=1), "quantile must be above 0 and below 1"),
    "min_length 0": (lambda p: PrepareSettings(min_length=0), "min_length must be at least 1"),
    "fit without data": (lambda p: fit(SASRec(embedding_dim=8), None), "pass a SequenceDataModule"),
    "fit with a loader": (
        lambda p: fit(SASRec(embedding_dim=8), torch.utils.data.DataLoader([1, 2])),
        "pass a SequenceDataModule",
    ),
    "5,000 negatives of 30 items": (
        lambda p: fit(SASRec(embedding_dim=8, loss=SampledSoftmax(), negatives=UniformNegatives(5000)), small(p)),
        "num_negatives is 5,000, and there are 30 items",
    ),
    "a checkpoint that is gone": (lambda p: SASRec.load_from_checkpoint("gone.ckpt"), "no checkpoint at gone.ckpt"),
    "a checkpoint that is text": (loaded(b"text"), "some.ckpt is not a checkpoint of recsys_lab"),
    "a checkpoint of another model": (
        lambda p: GRU4Rec.load_from_checkpoint(p["RUN"] + "/checkpoints/best.ckpt"),
        "SASRec is not a class of the type GRU4Rec",
    ),
    "an override misspelt": (
        lambda p: SASRec.load_from_checkpoint(p["RUN"] + "/checkpoints/best.ckpt", dropuot=0.1),
        "dropuot is no argument.*Did you mean 'dropout'",
    ),
    "a configuration without a class": (
        lambda p: from_config({"class_path": "SASRec"}),
        "'SASRec' does not name a class",
    ),
    "a configuration of a base class": (
        lambda p: from_config({"class_path": "recsys_lab.contracts.Loss"}),
        "base class|can't be built",
    ),
}

CASES = [
    PythonCase(name, call, says, may_leave=("data/**", "some.ckpt", "lightning_logs/**"))
    for name, (call, says) in CALLS.items()
]
