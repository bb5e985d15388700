"""values.parquet: one table of values, from which the metrics of a run follow, and which statistics read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_data import made_events, prepared

from recsys_lab.cli import main
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.runs.comparison import compare
from recsys_lab.runs.finished import find_runs, read_run
from recsys_lab.runs.run_files import file_sha256, read_manifest, write_manifest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("values")
    data = prepared(root / "data" / "small", made_events(num_users=40, shortest=4))
    split = ["--data.split", "GlobalTemporal", "--data.split.target", "all", "--data.split.quantile", "0.7"]
    model = ["--model", "Markov", "--data.dataset", str(data.path), "--trainer.enable_progress_bar", "false"]
    measures = ["--evaluation.cutoffs", "[5, 10]", "--evaluation.measures", "[BeyondAccuracy]"]
    assert main(["fit", *model, *split, *measures, "--run.folder", str(root / "run")]) == 0
    return root / "run"


def test_each_test_metric_follows_from_the_table(run: Path) -> None:
    values = pl.read_parquet(run / "values.parquet")
    assert values.columns == ["user", "unit", "metric", "value", "weight"]
    metrics = json.loads((run / "metrics.json").read_text())
    tested = {name.removeprefix("test/"): value for name, value in metrics.items() if name.startswith("test/")}
    for (name,), rows in values.with_columns(pl.col("metric").cast(pl.String)).group_by("metric"):
        weight = rows["weight"].fill_null(1.0)
        assert (rows["value"] * weight).sum() / weight.sum() == pytest.approx(tested.pop(str(name)), rel=1e-12)
    assert tested == {}, "every metric of the test is there"


def test_what_is_of_the_whole_set_has_no_user(run: Path) -> None:
    values, ranks = pl.read_parquet(run / "values.parquet"), pl.read_parquet(run / "ranks.parquet")
    whole = values.filter(pl.col("unit").is_null())
    assert {"cold_target_share", "hidden_target_share"} < set(whole["metric"].cast(pl.String))
    assert whole["user"].null_count() == whole["weight"].null_count() == whole.height
    each = values.filter(pl.col("unit").is_not_null()).group_by("metric").len()
    assert (each["len"] == ranks.height).all() and ranks["user_id"].n_unique() < ranks.height
    one = values.filter(pl.col("metric").cast(pl.String) == "ndcg@10")
    assert one["unit"].is_sorted() and one["user"].rank("dense").equals(ranks["user_id"].rank("dense"))


def test_statistics_read_the_table(run: Path, tmp_path: Path) -> None:
    """An edited table (with its hash) changes the comparison; another cutoff follows from the ranks."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    found = read_run(folder)
    greater, ties = (found.ranks[name].to_numpy() for name in ("num_greater", "num_ties"))
    for k in (3, 5, 10):
        for name, metric in RANKING_METRICS.items():
            assert np.array_equal(found.values(name, k), metric(greater, ties, k)), f"{name}@{k}"
    before = compare(find_runs([folder])[0]).rows[0].estimates["ndcg"].mean
    table = pl.read_parquet(folder / "values.parquet").with_columns(pl.col("value") / 2)
    table.write_parquet(folder / "values.parquet")
    manifest = read_manifest(folder)
    manifest["values_sha256"] = file_sha256(folder / "values.parquet")
    write_manifest(folder, manifest)
    assert compare(find_runs([folder])[0]).rows[0].estimates["ndcg"].mean == pytest.approx(before / 2)
    assert main(["verify", str(folder)]) == 1, "the table is not what the ranks say"
