"""Click-through on the command line: prepare, fit, compare, diagnose, studies and a predictor; and bad input."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from made_impressions import made_shop, typed_shop

from recsys_lab.cli import main
from recsys_lab.config import read_yaml
from recsys_lab.models.tasks import NextItem
from recsys_lab.ops import click_metrics
from recsys_lab.runs.finished import read_run
from recsys_lab.serve import Predictor
from recsys_lab.serve.click_scores import click_scores, task_of
from recsys_lab.serve.labels import predict_labels
from recsys_lab.study.plan import make_plan, read_study
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.results import read_results
from recsys_lab.study.values import read_values, values_file, write_values
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
    tables = typed_shop()
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


ALL = (
    "[{class_path: recsys_lab.models.tasks.NextItem},"
    "{class_path: recsys_lab.models.tasks.click_through.ClickThrough, init_args: {served: {position: '1'}}},"
    "{class_path: recsys_lab.models.tasks.SequenceLabels, init_args: {field: event_type}}]"
)
WEIGHED = ["--model", "GRU4Rec", "--model.task", "MultiTask", "--model.task.tasks", ALL]
WEIGHED += ["--model.task.weights", "[1, 0.5, 0.5]"]


@pytest.fixture(scope="module")
def all_three(shop: Path) -> str:
    """What the fit of the run `both/multi` says, of the next item, clicks and labels."""
    told = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(told):
        patch.chdir(shop)
        named = ["--run.study", "both", "--run.variant", "multi", "--checkpoint.monitor", "val/click_through_log_loss"]
        assert main(["fit", *DATA, *FIELDS, *WEIGHED, *SMALL, *named]) == 0
    return told.getvalue()


def test_all_three_in_one_run(all_three: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "also      click_through auc " in all_three and "also      event_type log_loss " in all_three
    run = read_run(here / "runs/both/multi/seed0")
    config = read_yaml((run.folder / "config.yaml").read_text())
    assert config["checkpoint"]["mode"] == "min" and config["early_stopping"]["mode"] == "max"
    metrics = run.metrics
    assert {"test/ndcg@10", "test/click_through_auc", "test/event_type_log_loss"} <= set(metrics)
    assert [one.evaluation["name"] for one in run.measured] == ["click_through", "event_type"]
    # each task has its table, with its own baselines, and the runs of that task alone beside it
    asked = ["--baselines", "popularity", "item_rate", "previous_label", "--json"]
    assert main(["compare", "runs/both/multi", "runs/shop/dot", *asked]) == 0
    items = json.loads(capsys.readouterr().out)
    tables = [{row["variant"]: row for row in found["rows"]} for found in (items, *items["also"])]
    assert [set(rows) for rows in tables] == [
        {"multi", "popularity"},
        {"multi", "dot", "item_rate"},
        {"multi", "previous_label"},
    ]
    assert tables[1]["multi"]["auc"] == pytest.approx(metrics["test/click_through_auc"])
    assert tables[2]["multi"]["log_loss"] == pytest.approx(metrics["test/event_type_log_loss"])
    for name, count in (("auc", 1), ("click_through_auc", 1), ("log_loss", 2), ("accuracy", 1), ("ndcg", 2)):
        assert main(["compare", "runs/both/multi", "--metrics", name, "--no_baselines", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [len(one["rows"]) for one in (found, *found.get("also", []))] == [1] * count
    assert main(["compare", "runs/both/multi", "runs/shop/dot", "--baseline", "dot", "--no_baselines"]) == 0
    text = capsys.readouterr().out
    assert "ClickThrough" in text and "SequenceLabels of event_type" in text and "minus dot, in auc" in text
    assert main(["compare", "runs/both/multi", "--no_baselines", "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["compare", "runs/both/multi", "--metrics", "auk", "--no_baselines"]) == 2
    assert main(["compare", "runs/both/multi", "--baseline", "dog", "--no_baselines"]) == 2
    assert "'dog' is not among the runs" in capsys.readouterr().err
    assert main(["diagnose", "calibration", "runs/both/multi/seed0", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["also"]) == {"click_through", "event_type"}
    assert (run.folder / "calibration/click_through/reliability.html").is_file()
    assert main(["verify", "runs/both/multi/seed0"]) == 0
    assert main(["predict", "runs/both/multi/seed0"]) == 0
    predictor = Predictor.load(here / "runs/both/multi/seed0")
    assert predict_labels(predictor, [[2, 4, 6]])["probability"].sum() == pytest.approx(1)
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


def test_a_study_reports_each_task_beside_its_single_tasks(all_three: str, here: Path, tmp_path: Path) -> None:
    """From what was kept of the runs: no folder of them is looked at."""
    folder = tmp_path / "study"
    (folder / "values").mkdir(parents=True)
    settings = ["name: study", "question: Does it help?", "seeds: 2", "select: val/ndcg@10", "axes:", "  task:"]
    tasks = f"{{model.task: MultiTask, model.task.tasks: {ALL}}}"
    settings += ["    clicks: {model.task: ClickThrough}", f"    all: {tasks}", "base:", "  model: GRU4Rec"]
    settings += [f"  {name[2:]}: {value}" for name, value in zip(DATA[::2], DATA[1::2], strict=True)]
    (folder / "study.yaml").write_text("\n".join(settings))
    study = read_study(folder, tmp_path / "runs")
    for variant in make_plan(study, Resolver()).variants:
        for seed in (0, 1):
            place = here / f"runs/{'shop/din' if variant.label == 'clicks' else 'both/multi'}/seed{seed}"
            run = read_run(place if place.is_dir() else place.with_name("seed0"))
            write_values(run, values_file(study.file, variant.label, seed), study.select, variant.identity, seed)
    kept = sorted(path.name for path in (folder / "values/tasks").iterdir())
    assert kept == [f"all-seed{seed}-{name}.parquet" for seed in (0, 1) for name in ("click_through", "event_type")]
    from_folder = [read_run(here / "runs/shop/dot/seed0")]  # beside what was kept: a row for each shown item
    results = read_results(
        make_plan(study, Resolver()),
        lambda runs: (from_folder if runs[0].evaluation.get("task") == "ClickThrough" else [], []),
    )
    found = {block.decided_by: {line.label for line in block.lines} for block in results.blocks}
    assert found == {"auc": {"clicks", "all", "dot"}, "ndcg@10": {"all"}, "log_loss": {"all"}}
    whole = next(block for block in results.blocks if block.decided_by == "auc")
    row = whole.comparison.rows[[line.name for line in whole.lines].index("all")]
    expected = read_run(here / "runs/both/multi/seed0").metrics["test/click_through_auc"]
    assert row.estimates["auc"].mean == pytest.approx(expected, rel=1e-6) and whole.effects
    assert sum(not record.is_automatic for record in results.records) == 4
    assert {record.block for record in results.records} <= {b.key for b in results.blocks}


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
    with pytest.raises(RecsysLabError, match="user 0 has an event at 20, after the query_time 15: leave out"):
        predictor.score([[2, 4]], [1], times=[[10, 20]], query_time=15)
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
    watched = ["--checkpoint.monitor", "val/ndcg@10"]
    assert main(["fit", *DATA, *FIELDS, *TASK, *SMALL, *watched, "--run.folder", "runs/never"]) == 2
    assert "--checkpoint.monitor val/ndcg@10: nothing logs that; known: val/auc, val/log_l" in capsys.readouterr().err
    assert not (here / "runs/never").exists()
    assert main(["compare", "runs/shop", "--baselines", "popularity", "--seed", "1"]) == 0
    assert "left out: baseline popularity: it is none of what these runs predict" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "recommend --history 1", "export --output out", "diagnose shuffle"])
def test_what_needs_lists_is_refused(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = command.replace("diagnose shuffle", "diagnose_shuffle").split()
    assert main([*first.split("_"), "runs/shop/dot/seed0", *rest]) == 2
    assert "ranks no items" in capsys.readouterr().err and not (here / "out").exists()
