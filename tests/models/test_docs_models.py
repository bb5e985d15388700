"""The examples of docs/models.md run as they stand there: an encoder, a loss, a task, a metric and a source from
outside the package."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from small_data import made_events, prepared

import recsys_lab.models.encoders
from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.models.checkpoint import read_checkpoint, vocabulary_in
from recsys_lab.ops.rank_metrics import hit_rate
from recsys_lab.words import RecsysLabError

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
QUIET = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = dict(re.findall(r"^my_package/(\w+\.py):\n\n```python\n(.*?)```$", PAGE, re.DOTALL | re.MULTILINE))
    assert set(files) == {"encoder.py", "loss.py", "task.py", "metric.py", "source.py"}
    (tmp_path / "my_package").mkdir()
    for name, text in {**files, "__init__.py": ""}.items():
        (tmp_path / "my_package" / name).write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    prepared(tmp_path / "data" / "ml-100k", made_events(num_users=30), "ml-100k")
    return tmp_path


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


def test_the_source(package: Path) -> None:
    raw = package / "data" / "raw" / "our-shop"
    raw.mkdir(parents=True)
    (block,) = re.findall(r"```bash\n(python my_package/source.py\n.*?)```", PAGE, re.DOTALL)
    script, fit = (shlex.split(line)[1:] for line in block.strip().splitlines())
    with pytest.raises(RecsysLabError, match="Copy the days from the archive.\nThen put monday.txt and tuesday.txt"):
        runpy.run_path(script[0], run_name="__main__")
    for number, day in enumerate(("monday.txt", "tuesday.txt")):
        lines = [f"{1_600_000_000 + 86_400 * number + user};c{user};a{user % 3},b{number}" for user in range(9)]
        (raw / day).write_text("\n".join([*lines, f"1600000000;lonely{number};a1"]))
    runpy.run_path(script[0], run_name="__main__")
    shop = ProcessedDataset.open(package / "data" / "our-shop")
    assert shop.num_users == 9 and shop.num_events == 36
    assert main([*fit, *QUIET]) == 0 and Path("of-our-shop/ranks.parquet").is_file()


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
