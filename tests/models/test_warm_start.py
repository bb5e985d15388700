"""A fit that begins with an earlier run's weights: rows by raw ids, new rows from the mean, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from found_models import SPEC, VARIANTS, built
from small_data import quiet_trainer

from recsys_lab.cli import main
from recsys_lab.contracts import Field
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.models import GRU4Rec, SASRec
from recsys_lab.models.warm_start import ITEMS, WarmStart, axes_of
from recsys_lab.words import RecsysLabError

DAY, DAYS = 86_400, 10
FIELDS = ["shop", "item.kind", "item.price"]


def log_of(days: range) -> pl.DataFrame:
    """Six events of each of eight users a day. Each day has two items of its own, whose ids sort before the others; and
    a shop of its own."""
    rng = np.random.default_rng(0)
    rows = []
    for day in range(DAYS):
        for user in range(8):
            for event in range(6):
                own = f"a{9 - day}{rng.integers(2)}"
                item = own if rng.random() < 0.4 else f"b{rng.integers(12):02d}"
                shop = f"shop{day}" if rng.random() < 0.3 else "shop"
                rows.append((day, f"u{user}", item, (10 + day) * DAY + event * 900 + user, shop))
    frame = pl.DataFrame(rows, schema=["day", "user_id", "item_id", "timestamp", "shop"], orient="row")
    return frame.filter(pl.col("day").is_in(list(days))).drop("day")


def items_of(events: pl.DataFrame) -> pl.DataFrame:
    ids = events["item_id"].unique().sort()
    return pl.DataFrame({"item_id": ids, "kind": ids.str.slice(0, 2), "price": range(len(ids))})


def write_log(folder: Path, days: range) -> list[str]:
    """-> the log, and the option of its items."""
    folder.mkdir(parents=True, exist_ok=True)
    log_of(days).write_csv(folder / "log.csv")
    items_of(log_of(days)).write_csv(folder / "items.csv")
    return [str(folder / "log.csv"), "--items", str(folder / "items.csv")]


def split_options(last: int) -> list[str]:
    """Day `last` is test, the one before validation."""
    dates = [f"1970-01-{11 + day:02d}" for day in (last - 1, last)]
    where = "--data.split"
    return [where, "GlobalTemporal", f"{where}.val_date", dates[0], f"{where}.test_date", dates[1]]


def fit(root: Path, model: str, run: str, last: int, *more: str) -> int:
    return main(
        ["fit", "--model", model, "--data.dataset", "shop", "--data.data_dir", str(root / "data")]
        + ["--run.folder", str(root / run), "--data.max_length", "6", "--trainer.max_epochs", "1"]
        + ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *split_options(last), *more]
    )


SMALL = ("--model.embedding_dim", "8")
FED = ("--data.fields", str(FIELDS).replace("'", ""))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `early` and `plain` on the days 0 to 5; then the log has the days 6 to 9, too."""
    root = tmp_path_factory.mktemp("warm")
    kinds = ["--fields", "shop=categorical,kind=categorical,price=numeric"]
    where = ["--data_dir", str(root / "data")]
    assert main(["prepare", "--input", *write_log(root / "first", range(6)), "--name", "shop", *kinds, *where]) == 0
    shutil.copytree(root / "data", root / "early_data")
    assert fit(root, "SASRec", "early", 5, *SMALL, *FED) == 0
    assert fit(root, "GRU4Rec", "plain", 5, *SMALL) == 0
    assert main(["prepare", "shop", "--append", *write_log(root / "newer", range(6, DAYS)), *where]) == 0
    return root


def data_of(root: Path, last: int = 9, **more: Any) -> SequenceDataModule:
    cut = GlobalTemporal(val_date=f"1970-01-{10 + last}", test_date=f"1970-01-{11 + last}")
    return SequenceDataModule("shop", str(root / "data"), split=cut, max_length=6, **more)


def begun(run: Path, data: SequenceDataModule, model: Any) -> Any:
    """`model` as its fit on `data` begins."""
    trainer = quiet_trainer(run, max_steps=0, limit_val_batches=0)
    trainer.fit(model.warm_start(run), data)
    return model


def ids_by_row(data: ProcessedDataset) -> list[str]:
    return data.item_ids_raw.to_list()


def test_rows_are_matched_by_raw_ids_and_new_ones_begin_with_the_mean(made: Path) -> None:
    data = data_of(made, fields=FIELDS)
    held = WarmStart.of(made / "early").held
    model = begun(made / "early", data, SASRec(embedding_dim=8))
    before, now = held["state_dict"], model.state_dict()
    early = ids_by_row(ProcessedDataset.open(made / "early_data" / "shop"))
    counts, ids = held["vocabulary"]["item_counts"], ids_by_row(data.processed)
    assert early != ids[: len(early)] and len(ids) > len(early), "rows have moved, and there are more"
    table, old = now["embedding.items.weight"], before["embedding.items.weight"]
    trained = {name: row for row, name in enumerate(early, 1) if counts[row] > 0}
    gone = [row for row, name in enumerate(early, 1) if name not in trained]
    mean = old[list(trained.values())].mean(0)
    is_trained = data.item_counts > 0
    new = 0
    for row, name in enumerate(ids, 1):
        if name in trained:
            torch.testing.assert_close(table[row], old[trained[name]], rtol=0, atol=0)
        elif is_trained[row]:
            torch.testing.assert_close(table[row], mean)
            new += 1
    assert new and gone and not table[0].any()
    facts = json.loads(json.dumps(model.started_from))
    assert facts["items_kept"] == len(trained) and facts["items_new"] == len(ids) - len(trained)
    # values of fields, too; what is missing keeps its row, and what is no table is taken as it is
    values = data.fitted_fields["shop"].values.to_list()
    known = held["vocabulary"]["fields"]["fields"][0]
    ends = known["values"]["ends"].tolist()
    text = bytes(known["values"]["utf8"].tolist()).decode()
    old_values = [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    shops, old_shops = now["embedding.fields.0.weight"], before["embedding.fields.0.weight"]
    assert set(values) > set(old_values)
    for row, value in enumerate(values, 2):
        expected = old_shops[2 + old_values.index(value)] if value in old_values else old_shops[2:].mean(0)
        torch.testing.assert_close(shops[row], expected)
    torch.testing.assert_close(shops[:2], old_shops[:2], rtol=0, atol=0)
    same = [name for name in now if not name.startswith("embedding.items") and now[name].shape == before[name].shape]
    assert len(same) > 10 and all(torch.equal(now[name], before[name]) for name in same if "fields" not in name)
    # the values of the items' fields are those of the data, not of the checkpoint
    assert torch.equal(now["embedding.items.parts.1.values"], data.item_fields["price"])


@pytest.mark.parametrize("name", VARIANTS)
def test_what_has_a_row_for_each_item_is_found_for_any_encoder(name: str) -> None:
    cls, settings = VARIANTS[name]
    spec = dataclasses.replace(SPEC, fields=(*SPEC.fields, Field("kind", "item", "categorical", 5)))
    model = built(cls, spec, **settings)
    state = model.state_dict()
    axes = axes_of(model)
    assert all(state[one].shape[dim] == spec.num_rows for one in axes for dim, of in axes[one].items() if of == ITEMS)
    of_items = {one for one in axes if ITEMS in axes[one].values()}
    assert of_items == {one for one, tensor in state.items() if spec.num_rows in tensor.shape}
    assert {of for found in axes.values() for of in found.values()} >= {ITEMS, "item kind"}


def test_a_longer_log_on_the_command_line(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = str(made / "early")
    assert fit(made, "SASRec", "warm", 7, *SMALL, *FED, "--warm_start", early) == 0
    manifest = json.loads((made / "warm" / "manifest.json").read_text())
    facts, first = manifest["warm_start"], json.loads((made / "early" / "manifest.json").read_text())
    assert facts["run"] == early and facts["system_hash"] == first["system_hash"]
    assert facts["training_hash"] == first["training_hash"] and facts["items_new"] > 0
    assert fit(made, "SASRec", "cold", 7, *SMALL, *FED) == 0
    cold = json.loads((made / "cold" / "manifest.json").read_text())
    assert cold["warm_start"] is None and cold["system_hash"] != manifest["system_hash"], "two systems"
    # it goes on, is tested and verified without the run that it began with
    moved = made / "moved"
    shutil.move(early, moved)
    try:
        assert main(["fit", str(made / "warm"), "--trainer.max_epochs", "2"]) == 0
        assert main(["test", str(made / "warm")]) == 0
        assert main(["verify", str(made / "warm")]) == 0
        again = json.loads((made / "warm" / "manifest.json").read_text())
        assert (again["warm_start"], again["epochs"]) == (facts, 2)
        assert again["system"]["data"]["started_from"] == manifest["system"]["data"]["started_from"]
        capsys.readouterr()
        assert main(["fit", str(made / "warm"), "--trainer.max_epochs", "3", "--warm_start", str(moved)]) == 2
        assert "a run that goes on has begun: leave it out" in capsys.readouterr().err
        assert main(["test", str(made / "warm"), "--warm_start", str(moved)]) == 2
        assert "test trains nothing: leave it out" in capsys.readouterr().err
    finally:
        shutil.move(moved, early)


def test_what_an_earlier_run_knew_is_known_after_two_warm_starts(made: Path) -> None:
    """A run's own training part ends before the targets, and that of the run that it began with does not."""
    data = data_of(made, last=7, fields=FIELDS)
    early = data.spec.training | {"data_hash": "of another log"}
    late = early | {"train_until": 30 * DAY}
    assert not data.sees_targets(early, "test") and data.sees_targets(late, "test")
    assert data.sees_targets(early | {"started_from": {"system_hash": "", "training": late}}, "test")


@pytest.mark.parametrize(
    ("model", "last", "more", "said"),
    [
        ("SASRec", 7, (*SMALL,), "is of another model than is asked. --model: GRU4Rec there, SASRec here"),
        ("GRU4Rec", 7, ("--model.embedding_dim", "4"), "--model.embedding_dim: 8 there, 4 here"),
        (
            "GRU4Rec",
            7,
            (*SMALL, "--data.fields", "[shop]"),
            "none there, and event shop (categorical) here",
        ),
        ("GRU4Rec", 4, SMALL, "was trained on events at or after validation targets of this run"),
        ("Popularity", 7, (), "Popularity counts all events anew in each fit: leave it out"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    model: str, last: int, more: tuple[str, ...], said: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(made, model, "refused", last, *more, "--warm_start", str(made / "plain")) == 2
    error = capsys.readouterr().err
    assert said in error and len([line for line in error.splitlines() if "error:" in line]) == 1
    assert "--warm_start" in error and not (made / "refused").exists()


def test_what_is_no_run(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.ckpt").write_text("nothing")
    for run, said in (
        (tmp_path / "none", "no checkpoint at"),
        (tmp_path, "is not a run folder: it holds no checkpoints/best.ckpt"),
        (tmp_path / "text.ckpt", "is not a checkpoint of recsys_lab"),
    ):
        assert fit(made, "GRU4Rec", "refused", 7, *SMALL, "--warm_start", str(run)) == 2
        error = capsys.readouterr().err
        assert said in error and "--warm_start" in error and not (made / "refused").exists()


def test_windows_of_another_length_name_the_setting(made: Path) -> None:
    data = data_of(made, fields=FIELDS)
    data.max_length = 9
    with pytest.raises(RecsysLabError, match=r"--data.max_length: 6 there, 9 here"):
        begun(made / "early", data, SASRec(embedding_dim=8))


def test_another_loss_and_another_optimiser_are_no_other_model(made: Path) -> None:
    from recsys_lab.losses import BPRMax
    from recsys_lab.models import Optimization

    model = GRU4Rec(embedding_dim=8, loss=BPRMax(), optimization=Optimization(lr=0.5))
    begun(made / "plain", data_of(made), model)
    assert model.started_from is not None and not model.trainer.optimizers[0].state
