"""Click-through on the command line: prepare, fit, compare, diagnose, studies and a predictor; and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from made_impressions import made_shop

from recsys_lab.cli import main
from recsys_lab.models.tasks import NextItem
from recsys_lab.ops import click_metrics
from recsys_lab.runs.finished import read_run
from recsys_lab.serve import Predictor
from recsys_lab.serve.click_scores import click_scores, task_of
from recsys_lab.study.values import read_values, write_values
from recsys_lab.words import RecsysLabError

DATA = [
    "--data.dataset",
    "shop",
    "--data.split",
    "GlobalTemporal",
    "--data.split.quantile",
    "0.7",
    "--data.max_length",
    "5",
]
SMALL = ["--model.embedding_dim", "8", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
FIELDS = ["--data.fields", "[shown.position,shown.price]"]
TASK = ["--model", "GRU4Rec", "--model.task", "ClickThrough", "--model.task.served", "{position: '1'}"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set `shop` and three runs of two systems."""
    folder = tmp_path_factory.mktemp("clicks")
    tables = made_shop()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, table in tables.items():
            table.with_columns(pl.col("user_id").cast(pl.String)).write_csv(f"{name}.csv")
        files = ["--input", "events.csv", "--impressions", "impressions.csv", "--name", "shop"]
        assert main(["prepare", *files, "--fields", "position=categorical"]) == 0
        for variant, head, seed in (
            ("dot", "DotHead", 0),
            ("din", "TargetAttention", 0),
            ("din", "TargetAttention", 1),
        ):
            named = ["--run.variant", variant, "--seed_everything", str(seed), "--model.task.head", head]
            assert main(["fit", *DATA, *FIELDS, *TASK, *SMALL, *named]) == 0
    return folder


@pytest.fixture
def here(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shop)
    return shop


def test_a_run_and_its_files(here: Path) -> None:
    run = read_run(here / "runs/shop/dot/seed0")
    config = (run.folder / "config.yaml").read_text()
    assert "class_path: recsys_lab.data.impressions.Impressions" in config and "monitor: val/auc" in config
    assert run.evaluation["task"] == "ClickThrough" and run.evaluation["shown_hash"]
    table = run.ranks
    label, p = table["label"].to_numpy(), table["probability"].to_numpy()
    assert run.metrics["test/auc"] == pytest.approx(click_metrics.auc(label, p).value.mean(), abs=1e-12)
    assert {"place", "history_length", "is_cold", "impression"} <= set(table.columns)
    assert not any("ndcg@" in name for name in run.metrics)


def test_compare_takes_the_baselines_of_the_task(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs/shop", "--wide"]) == 0
    text = capsys.readouterr().out
    assert "in auc" in text  # which decides, though lists have an ndcg
    for name in ("constant_rate", "item_rate", "user_rate", "click_regression", "dot", "din"):
        assert name in text
    assert "popularity" not in text and "log_loss" in text and "auc@" not in text
    assert main(["compare", "runs/shop", "--metrics", "log_loss", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not any("cold_targets" in note for note in found["notes"])
    losses = [row["log_loss"] for row in found["rows"]]
    assert losses == sorted(losses)
    assert main(["compare", "runs/shop", "--metrics", "ndcg10", "--no_baselines"]) == 2
    assert "unknown metric 'ndcg10'; known: auc, log_loss" in capsys.readouterr().err


BOTH = (
    "[{class_path: recsys_lab.models.tasks.NextItem},"
    "{class_path: recsys_lab.models.tasks.click_through.ClickThrough, init_args: {served: {position: '1'}}}]"
)


def test_the_next_item_and_clicks_in_one_run(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = [
        "--model",
        "GRU4Rec",
        "--model.task",
        "MultiTask",
        "--model.task.tasks",
        BOTH,
        "--model.task.weights",
        "[1, 0.5]",
    ]
    named = ["--run.study", "both", "--run.variant", "multi"]
    assert main(["fit", *DATA, *FIELDS, *task, *SMALL, *named]) == 0
    assert "also      auc " in capsys.readouterr().err
    metrics = read_run(here / "runs/both/multi/seed0").metrics
    assert {"test/ndcg@10", "test/click_through_auc", "test/click_through_log_loss"} <= set(metrics)
    for command in (["--baselines", "popularity"], ["--metrics", "auc", "--baselines", "item_rate"]):
        assert main(["compare", "runs/both/multi", *command, "--json"]) == 0
        rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
        assert set(rows) == {"multi", command[-1]}
    clicks = ["compare", "runs/both/multi", "runs/shop/dot", "--metrics", "auc", "--no_baselines", "--json"]
    assert main(clicks) == 0
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["multi"]["auc"] == pytest.approx(metrics["test/click_through_auc"]) and len(rows) == 2
    assert main(["verify", "runs/both/multi/seed0"]) == 0
    assert main(["predict", "runs/both/multi/seed0"]) == 0
    predictor = Predictor.load(here / "runs/both/multi/seed0")
    found = click_scores(predictor, [[2, 4, 6]], [1, 2])["score"]
    assert found.is_between(0, 1, closed="none").all() and predictor.recommend([[2, 4]], k=2).height == 2
    with pytest.raises(RecsysLabError, match="predicts no clicks"):
        task_of(SimpleNamespace(task=NextItem()))


def test_what_a_study_keeps_gives_the_same_means_and_variances(here: Path, tmp_path: Path) -> None:
    from recsys_lab.statistics.rule import estimate

    run = read_run(here / "runs/shop/din/seed0")
    write_values(run, tmp_path / "kept.parquet", "val/auc", "id", 0)
    kept = read_values(tmp_path / "kept.parquet")
    assert kept.targets_hash == run.targets_hash and kept.metric_names == run.metric_names
    for metric in run.metric_names:
        a = estimate(run.values(metric), run.units["user_id"].rank("dense").to_numpy())
        b = estimate(kept.values(metric), kept.units["user_id"].to_numpy())
        assert b.mean == pytest.approx(a.mean, rel=1e-6)
        assert b.standard_error == pytest.approx(a.standard_error, rel=1e-4)
    assert not {"label", "probability", "impression"} & set(kept.ranks.columns)


def test_verify_scores_the_lists_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "runs/shop/din/seed1"]) == 0
    assert "metrics.json re-scored" in capsys.readouterr().out
    path = here / "runs/shop/din/seed1/values.parquet"
    held = path.read_bytes()
    table = pl.read_parquet(path)
    table.with_columns(value=pl.col("value") + 0.1).write_parquet(path)
    assert main(["verify", "runs/shop/din/seed1"]) == 1
    assert "metrics.json from values.parquet, test/auc" in capsys.readouterr().out
    path.write_bytes(held)


def test_calibration_by_position_and_history(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "calibration", "runs/shop/dot/seed0"]) == 0
    text = capsys.readouterr().out
    found = json.loads((here / "runs/shop/dot/seed0/calibration/calibration.json").read_text())
    table = read_run(here / "runs/shop/dot/seed0").ranks
    first = next(row for row in found["slices"] if row["slice"] == "position" and row["name"] == "1")
    of_first = table.filter(pl.col("place") == 1)
    assert first["shown"] == of_first.height and first["click_rate"] == pytest.approx(of_first["label"].mean())
    assert sum(row["shown"] for row in found["slices"] if row["slice"] == "history_length") == table.height
    assert sum(found["bins"]["count"]) == table.height and "on average: " in text
    assert "<svg" in (here / "runs/shop/dot/seed0/calibration/reliability.html").read_text()
    assert main(["slices", "runs/shop/dot"]) == 2
    assert "diagnose calibration" in capsys.readouterr().err


def test_a_predictor_gives_the_probabilities_of_the_test(here: Path) -> None:
    predictor = Predictor.load(here / "runs/shop/din/seed0")
    found = predictor.score([[2, 4, 6], []], [1, 2, 99, 4])
    assert found["item_id"].to_list() == [1, 2, 99, 4] * 2
    assert found["score"].is_between(0, 1, closed="none").all() and found["score"].n_unique() == 8
    served = predictor.score([[2, 4, 6]], [1, 2], shown={"position": ["1", "1"]})["score"]
    assert served.to_list() == pytest.approx(found["score"][:2].to_list())
    third = predictor.score([[2, 4, 6]], [1, 2], shown={"position": ["3", "3"]})["score"]
    assert (third - served).abs().min() > 0
    with pytest.raises(
        RecsysLabError, match="'colour' is no field of shown items that the model is fed; known: position"
    ):
        predictor.score([[2]], [1], shown={"colour": ["red"]})
    # those of the test: the same history, the same list
    run = read_run(here / "runs/shop/din/seed0")
    row = run.ranks.filter(pl.col("history_length") == 5).row(0, named=True)
    shown = pl.read_csv(here / "impressions.csv")
    events = pl.read_csv(here / "events.csv")
    listed = shown.filter(pl.col("user_id") == int(row["user_id"]))
    one = listed.filter(pl.col("impression_id") == _impression_of(here, row["impression"]))
    before = events.filter((pl.col("user_id") == int(row["user_id"])) & (pl.col("timestamp") < one["timestamp"][0]))
    given = {"position": one["position"].cast(pl.String).to_list(), "price": one["price"].to_list()}
    history = before.sort("timestamp", maintain_order=True)["item_id"].to_list()
    scores = predictor.score([history], one["item_id"].to_list(), shown=given)["score"].to_numpy()
    expected = run.ranks.filter(pl.col("impression") == row["impression"])["probability"].to_numpy()
    assert np.allclose(scores, expected, atol=1e-6)


def _impression_of(here: Path, first_row: int) -> int:
    from recsys_lab.data.prepare.processed import ProcessedDataset

    data = ProcessedDataset.open(here / "data/shop")
    place = int(np.searchsorted(data.arrays["shown/offsets"], first_row, side="right")) - 1
    return int(data.impression_ids[place])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("label + 1", "with a label other than 0 and 1, first 2: prepare it again with 1 for clicked and 0 for not"),
        ("no times", "without times nobody can tell which events came before an impression"),
        ("no impressions", "'bad' has no impressions: prepare it with --impressions FILE"),
        ("propensity", "--data.shown.propensity chance: "),
        (
            "leak",
            "--data.fields shown.price says the label of each shown item: it is known only afterwards, so leave it",
        ),
        ("served", "--model.task.served names 'colour'; fields of shown items that are fed: position, price"),
    ],
)
def test_bad_input_is_one_line(change: str, message: str, here: Path, tmp_path: Path, capsys) -> None:
    tables = made_shop(users=20)
    shown = tables["impressions"]
    if change == "label + 1":
        shown = shown.with_columns(pl.col("label") * 2)
    if change == "no times":
        shown = shown.drop("timestamp")
    if change == "leak":
        shown = shown.with_columns(price=3 + pl.col("label"))
    if change == "propensity":
        shown = shown.with_columns(chance=pl.col("chance") * 0)
    tables["events"].write_csv(tmp_path / "events.csv")
    shown.write_csv(tmp_path / "shown.csv")
    files = ["--input", str(tmp_path / "events.csv"), "--name", "bad", "--data_dir", str(tmp_path)]
    files += [] if change == "no impressions" else ["--impressions", str(tmp_path / "shown.csv")]
    fields = [] if change == "no impressions" else FIELDS
    assert main(["prepare", *files, *(["--fields", "position=categorical"] if fields else [])]) == 0
    more = ["--data.shown", "Impressions", "--data.shown.propensity", "chance"] if change == "propensity" else []
    task = TASK[:4] if change == "no impressions" else [*TASK[:4], "--model.task.served", "{colour: red}"]
    task = task if change in ("served", "no impressions") else TASK
    data = ["--data.data_dir", str(tmp_path), "--run.folder", str(tmp_path / "run"), *DATA, "--data.dataset", "bad"]
    capsys.readouterr()
    assert main(["fit", *data, *fields, *task, *SMALL, *more]) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(err) == 1 and message in err[0]
    assert not (tmp_path / "run/metrics.csv").exists()


def test_samples_and_task_must_agree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *DATA, "--model", "GRU4Rec", "--data.shown", "Impressions", *SMALL]) == 2
    assert "--data.shown is for --model.task ClickThrough, and the task is NextItem" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "recommend --history 1", "export --output out", "diagnose shuffle"])
def test_what_needs_lists_is_refused(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = command.replace("diagnose shuffle", "diagnose_shuffle").split()
    assert main([*first.split("_"), "runs/shop/dot/seed0", *rest]) == 2
    assert "ranks no items" in capsys.readouterr().err and not (here / "out").exists()
