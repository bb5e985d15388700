"""Tasks that do not rank: outcomes become metrics, run folders and comparisons."""

from pathlib import Path

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer
from torch.nn.functional import binary_cross_entropy_with_logits

from recsys_lab.contracts import Task, UnitMetric
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation import OutcomeEvaluation, RankingEvaluation
from recsys_lab.evaluation.outcomes import mean_of
from recsys_lab.models.encoders.gru4rec import GRU4Rec
from recsys_lab.runs.comparison import compare
from recsys_lab.runs.comparison_table import render
from recsys_lab.runs.finished import find_runs
from recsys_lab.runs.folder import RunFolder
from recsys_lab.runs.measured import of_weight_one
from recsys_lab.statistics.rule import estimate
from recsys_lab.words import RecsysLabError


class IsOdd(Task):
    """Whether the next item is an odd row; long histories count double."""

    ranks = False
    evaluation = "recsys_lab.evaluation.outcomes.OutcomeEvaluation"
    shown_metrics = ("log_loss", "accuracy")

    def build(self, spec, model):
        self.head = torch.nn.Linear(model.embedding.items.embedding_dim, 1)

    def loss(self, state, batch, scorer, draws):
        keep = batch.target_ids > 0
        logit = self.head(state.history).squeeze(-1)[keep]
        return binary_cross_entropy_with_logits(logit, (batch.target_ids[keep] % 2).float()), int(keep.sum())

    def evaluate(self, state, batch, scorer):
        return {
            "unit": batch.target_event,
            "user": batch.user_index,
            "label": batch.target_ids % 2,
            "weight": 1 + (batch.lengths > 3).long(),
            "probability": self.head(state.query).squeeze(-1).sigmoid().double(),
        }

    def metrics(self, outcome):
        is_one, p, weight = outcome["label"] == 1, outcome["probability"], outcome["weight"].astype(np.float64)
        return {
            "log_loss": UnitMetric(-np.log(np.where(is_one, p, 1 - p)), weight),
            "accuracy": UnitMetric(((p > 0.5) == is_one).astype(np.float64)),
        }

    def facts(self, outcome):
        return {"ones": float(outcome["label"].mean())}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems with two seeds each, in run folders."""
    folder = tmp_path_factory.mktemp("outcomes")
    prepared(folder / "data" / "small", made_events(num_users=40))
    for width in (2, 4):
        for seed in (0, 1):
            L.seed_everything(seed, verbose=False)
            data = SequenceDataModule("small", data_dir=str(folder / "data"), max_length=6)
            model = GRU4Rec(task=IsOdd(), embedding_dim=width)
            place = RunFolder(
                folder / f"runs/width{width}/seed{seed}", facts={"variant": f"width{width}", "seed": seed}
            )
            trainer = quiet_trainer(folder, callbacks=[place, RankingEvaluation()])  # which has nothing to rank
            trainer.fit(model, data)
            trainer.test(model, data, verbose=False)
    return folder / "runs"


def test_metrics_are_of_the_outcome(runs: Path) -> None:
    (run,), problems = find_runs([runs / "width2/seed0"])
    table = pl.read_parquet(run.folder / "outcomes.parquet")
    expected = IsOdd().metrics({name: table[name].to_numpy() for name in table.columns})
    assert not problems and not (run.folder / "ranks.parquet").exists()
    assert run.metrics["test/log_loss"] == pytest.approx(mean_of(expected["log_loss"]), abs=1e-12)
    assert run.metrics["test/accuracy"] == pytest.approx(mean_of(expected["accuracy"]), abs=1e-12)
    assert run.metrics["test/ones"] == table["label"].mean()
    assert not any("ndcg" in name for name in run.metrics)
    assert run.manifest["evaluation"]["task"] == "IsOdd" and run.manifest["predicted_units"] == table.height
    for metric in ("log_loss", "accuracy"):
        assert run.values(metric).mean() == pytest.approx(run.metrics[f"test/{metric}"], abs=1e-7)


def test_comparison_by_the_one_rule_the_lower_log_loss_first(runs: Path) -> None:
    found, _ = find_runs([runs])
    result = compare(found)
    means = [row.estimates["log_loss"].mean for row in result.rows]
    assert result.metrics == ("log_loss", "accuracy") and means == sorted(means)
    assert {len(row.runs) for row in result.rows} == {2} and result.pairs[0].p_corrected <= 1
    text = render(result, "text", True)
    assert "log_loss" in text and "log_loss@" not in text
    assert compare(found, metrics=["accuracy"]).deciding == "accuracy"
    with pytest.raises(RecsysLabError, match=r"unknown metric 'ndcg'; known: log_loss, accuracy"):
        compare(found, metrics=["ndcg"])


def test_a_weighted_mean_has_the_variance_of_its_linearisation() -> None:
    rng = np.random.default_rng(0)
    value, weight, user = rng.random(200), rng.random(200) * (rng.random(200) > 0.3), rng.integers(30, size=200)
    plain = of_weight_one(value, weight)
    assert plain.mean() == pytest.approx(np.average(value, weights=weight), abs=1e-12)
    assert estimate(plain, user).standard_error == pytest.approx(estimate(value, user, weight).standard_error, rel=1e-9)
    assert np.isnan(of_weight_one(value, np.zeros(200))).all()


def test_the_ranking_callback_leaves_such_a_task_alone(runs: Path) -> None:
    evaluation = OutcomeEvaluation()
    with pytest.raises(RecsysLabError, match="no evaluation has run yet"):
        evaluation.tables(None)
