"""Every metric, every rank and every recommendation is the same on one, two and three processes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from evaluate import EXCLUDE_SEEN, evaluate, evaluate_clicks, evaluate_labels, evaluation_data, fit_all
from made_impressions import prepared_shop, typed_shop
from own_process import alone
from polars.testing import assert_frame_equal
from small_data import FrameSource, made_events, quiet_trainer

from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.reading.source import RawTables
from recsys_lab.models import SASRec
from recsys_lab.models.optimization import Optimization

pytestmark = pytest.mark.process
MODELS = ("sasrec", "markov", "popularity")


class SourceWithFeatures(FrameSource):
    """Items of three colours, some of none."""

    def tables(self, raw_dir: Path) -> RawTables:
        items = self.frame.select(pl.col("item_id").unique().sort())
        colours = items.with_columns(
            colour=pl.when(pl.col("item_id") % 5 > 0).then(pl.format("colour {}", pl.col("item_id") % 3))
        )
        return RawTables(self.frame.lazy(), items=colours.lazy())


def hard_events() -> pl.DataFrame:
    """Twenty-five users; items that come up only at the end (cold), and one user who takes the same item twice in one
    second."""
    frame = made_events(num_users=25, num_items=25, shortest=6, longest=20, seed=1)
    late = int(frame["timestamp"].quantile(0.85) or 0)
    is_cold = (pl.col("timestamp") >= late) & (pl.col("item_id") % 6 == 0)
    frame = frame.with_columns(item_id=pl.when(is_cold).then(pl.col("item_id") + 1_000).otherwise("item_id"))
    last = frame.filter(pl.col("user_id") == "u007").tail(1)
    return pl.concat([frame, last, last])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("prepared") / "hard"
    return prepare(SourceWithFeatures(hard_events(), "hard"), PrepareSettings(), output, output.parent / "raw").path


@pytest.fixture(scope="module")
def output(folder: Path, made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    return made_once("processes", lambda path: evaluate_on_many(folder, path))


def evaluate_on_many(folder: Path, path: Path) -> None:
    """By one, two and three processes."""
    checkpoint = path / "sasrec.ckpt"
    prepared_shop(path, typed_shop())
    trainer = quiet_trainer(path, max_epochs=15)
    model = SASRec(embedding_dim=16, num_layers=1, dropout=0.0, optimization=Optimization(lr=0.02))
    trainer.fit(model, evaluation_data(str(folder)))
    trainer.save_checkpoint(checkpoint)
    script = str(Path(__file__).with_name("evaluate.py"))
    running = [
        subprocess.Popen(
            [sys.executable, script, str(folder), str(checkpoint), str(path), str(processes)],
            env=alone(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for processes in (2, 3)
    ]
    try:
        evaluate(str(folder), str(checkpoint), path, processes=1)
        evaluate_clicks(path, path, processes=1)
        evaluate_labels(str(folder), path, processes=1)
        fit_all(path, path, processes=1)
        for process in running:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in running:
            process.kill()


def read(output: Path, processes: int, name: str) -> dict[str, Any]:
    return json.loads((output / str(processes) / f"{name}.json").read_text())


def test_the_data_is_hard(folder: Path, output: Path) -> None:
    """Users and targets that neither 2 nor 3 divides, cold targets, ties, hidden targets, equal keys."""
    data = evaluation_data(str(folder))
    for targets in (data.split_result.val, data.split_result.test):
        for count in (len(targets), len(set(targets.user_index.tolist())), data.processed.num_users):
            assert count % 2 and count % 3
    ranks = pl.read_parquet(output / "1" / "markov-history.test.ranks.parquet")
    assert ranks["is_cold"].any() and ranks["is_hidden"].any() and (ranks["num_ties"] > 0).any()
    assert ranks.select("user_id", "query_time", "target_item_id").is_duplicated().any()


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("exclude_seen", EXCLUDE_SEEN)
@pytest.mark.parametrize("model", MODELS)
def test_every_metric_is_equal(model: str, exclude_seen: str, processes: int, output: Path) -> None:
    one, many = (read(output, n, f"{model}-{exclude_seen}") for n in (1, processes))
    assert one.keys() == many.keys()
    for stage in ("val", "test"):
        named = {name.removeprefix(f"{stage}/") for name in one}
        assert named >= {"hit_rate@5", "ndcg@5", "mrr@5", "auc", "mean_rank", "cold_target_share", "coverage@5"}
        assert named >= {"gini@5", "entropy@5", "novelty@5", "diversity@5", "serendipity@5", "debiased_hit_rate@5"}
        assert named >= {"repeat_share@5", "repeat_hit_rate@5", "explore_hit_rate@5", "repeat_target_share"}
        assert named >= {"nll", "brier", "ece", "ece_equal_mass", "auc_pooled", "gauc", "probability_share"}
    for name, value in one.items():
        assert math.isclose(value, many[name], rel_tol=0, abs_tol=1e-6), name


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("exclude_seen", EXCLUDE_SEEN)
@pytest.mark.parametrize("model", MODELS)
def test_ranks_and_recommendations_are_equal(model: str, exclude_seen: str, processes: int, output: Path) -> None:
    for file in ("val.ranks", "test.ranks", "recommended"):
        one, many = (
            pl.read_parquet(output / str(n) / f"{model}-{exclude_seen}.{file}.parquet") for n in (1, processes)
        )
        assert len(one) > 20
        # scores are float32, which batches of other sizes round otherwise: at 2.8, 1e-6 is four units in the last place
        assert_frame_equal(one, many, check_exact=False, abs_tol=1e-6, rel_tol=1e-6)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("model", ["clicks", "item_rate"])
def test_clicks_are_equal(model: str, processes: int, output: Path) -> None:
    one, many = (read(output, n, model) for n in (1, processes))
    assert (
        one.keys() == many.keys() >= {"test/auc", "test/gauc", "test/log_loss", "test/ndcg", "test/calibration_error"}
    )
    for name, value in one.items():  # probabilities of a network are rounded otherwise in batches of other sizes
        assert math.isclose(value, many[name], rel_tol=0, abs_tol=1e-9 if model == "item_rate" else 1e-6), name
    one, many = (pl.read_parquet(output / str(n) / f"{model}.values.parquet") for n in (1, processes))
    assert_frame_equal(one, many, check_exact=False, abs_tol=1e-5)


@pytest.mark.parametrize("processes", [2, 3])
def test_labels_are_equal(processes: int, output: Path) -> None:
    one, many = (read(output, n, "labels") for n in (1, processes))
    assert {"test/macro_f1", "test/accuracy", "test/log_loss", "test/calibration_error"} <= one.keys() == many.keys()
    for name, value in one.items():
        assert math.isclose(value, many[name], rel_tol=0, abs_tol=1e-9), name
    values = [pl.read_parquet(output / str(n) / "labels.values.parquet") for n in (1, processes)]
    assert_frame_equal(*values, check_exact=False, abs_tol=1e-9)


@pytest.mark.parametrize("processes", [2, 3])
def test_tasks_together_take_the_steps_of_one_process(processes: int, output: Path) -> None:
    """Batches, shown lists and their weights are shared out; each task is weighed by its own targets."""
    one, *many = (
        torch.load(output / f"{n}/fit-rank{rank}.pt", weights_only=False)
        for n, rank in ((1, 0), *((processes, rank) for rank in range(processes)))
    )
    assert {"test/ndcg@5", "test/click_through_auc", "test/event_type_log_loss"} <= one["metrics"].keys()
    assert {"train/loss_next_item", "train/loss_click_through", "train/loss_event_type"} <= one["losses"].keys()
    for other in many:
        assert other["steps"] == one["steps"] > 10
        for name, value in one["weights"].items():
            assert torch.equal(other["weights"][name], many[0]["weights"][name]), f"{name} differs between processes"
            torch.testing.assert_close(other["weights"][name], value, rtol=0, atol=1e-5)
        for kind in ("losses", "metrics"):
            assert other[kind] == pytest.approx(one[kind], abs=1e-5)


def test_the_settings_matter(output: Path) -> None:
    """Otherwise equal numbers would say nothing."""
    hidden, shown = (read(output, 1, f"markov-{exclude_seen}") for exclude_seen in EXCLUDE_SEEN)
    assert hidden["test/repeat_share@5"] == 0 < shown["test/repeat_share@5"] < 1
    assert hidden["test/repeat_hit_rate@5"] == 0 < shown["test/repeat_hit_rate@5"]
    assert hidden["test/probability_share"] < shown["test/probability_share"] < 1
    popular = read(output, 1, "popularity-none")
    assert popular["test/serendipity@5"] == 0 < shown["test/serendipity@5"]
    assert popular["test/coverage@5"] < shown["test/coverage@5"]
