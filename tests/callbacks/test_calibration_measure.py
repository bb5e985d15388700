"""Calibration under the Trainer: a calibrated model, an over-confident one, and the temperature that mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer
from torch import Tensor

from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation.calibration import Calibration
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.temperature import fit_temperature
from recsys_lab.models import NextItemModule, Popularity
from recsys_lab.models.blocks.scoring import WholeRows
from recsys_lab.words import RecsysLabError

NUM_ITEMS, NUM_USERS = 8, 25_000


def transitions() -> np.ndarray:
    """(items, items): how likely each item follows; some items say much of the next one, some little."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(NUM_ITEMS, NUM_ITEMS)) * np.repeat([0.5, 1.5, 3.0, 4.0], 2)[:, None]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


class Knows(NextItemModule):
    """Scores are the log of the true probabilities, times `confidence`."""

    def __init__(self, confidence: float = 1.0) -> None:
        super().__init__()
        self.confidence = confidence

    def build(self, spec: DataSpec) -> None:
        self.anything = torch.nn.Parameter(torch.zeros(()))
        table = torch.zeros(NUM_ITEMS + 1, NUM_ITEMS + 1)
        table[1:, 1:] = torch.from_numpy(np.log(transitions()))
        self.register_buffer("table", table)
        self.scorer = WholeRows(self.log_probabilities, spec.num_rows)

    def query(self, batch: Batch) -> Tensor:
        return batch.item_ids[torch.arange(len(batch)), batch.lengths - 1]

    def log_probabilities(self, query: Tensor) -> Tensor:
        return self.table[query] * self.confidence


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SequenceDataModule:
    """Three events per user: one trains, one validates, one tests."""
    rng = np.random.default_rng(0)
    item = rng.integers(NUM_ITEMS, size=NUM_USERS)
    walks, steps = [item], transitions().cumsum(axis=1)
    for _ in range(2):
        item = (rng.random(NUM_USERS)[:, None] > steps[item]).sum(axis=1).clip(max=NUM_ITEMS - 1)
        walks.append(item)
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(NUM_USERS), 3),
            "item_id": np.stack(walks, axis=1).ravel() + 1,
            "timestamp": np.tile([1, 2, 3], NUM_USERS),
        }
    )
    data = prepared(tmp_path_factory.mktemp("world") / "world", frame, "world")
    assert data.item_ids_raw.to_list() == list(range(1, NUM_ITEMS + 1))  # item ids are rows of the table
    return SequenceDataModule(str(data.path), exclude_seen="none", eval_batch_size=4096)


@pytest.fixture
def tested(world: SequenceDataModule, tmp_path: Path) -> Callable[..., dict[str, float]]:
    def test(model: NextItemModule, temperature: float = 1.0) -> dict[str, float]:
        evaluation = RankingEvaluation((5,), measures=[Calibration(temperature)])
        quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, world, verbose=False)
        return {name.removeprefix("test/"): value for name, value in evaluation.last_metrics.items()}

    return test


def test_a_calibrated_model_has_no_calibration_error(tested: Callable[..., dict[str, float]]) -> None:
    found = tested(Knows())
    assert found["ece"] < 0.01 and found["ece_equal_mass"] < 0.01 and found["probability_share"] == 1
    assert found["confidence"] == pytest.approx(found["top_accuracy"], abs=0.01)


def test_an_over_confident_one_has_and_temperature_mends_it(
    world: SequenceDataModule, tested: Callable[..., dict[str, float]], tmp_path: Path
) -> None:
    model, right = Knows(3.0), tested(Knows())
    before = tested(model)
    assert before["ece"] > 0.05 and before["confidence"] > before["top_accuracy"] + 0.05
    evaluation = RankingEvaluation((5,), measures=[Calibration()])
    kept = evaluation.measures
    fit = fit_temperature(quiet_trainer(tmp_path, callbacks=[evaluation]), model, world)
    assert fit.temperature == pytest.approx(3.0, rel=0.03) and fit.nll_after < fit.nll_before and fit.steps < 10
    assert evaluation.measures is kept
    after = tested(model, fit.temperature)
    assert after["ece"] < 0.01 and after["nll"] == pytest.approx(right["nll"], abs=1e-3)
    # what only depends on the order of a row's items is as it was
    assert after["gauc"] == before["gauc"] == right["gauc"] == pytest.approx(right["auc"])
    assert after["top_accuracy"] == before["top_accuracy"]


def test_targets_without_a_probability_are_left_out(tmp_path: Path) -> None:
    """Cold ones, and those in the history that ranking hides."""
    frame = made_events(num_users=9, num_items=12, shortest=8, longest=16, seed=3)
    late = int(frame["timestamp"].quantile(0.9) or 0)
    is_cold = (pl.col("timestamp") >= late) & (pl.col("item_id") % 3 == 0)
    frame = frame.with_columns(item_id=pl.when(is_cold).then(pl.col("item_id") + 1_000).otherwise("item_id"))
    path = str(prepared(tmp_path / "d", frame).path)
    data = SequenceDataModule(path, split=GlobalTemporal(quantile=0.7, target="all"), max_length=5)
    evaluation = RankingEvaluation((5,), measures=[Calibration()])
    model = Popularity()
    quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, data, verbose=False)
    found = evaluation.last_metrics
    ranks = evaluation.ranks_frame(data)
    assert ranks["is_cold"].any() and ranks["is_hidden"].any()
    reachable = ranks.filter(pl.col("rank").is_finite())
    assert found["test/probability_share"] == len(reachable) / len(ranks) < 1
    unreachable = found["test/cold_target_share"] + found["test/hidden_target_share"]
    assert found["test/probability_share"] == pytest.approx(1 - unreachable)
    pairs = reachable.group_by("user_id").agg(
        ((pl.col("num_candidates") - pl.col("rank")).sum() / (pl.col("num_candidates") - 1).sum()).alias("auc"),
        pl.len(),
    )
    assert found["test/gauc"] == pytest.approx((pairs["auc"] * pairs["len"]).sum() / pairs["len"].sum())
    nll = []
    counts, events = data.item_counts.numpy().astype(float), data.events
    for user, position in zip(data.split_result.test.user_index, data.split_result.test.position, strict=True):
        history = events.item_ids[events.offsets[user] : position]
        allowed = counts > 0
        allowed[history] = False
        if allowed[events.item_ids[position]]:
            scores = np.where(allowed, model.score(model.query(one(data, position)))[0].numpy(), -np.inf)
            nll.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[events.item_ids[position]])
    assert len(nll) == len(reachable) and found["test/nll"] == pytest.approx(np.mean(nll), rel=1e-5)


def one(data: SequenceDataModule, position: int) -> Batch:
    dataset = data.test_dataloader().dataset
    batch: Batch = dataset[np.flatnonzero(dataset.windows.stop == position)]  # type: ignore[attr-defined]
    return batch


def test_a_trainer_without_evaluation_is_refused(world: SequenceDataModule, tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match="needs a trainer with a RankingEvaluation"):
        fit_temperature(quiet_trainer(tmp_path), Knows(), world)


@pytest.mark.parametrize(("settings", "message"), [({"temperature": 0.0}, "above 0"), ({"num_bins": 0}, "at least 1")])
def test_impossible_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        Calibration(**settings)  # type: ignore[arg-type]
