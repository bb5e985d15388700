"""Evaluates the same models on any number of processes; run by test_process_independence.py.

    python evaluate.py <prepared folder> <checkpoint> <output folder> <processes>

For each model and each rule for seen items: metrics of validate and test, the ranks, the recommendations, and the
fitted temperature, in <output folder>/<processes>/.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from made_impressions import shop_data

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.impressions import Impressions
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation.beyond_accuracy import BeyondAccuracy
from recsys_lab.evaluation.calibration import Calibration
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.outcomes import OutcomeEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.evaluation.temperature import fit_temperature
from recsys_lab.models import NextItemModule, Popularity
from recsys_lab.models.baselines import ItemRate
from recsys_lab.models.baselines.label_rates import PreviousLabel
from recsys_lab.models.baselines.markov import Markov
from recsys_lab.models.blocks.click_heads import TargetAttention
from recsys_lab.models.encoders.gru4rec import GRU4Rec
from recsys_lab.models.tasks import MultiTask, NextItem, SequenceLabels
from recsys_lab.models.tasks.click_through import ClickThrough

EXCLUDE_SEEN = ("history", "none")


def evaluation_data(folder: str, exclude_seen: Any = "history") -> SequenceDataModule:
    split = GlobalTemporal(quantile=0.7, val_quantile=0.7, target="all")
    return SequenceDataModule(folder, split=split, max_length=4, eval_batch_size=5, exclude_seen=exclude_seen)


def models(checkpoint: str) -> dict[str, NextItemModule]:
    """An encoder, and two that count: Markov ties most items, Popularity recommends the same ones to all."""
    return {"sasrec": NextItemModule.load_from_checkpoint(checkpoint), "markov": Markov(), "popularity": Popularity()}


def evaluate(folder: str, checkpoint: str, output: Path, processes: int) -> None:
    output = output / str(processes)
    for name, model in models(checkpoint).items():
        for exclude_seen in EXCLUDE_SEEN:
            data = evaluation_data(folder, exclude_seen)
            evaluation = RankingEvaluation(cutoffs=(1, 5), measures=[BeyondAccuracy(), Calibration(num_bins=5)])
            recommended = output / f"{name}-{exclude_seen}.recommended.parquet"
            trainer = trainer_on(processes, [evaluation, Recommendations(recommended, top_k=5)])
            metrics: dict[str, float] = {}
            for stage, run in (("val", trainer.validate), ("test", trainer.test)):
                run(model, data, verbose=False)
                metrics |= evaluation.last_metrics
                if trainer.is_global_zero:
                    output.mkdir(parents=True, exist_ok=True)
                    frame = evaluation.ranks_frame(data)
                    frame.write_parquet(output / f"{name}-{exclude_seen}.{stage}.ranks.parquet")
            trainer.predict(model, data, return_predictions=False)
            if name == "sasrec":
                metrics["temperature"] = fit_temperature(trainer, model, data).temperature
            if trainer.is_global_zero:
                (output / f"{name}-{exclude_seen}.json").write_text(json.dumps(metrics))


def trainer_on(processes: int, callbacks: list[L.Callback], **settings: Any) -> L.Trainer:
    return L.Trainer(
        **settings,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )


def evaluate_clicks(shop: Path, output: Path, processes: int) -> None:
    """The tests of two models of clicks: metrics, and the table of values."""
    output = output / str(processes)
    for name in ("clicks", "item_rate"):
        torch.manual_seed(3)
        model = GRU4Rec(embedding_dim=8, task=ClickThrough(TargetAttention())) if name == "clicks" else ItemRate()
        data, evaluation = shop_data(shop, shown=Impressions("chance")), OutcomeEvaluation()
        trainer = trainer_on(processes, [evaluation])
        trainer.test(model, data, verbose=False)
        if trainer.is_global_zero:
            (output / f"{name}.json").write_text(json.dumps(evaluation.last_metrics))
            evaluation.tables(data)["values.parquet"].write_parquet(output / f"{name}.values.parquet")


def fit_all(shop: Path, output: Path, processes: int) -> None:
    """The next item, clicks with weights and labels on one encoder: weights, losses and metrics of the test."""
    output = output / str(processes)
    L.seed_everything(3, verbose=False)
    task = MultiTask(
        [NextItem(), ClickThrough(TargetAttention(dropout=0.0)), SequenceLabels("event_type")], [1, 0.5, 2]
    )
    model = GRU4Rec(embedding_dim=8, dropout=0.0, task=task)
    data = shop_data(shop, shown=Impressions("chance"), batch_size=18 // processes)
    ranking, outcomes = RankingEvaluation(cutoffs=(5,)), OutcomeEvaluation()
    trainer = trainer_on(processes, [ranking, outcomes], max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(model, data)
    losses = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    trainer.test(model, data, verbose=False)
    found = {"steps": trainer.global_step, "losses": losses, "metrics": ranking.last_metrics | outcomes.last_metrics}
    torch.save(found | {"weights": model.state_dict()}, output / f"fit-rank{trainer.global_rank}.pt")


def evaluate_labels(folder: str, output: Path, processes: int) -> None:
    """A baseline of labels: its metrics of the test, and the value of each unit."""
    data, evaluation = evaluation_data(folder), OutcomeEvaluation()
    trainer = trainer_on(processes, [evaluation])
    trainer.test(PreviousLabel(SequenceLabels("event_type")), data, verbose=False)
    if trainer.is_global_zero:
        (output / str(processes) / "labels.json").write_text(json.dumps(evaluation.last_metrics))
        evaluation.tables(data)["values.parquet"].write_parquet(output / str(processes) / "labels.values.parquet")


if __name__ == "__main__":
    torch.set_num_threads(1)
    evaluate(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    evaluate_labels(sys.argv[1], Path(sys.argv[3]), int(sys.argv[4]))
    evaluate_clicks(Path(sys.argv[3]), Path(sys.argv[3]), int(sys.argv[4]))
    fit_all(Path(sys.argv[3]), Path(sys.argv[3]), int(sys.argv[4]))
