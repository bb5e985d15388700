"""scripts/seed_causes.py: each seed moves its own cause alone; the report finds in made values what was put in."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from recsys_lab.cli import main

SCRIPTS = Path(__file__).parents[2] / "scripts"
USERS, EPOCHS = 400, 6


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded("seed_causes")


def test_each_fit_is_planned_once(script: ModuleType) -> None:
    names = [seeds.name for seeds in script.planned(3)]
    assert names == ["0-0-0", "1-1-1", "1-0-0", "0-1-0", "0-0-1", "2-2-2", "2-0-0", "0-2-0", "0-0-2"]


def test_each_seed_moves_its_own_cause(script: ModuleType, small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen in what the first batch trains: its weights, its windows, and its masks."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    model = {"embedding_dim": 4, "num_layers": 1, "num_heads": 1, "dropout": 0.5, "optimization": {"lr": 0.1}}
    config: dict[str, Any] = {
        "data": {"dataset": str(small_folder), "batch_size": 4, "max_length": 5},
        "model": {"init_args": model},
        "trainer": {"max_epochs": 1},
    }
    seen: dict[tuple[int, int, int], tuple[Any, Any, Any]] = {}

    class Look(script.EachEpoch):  # type: ignore[misc, name-defined]
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                weights = pl_module.embedding.items.weight.detach().clone()
                self.first = weights, batch.item_ids.clone(), pl_module.run_seed
                seen[self.key] = self.first

    monkeypatch.setattr(script, "EachEpoch", Look)
    found = {}
    for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)):
        Look.key = key
        found[key] = script.fit(config, script.Seeds(*key), "data")
    weights, items, draws = seen[0, 0, 0]

    def same(key: tuple[int, int, int]) -> tuple[bool, bool, bool]:
        of = seen[key]
        return bool((of[0] == weights).all()), of[1].equal(items), of[2] == draws

    assert same((1, 0, 0)) == (False, True, True)
    assert same((0, 1, 0)) == (True, False, True)
    assert same((0, 0, 1)) == (True, True, False)
    frame = found[0, 0, 0]
    assert frame["epoch"].to_list() == [1, 1, -1, -1] and frame["part"].to_list() == ["val", "test"] * 2
    assert frame["values"][0].to_list() == frame["values"][2].to_list(), "the mean of one epoch's weights is that epoch"


def test_one_seed_for_all_is_the_fit_of_the_command_line(
    script: ModuleType, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    model = {"embedding_dim": 4, "num_heads": 1, "dropout": 0.5, "optimization": {"lr": 0.1, "schedule": "cosine"}}
    config: dict[str, Any] = {
        "data": {"dataset": str(small_folder), "batch_size": 4, "max_length": 5},
        "model": {"class_path": "SASRec", "init_args": model},
        "trainer": {"max_epochs": 2},
    }
    frame = script.fit(config, script.Seeds(3, 3, 3), "data")
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    more = ["--checkpoint.monitor", "null", "--trainer.accelerator", "cpu", "--run.folder", str(tmp_path / "run")]
    assert main(["fit", "--config", str(tmp_path / "fit.yaml"), "--seed_everything", "3", *more]) == 0
    tested = json.loads((tmp_path / "run" / "metrics.json").read_text())["test/ndcg@10"]
    last = frame.filter((pl.col("epoch") == 2) & (pl.col("part") == "test"))["values"][0]
    assert last.mean() == pytest.approx(tested, rel=1e-5)


def made_fit(folder: Path, name: str, quality: float, rises_until: int) -> None:
    """Values of users that are hit or missed by themselves, around a quality; validation is best at one epoch."""
    draws, rows = np.random.default_rng([int(part) for part in name.split("-")]), []
    for epoch in [*range(1, EPOCHS + 1), -1]:
        at = 0.1 * (1 - abs(epoch - rises_until) / 20) if epoch > 0 else 0.1
        for part, mean in (("val", at + quality), ("test", 0.1 + quality + 0.001 * epoch)):
            values = mean + 0.01 * draws.standard_normal(USERS)
            rows.append({"epoch": epoch, "part": part, "values": values.astype(np.float32)})
    pl.DataFrame(rows).write_parquet(folder / f"{name}.parquet")


def test_the_report_finds_what_was_put_in(script: ModuleType, tmp_path: Path) -> None:
    report = loaded("seed_causes_report")
    for seeds in script.planned(10):  # the draws alone change how good a fit is
        made_fit(tmp_path, seeds.name, 0.01 * np.cos(seeds.draws), rises_until=4)
    fits = report.Fits(tmp_path)
    assert [len(fits.of(cause)) for cause in report.CAUSES] == [10] * 4
    by_validation = report.CHOICES["best epoch by validation"]
    chosen = {c: [report.choose_epoch(fits, name, by_validation) for name in fits.of(c)] for c in report.CAUSES}
    truth = float(np.std([0.01 * np.cos(seed) for seed in range(10)], ddof=1))
    sd, low, high = report.deviation(chosen["all"])
    assert low < truth < high and sd == pytest.approx(truth, rel=0.2)
    ratio, low, high = report.share(chosen["draws"], chosen["all"])
    assert low < 1 < high and ratio == pytest.approx(1, rel=0.2)
    for cause in ("weights", "order"):
        assert report.share(chosen[cause], chosen["all"])[2] < 0.2
    values = np.stack([fits.values[name]["test"][-1] for name in fits.of("all")])
    users, left, p = report.of_users_and_fits(values)
    assert users == pytest.approx(0.01 / USERS**0.5, rel=0.1) and left == pytest.approx(truth, rel=0.2) and p < 1e-6
    of_weights = np.stack([fits.values[name]["test"][-1] for name in fits.of("weights")])
    assert report.of_users_and_fits(of_weights)[2] > 0.01
    for ratio, low, high in report.shares_of_users(fits, report.CAUSES).values():  # users are as noisy everywhere
        assert low <= ratio <= high and ratio == pytest.approx(1, abs=0.1)
    one = fits.values["0-0-0"]
    draws = np.random.default_rng(0)
    assert report.of_the_choice(one["val"], one["test"], draws) < 1e-9, "0.005 of a step is seen by every draw of users"
    assert report.of_the_choice(one["test"][:1] + 0 * one["val"], one["test"], draws) == 0.0, "the first of equals"
    text = report.report(fits)
    assert all(
        part in text for part in ("| dropout | 10 | 0.1", "| last epoch | 10 |", "| users that choose the epoch |")
    )


def test_a_choice_is_smoothed() -> None:
    report = loaded("seed_causes_report")
    curve = np.array([0.0, 3.0, 0.0, 2.0, 2.0, 2.0, 2.0])
    assert curve.argmax() == 1 and report.smoothed(curve, 3).argmax() == 4
    assert report.smoothed(curve, 3)[[0, -1]].tolist() == [1.5, 2.0]
