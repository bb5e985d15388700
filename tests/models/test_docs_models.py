"""The examples of docs/models.md run as they stand there: an encoder, a loss, a task, a metric and a source from
outside the package."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from found_models import ENCODERS, VARIANTS, built
from small_data import made_events, prepared

import recsys_lab.models.encoders
from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.models.checkpoint import read_checkpoint, vocabulary_in
from recsys_lab.ops.query_metrics import metric_names, metric_values
from recsys_lab.ops.rank_metrics import hit_rate
from recsys_lab.words import RecsysLabError

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
QUIET = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = dict(re.findall(r"^my_package/(\w+\.py):\n\n```python\n(.*?)```$", PAGE, re.DOTALL | re.MULTILINE))
    assert set(files) == {"encoder.py", "loss.py", "task.py", "metric.py", "rank_biased.py", "source.py"}
    (tmp_path / "my_package").mkdir()
    for name, text in {**files, "__init__.py": ""}.items():
        (tmp_path / "my_package" / name).write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    prepared(tmp_path / "data" / "ml-100k", made_events(num_users=30), "ml-100k")
    return tmp_path


def test_every_encoder_has_its_row_and_its_configuration() -> None:
    """And a place in the studies that are about all of them."""
    root = Path(__file__).parents[2]
    names, rows = {cls.__name__ for cls in ENCODERS}, {}
    for line in PAGE.partition("| name | what it is |")[2].partition("\n\n")[0].splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows |= {name: cells[2:] for name in re.findall(r"`(\w+)`", cells[0])}
    assert rows.keys() == names
    for cls in ENCODERS:
        trains_on, goes_on = rows[cls.__name__]
        assert trains_on.startswith("last positions") is built(cls).last_positions_only
        able = any(built(one, **settings).start(1) for one, settings in VARIANTS.values() if one is cls)
        assert bool(goes_on) is able, cls.__name__
    configs = [yaml.safe_load(file.read_text())["model"] for file in root.glob("configs/ml-100k/*.yaml")]
    assert names - {model["class_path"] for model in configs} == set()
    for study in ("board", "what-can-it-learn", "explanations"):
        plan = yaml.safe_load((root / "experiments" / study / "study.yaml").read_text())
        found = {settings.get("model", plan["base"]["model"]) for settings in plan["axes"]["encoder"].values()}
        assert names - found == set(), study


def test_the_example(package: Path) -> None:
    (block,) = re.findall(r"All of them together:\n\n```bash\n(.*?)```", PAGE, re.DOTALL)
    fit, test = (shlex.split(line)[1:] for line in block.strip().splitlines())
    fit[fit.index("ml-100k")] = str(package / "data" / "ml-100k")
    assert main([*fit, *QUIET]) == 0
    manifest = json.loads((package / "mine" / "manifest.json").read_text())
    assert manifest["loss"] == "Hinge + UniformNegatives" and manifest["model"] == "MeanOfHistory"
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
    assert main(test) == 0


def test_the_metric(package: Path) -> None:
    """Against a count over the ranks that the test left."""
    folder = package / "data" / "ml-100k"
    line = ["fit", "--model", "GRU4Rec", "--data.dataset", str(folder), "--run.folder", "run", *QUIET]
    assert (
        main([*line, "--evaluation.measures+", "{class_path: my_package.metric.TailHitRate, init_args: {most: 6}}"])
        == 0
    )
    data = SequenceDataModule(str(folder))
    data.setup("test")
    ranks = pl.read_parquet("run/ranks.parquet")
    position = {raw: place for place, raw in enumerate(data.processed.item_ids_raw.to_list(), 1)}
    counts = data.item_counts[[position[raw] for raw in ranks["target_item_id"].to_list()]].numpy()
    tail = ranks.filter(pl.Series(counts <= 6))
    assert 0 < len(tail) < len(ranks)
    expected = hit_rate(tail["num_greater"].to_numpy(), tail["num_ties"].to_numpy(), 10).mean()
    found = json.loads(Path("run/metrics.json").read_text())
    assert found["test/tail_hit_rate@10"] == pytest.approx(expected, abs=1e-9)


def test_the_rank_metric(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against a count over the ranks that the test left."""
    (block,) = re.findall(r"```bash\n(recsys-lab fit .*?RankBiased.*?)```", PAGE, re.DOTALL)
    fit, compare, slices = (shlex.split(line)[1:] for line in block.strip().splitlines())
    fit[fit.index("ml-100k")] = str(package / "data" / "ml-100k")
    watch = ["--early_stopping.monitor", "val/rank_biased@10", "--early_stopping.mode", "max"]
    assert main([*fit, *QUIET, *watch]) == 0
    ranks = pl.read_parquet("ranked/ranks.parquet").filter(pl.col("num_greater") < 10)
    places = [range(greater, greater + ties + 1) for greater, ties in ranks.select("num_greater", "num_ties").rows()]
    worth = [sum(0.2 * 0.8**place for place in of_target if place < 10) / len(of_target) for of_target in places]
    expected = sum(worth) / json.loads(Path("ranked/manifest.json").read_text())["ranked_targets"]
    found = json.loads(Path("ranked/metrics.json").read_text())
    assert found["test/rank_biased@10"] == pytest.approx(expected, abs=1e-9) and 0 < found["val/rank_biased@10"] < 0.2
    values = pl.read_parquet("ranked/values.parquet").filter(pl.col("metric").cast(pl.String) == "rank_biased@10")
    assert values["value"].mean() == pytest.approx(expected, abs=1e-9)

    capsys.readouterr()
    assert main([*compare, "--json"]) == 0
    rows = {row["variant"]: row["rank_biased@10"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows.pop("gru4rec") == pytest.approx(expected, abs=1e-9)
    assert len(rows) > 5 and 0 < max(rows.values()) < 0.2, "counted baselines, which never saw it"
    assert main(slices) == 0 and "rank_biased@10" in capsys.readouterr().out


def test_rank_metrics_that_can_not_be(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (package / "my_package" / "odd.py").write_text(
        "from recsys_lab.ops.rank_metrics import RankMetric\n"
        "class Short(RankMetric):\n    def gains(self, k):\n        return [1.0]\n"
        "class Ndcg(Short):\n    pass\n"
    )
    with pytest.raises(RecsysLabError, match=r"Short.gains\(10\) must give 10 finite numbers"):
        metric_values(*metric_names(["my_package.odd.Short"]), 10, np.zeros(2, int), np.zeros(2, int), None)
    with pytest.raises(RecsysLabError, match="my_package.odd.Ndcg: its name 'ndcg' is that of a metric of recsys_lab"):
        metric_names(["my_package.odd.Ndcg"])
    for typed, why in [
        ("my_package.metric.TailHitRate", "is not a class of the type RankMetric"),
        ("my_package.odd.Nothing", "can't import class"),
        ("ndgc", "must be one of hit_rate, ndcg, mrr, recall, map"),
    ]:
        assert main(["slices", "nowhere", "--metric", typed]) == 2
        assert why in capsys.readouterr().err
    two = np.array([0, 3, 1]), np.array([0, 1, 0])
    metric_names(["my_package.rank_biased.RankBiased"])
    expected = [(0.2 + (0.2 * 0.8**3 + 0.2 * 0.8**4) / 2) / 2, 0.2 * 0.8]  # means over two targets and one
    found = metric_values("rank_biased", 10, *two, np.array([5, 5, 7]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_source(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = package / "data" / "raw" / "our-shop"
    raw.mkdir(parents=True)
    (block,) = re.findall(r"```bash\n(recsys-lab prepare my_package.source\n.*?)```", PAGE, re.DOTALL)
    prepare, fit = (shlex.split(line)[1:] for line in block.strip().splitlines())
    assert main(prepare) == 2
    assert "Copy the days from the archive.\nThen put monday.txt and tuesday.txt" in capsys.readouterr().err
    for number, day in enumerate(("monday.txt", "tuesday.txt")):
        lines = [f"{1_600_000_000 + 86_400 * number + user};c{user};a{user % 3},b{number}" for user in range(9)]
        (raw / day).write_text("\n".join([*lines, f"1600000000;lonely{number};a1"]))
    assert main(prepare) == 0
    shop = ProcessedDataset.open(package / "data" / "our-shop")
    assert shop.num_users == 9 and shop.num_events == 36
    assert main([*fit, *QUIET]) == 0 and Path("of-our-shop/ranks.parquet").is_file()
    for name, message in (
        ("my_package.nothing", "'my_package.nothing' is no module with a list SOURCES"),
        ("my_package.loss", "'my_package.loss' is no module with a list SOURCES"),
        ("my_package.source:other", "my_package.source has the sources our-shop: name one, my_package.source:our-shop"),
    ):
        assert main(["prepare", name]) == 2
        assert message in capsys.readouterr().err


def test_the_line_with_vectors_of_your_own(package: Path) -> None:
    data = ProcessedDataset.open(package / "data" / "ml-100k")
    vectors = torch.randn(data.num_items, 6, generator=torch.Generator().manual_seed(0)).tolist()
    pl.DataFrame({"item_id": data.item_ids_raw, "vector": vectors}).write_parquet("vectors.parquet")
    page = (Path(__file__).parents[2] / "docs" / "behaviours.md").read_text()
    (line,) = re.findall(r"^recsys-lab (fit .*--model.item_vectors vectors.parquet .*)$", page, re.MULTILINE)
    words = [str(data.path) if word == "ml-100k" else word for word in shlex.split(line)]
    assert main([*words, "--run.folder", "own", *QUIET]) == 0
    settings = json.loads((package / "own" / "manifest.json").read_text())["model_config"]["init_args"]
    assert settings["item_vectors_width"] == 6 and settings["item_vectors_mode"] == "delta"


def test_a_new_file_of_the_package_is_found_by_its_name(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `encoder.py` lay in `recsys_lab/models/encoders/`: no other file is edited."""
    folder = package / "more"
    folder.mkdir()
    text = (package / "my_package" / "encoder.py").read_text()
    (folder / "mean_of_history.py").write_text(text.replace("MeanOfHistory", "MeanOfAll"))
    monkeypatch.setattr(recsys_lab.models.encoders, "__path__", [*recsys_lab.models.encoders.__path__, str(folder)])
    assert recsys_lab.models.MeanOfAll.__module__ == "recsys_lab.models.encoders.mean_of_history"
    line = ["fit", "--model", "MeanOfAll", "--data.dataset", str(package / "data" / "ml-100k"), "--run.folder", "run"]
    assert main([*line, *QUIET]) == 0
    monkeypatch.delitem(sys.modules, "recsys_lab.models.encoders.mean_of_history")


def test_a_checkpoint_holds_what_a_predictor_needs(package: Path) -> None:
    folder = package / "data" / "ml-100k"
    assert main(["fit", "--model", "GRU4Rec", "--data.dataset", str(folder), "--run.folder", "run", *QUIET]) == 0
    checkpoint = read_checkpoint(package / "run" / "checkpoints" / "best.ckpt")
    assert {"model_config", "data_spec", "state_dict", "vocabulary"} <= set(checkpoint)
    held = vocabulary_in(checkpoint)
    assert set(held) >= {"item_ids", "fields"}
    from recsys_lab.data.fitting.vocabulary import read_vocabulary

    read, prepared_ids = read_vocabulary(held), recsys_lab.data.prepare.processed.ProcessedDataset.open(folder)
    assert read.item_ids.to_list() == prepared_ids.item_ids_raw.to_list()
    model = recsys_lab.models.NextItemModule.load_from_checkpoint(package / "run" / "checkpoints" / "best.ckpt")
    assert model.vocabulary is not None and torch.equal(
        torch.as_tensor(model.vocabulary["version"]), torch.as_tensor(held["version"])
    )
    del checkpoint["vocabulary"]
    with pytest.raises(
        RecsysLabError, match="holds no raw ids: it was written by an earlier version.*Train the model again"
    ):
        vocabulary_in(checkpoint)
