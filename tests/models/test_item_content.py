"""Items from content: several vector fields, vectors of one's own in three formats, whitened; cold items are ranked."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from found_models import built, small
from small_data import quiet_trainer
from test_fields_of_models import WITH_FIELDS, filled

from recsys_lab.cli import main
from recsys_lab.contracts import Field
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation import BeyondAccuracy, RankingEvaluation
from recsys_lab.evaluation.candidates import candidate_mask
from recsys_lab.models import Popularity, SASRec
from recsys_lab.models.blocks.inputs import Inputs
from recsys_lab.models.blocks.item_parts import ItemField
from recsys_lab.models.vector_files import read
from recsys_lab.models.vector_preprocessing import preprocessed, width_after
from recsys_lab.words import RecsysLabError


@pytest.mark.parametrize("how", ["sum", "gate", "concat"])
def test_text_and_image_stand_side_by_side(how: Any) -> None:
    fields = (Field("text", "item", "vector", 6), Field("image", "item", "vector", 4))
    spec = dataclasses.replace(WITH_FIELDS, fields=fields)
    model = built(SASRec, spec, inputs=Inputs(items=how))
    for part in model.embedding.items.parts:
        torch.nn.init.normal_(part.values)
        part.values[0] = 0
    table = model.embedding.items
    assert not table(torch.tensor([0])).any()
    (block,) = model.scorer.linear_blocks()
    torch.testing.assert_close(block.weight, table(torch.arange(spec.num_rows)))
    block.weight.square().sum().backward()
    for part in table.parts:
        assert part.vectors.weight.grad.any(), f"the {part.name} learns from the scores"
    assert (table.join is None) is (how == "sum")


# -- files -------------------------------------------------------------------------------------------------------------

IDS = ["a", "b", "c"]
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)


def write(path: Path, ids: Any = IDS, vectors: Any = VECTORS) -> Path:
    if path.suffix == ".parquet":
        pl.DataFrame({"item_id": ids, "v": vectors.tolist()}).write_parquet(path)
    elif path.suffix == ".npy":
        np.save(path, vectors)
        np.save(path.with_suffix(".ids.npy"), np.array(ids))
    else:
        from safetensors.numpy import save_file

        if isinstance(ids[0], str):
            save_file({"v": vectors}, path, {"item_id": json.dumps(ids)})
        else:
            save_file({"v": vectors, "item_id": np.array(ids)}, path)
    return path


@pytest.mark.parametrize("ids", [IDS, [7, 9, 8]])
@pytest.mark.parametrize("ending", ["parquet", "npy", "safetensors"])
def test_three_formats_say_the_same(ending: str, ids: Any, tmp_path: Path) -> None:
    found, vectors = read(write(tmp_path / f"v.{ending}", ids))
    assert found.to_list() == ids and torch.equal(vectors, torch.from_numpy(VECTORS))


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("v.pkl", None, "the name must end in .parquet, .npy, .safetensors"),
        ("v.npy", lambda p: p.with_suffix(".ids.npy").unlink(), "needs the ids of its rows, in the file .*v.ids.npy"),
        ("v.npy", lambda p: np.save(p, VECTORS[:2]), "3 ids and 2 vectors"),
        ("v.npy", lambda p: np.save(p, VECTORS[:, 0]), r"of shape \(3,\), and must be numbers of shape \(N, D\)"),
        ("v.npy", lambda p: np.save(p, np.array([{}] * 3), allow_pickle=True), "can't be read as a .npy file"),
        ("v.safetensors", lambda p: p.write_bytes(b"junk"), "can't be read as a .safetensors file"),
        ("v.safetensors", lambda p: write(p, IDS + ["d"]), "4 ids and 3 vectors"),
        ("v.parquet", lambda p: p.write_bytes(b"junk"), "can't be read as a .parquet file"),
    ],
)
def test_a_file_that_says_too_little(name: str, change: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if change is None:
        path.write_bytes(b"")
    else:
        change(write(path))
    with pytest.raises(RecsysLabError, match=f"--model.item_vectors .*{text}"):
        read(path)


# -- preprocessing -----------------------------------------------------------------------------------------------------


def made_vectors(number: int = 40, width: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(number + 1, width, generator=draw) @ torch.randn(width, width, generator=draw) + 3
    vectors[0] = 0
    has = torch.ones(number + 1, dtype=torch.bool)
    has[0] = has[-1] = False
    vectors[-1] = 0
    trains = has.clone()
    trains[30:] = False
    return vectors, has, trains


def test_what_each_does_to_the_items_that_train() -> None:
    vectors, has, trains = made_vectors()
    known = vectors[trains].double()
    centred = preprocessed(vectors, has, trains, "center")
    torch.testing.assert_close(centred[trains].mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(centred[35], (vectors[35].double() - known.mean(0)).float())
    white = preprocessed(vectors, has, trains, "zca")[trains].double()
    torch.testing.assert_close(white.T @ white / len(known), torch.eye(5, dtype=torch.float64) / 5, atol=1e-4, rtol=0)
    assert white.square().sum(1).mean().item() == pytest.approx(1, abs=1e-4)  # as long as with unit_norm
    cut = preprocessed(vectors, has, trains, "pca(2)")
    assert cut.shape == (41, 2) and width_after("pca(2)", 5) == 2
    values = torch.linalg.eigvalsh((known - known.mean(0)).T @ (known - known.mean(0)) / len(known))
    torch.testing.assert_close(cut[trains].double().var(0, correction=0), values[-2:].flip(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(preprocessed(vectors, has, trains, "unit_norm")[has].norm(dim=1), torch.ones(39))
    assert preprocessed(vectors, has, trains, "none") is vectors
    for how in ("center", "zca", "pca(2)", "unit_norm"):
        assert not preprocessed(vectors, has, trains, how)[[0, -1]].any(), "an item without a vector has zeros"


@pytest.mark.parametrize("how", ["center", "zca", "pca(3)"])
def test_nothing_is_fitted_on_items_that_do_not_train(how: str) -> None:
    """A planted leak: vectors of items that only the test part has are shifted far away."""
    vectors, has, trains = made_vectors()
    before = preprocessed(vectors, has, trains, how)
    moved = vectors.clone()
    moved[30:40] += 1000
    after = preprocessed(moved, has, trains, how)
    assert torch.equal(before[trains], after[trains]) and not torch.equal(before[35], after[35])


def test_directions_without_variance_are_left_out() -> None:
    vectors, has, trains = made_vectors()
    double = torch.cat([vectors, vectors], dim=1)
    white = preprocessed(double, has, trains, "zca")
    assert torch.isfinite(white).all()
    assert white[trains].square().sum(1).mean().item() == pytest.approx(1, abs=1e-4)  # of the five that have variance


@pytest.mark.parametrize("how", ["whiten", "pca", "pca(0)", "PCA(3)", ""])
def test_another_word_is_refused(how: str) -> None:
    with pytest.raises(RecsysLabError, match=r"must be none, center, pca\(D\), zca or unit_norm"):
        SASRec(item_vectors_preprocessing=how)


def test_more_directions_than_there_are() -> None:
    vectors, has, trains = made_vectors()
    with pytest.raises(RecsysLabError, match="the vectors have only 5 numbers"):
        width_after("pca(6)", 5)
    with pytest.raises(RecsysLabError, match="zca needs 2 items that train and have a vector: 0 do"):
        preprocessed(vectors, has, torch.zeros_like(trains), "zca")


# -- items without a training event ------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> SequenceDataModule:
    """Each item has one of three categories, and users stay in theirs; some items come up in the test part only."""
    rng, rows = np.random.default_rng(0), []
    for user in range(60):
        for step in range(8):
            item = 3 * int(rng.integers(10)) + user % 3
            if step == 7 and user % 2:
                item = 100 + user % 3
            rows.append((f"u{user}", item, 1000 * step + user))
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = events.select("item_id").unique().sort("item_id")
    items = items.with_columns(
        category=pl.when(pl.col("item_id") >= 100)
        .then(pl.col("item_id") - 100)
        .otherwise(pl.col("item_id") % 3)
        .cast(pl.String)
    )
    split = GlobalTemporal(quantile=0.88, val_quantile=0.85)
    return SequenceDataModule.from_frames(
        events, items, data_dir=tmp_path, fields=["item.category"], split=split, max_length=6, exclude_seen="none"
    )


def test_cold_items_are_ranked_by_their_fields(shop: SequenceDataModule, tmp_path: Path) -> None:
    evaluation = RankingEvaluation(cutoffs=[11], candidates="all")
    model = small(SASRec)
    trainer = quiet_trainer(tmp_path, max_epochs=12, callbacks=[evaluation])
    trainer.fit(model, shop)
    tested = trainer.test(model, shop, verbose=False)[0]
    assert tested["test/cold_target_share"] == 0.0 and 0.3 < tested["test/target_share_cold"] < 0.7
    assert tested["test/hit_rate@11_cold"] > 0.8, "eleven of the 33 items are in the user's category"
    ranks = evaluation.ranks_frame(shop)
    assert (ranks["num_candidates"] == shop.processed.num_items).all()
    cold = ranks.filter(pl.col("target_count") == 0)
    by_hand = (cold["num_greater"] < 11).mean()
    assert tested["test/hit_rate@11_cold"] == pytest.approx(by_hand, abs=0.05)
    popular = Popularity()
    found = quiet_trainer(tmp_path, callbacks=[RankingEvaluation(cutoffs=[11], candidates="all")])
    assert found.test(popular, shop, verbose=False)[0]["test/hit_rate@11_cold"] < 0.1


def test_cold_items_are_ranked_among_themselves(shop: SequenceDataModule, tmp_path: Path) -> None:
    """Only cold targets count, and each stands where it stands among the cold items in a ranking of all of them."""
    torch.manual_seed(0)
    model = small(SASRec)
    found = {}
    for candidates in ("all", "cold"):
        evaluation = RankingEvaluation(cutoffs=[3], candidates=candidates, measures=[BeyondAccuracy()])
        tested = quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, shop, verbose=False)[0]
        found[candidates] = evaluation.ranks_frame(shop)
    cold = found["all"].filter(pl.col("target_count") == 0)
    number = int((shop.item_counts[1:] == 0).sum())
    assert found["cold"]["target_item_id"].equals(cold["target_item_id"]) and 0 < number < shop.processed.num_items
    assert (found["cold"]["num_candidates"] == number).all() and (found["cold"]["num_greater"] < number).all()
    assert (found["cold"]["num_greater"] <= cold["num_greater"]).all()
    assert tested["test/hit_rate@3"] == pytest.approx((found["cold"]["num_greater"] < 3).mean(), abs=0.05)
    assert 0 < tested["test/coverage@3"] <= 1 and tested["test/average_popularity@3"] == 0.0  # lists of cold items
    every = SimpleNamespace(item_counts=torch.tensor([0, 1, 2]))
    with pytest.raises(RecsysLabError, match="candidates cold: every item has a training event"):
        candidate_mask(every, model, "cold")


def test_cold_candidates_without_a_cold_target_are_told(tmp_path: Path) -> None:
    """The new item comes with the last events alone, so the validation part has none."""
    rows = [(user, (user + step) % 5, 1000 * step + user) for user in range(20) for step in range(10)]
    rows += [(user, 9, 20_000 + user) for user in range(5)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [0, 1, 2, 3, 4, 9], "brand": list("ababab")})
    data = SequenceDataModule.from_frames(
        events, items, data_dir=tmp_path, fields=["item.brand"], split=GlobalTemporal(), max_length=6
    )
    assert data.item_counts[-1] == 0
    trainer = quiet_trainer(tmp_path, callbacks=[RankingEvaluation(candidates="cold")])
    with pytest.raises(RecsysLabError, match="candidates cold: no val target is .*candidates all.*recsys-lab test RUN"):
        trainer.fit(small(SASRec), data)
    assert "test/ndcg@10" in trainer.test(small(SASRec), data, verbose=False)[0]


def test_by_default_a_cold_target_is_a_miss(shop: SequenceDataModule, tmp_path: Path) -> None:
    evaluation = RankingEvaluation(cutoffs=[5])
    tested = quiet_trainer(tmp_path, callbacks=[evaluation]).test(small(SASRec), shop, verbose=False)[0]
    assert tested["test/cold_target_share"] > 0.3 and "test/hit_rate@11_cold" not in tested


def test_a_model_of_ids_alone_can_not_rank_them(shop: SequenceDataModule, tmp_path: Path) -> None:
    plain = SequenceDataModule(shop.dataset, str(shop.data_dir), split=shop.split, max_length=6, fields=[])
    trainer = quiet_trainer(tmp_path, callbacks=[RankingEvaluation(candidates="all")])
    with pytest.raises(RecsysLabError, match="--evaluation.candidates all: SASRec knows items by their ids alone"):
        trainer.test(small(SASRec), plain, verbose=False)


def test_the_candidates_are_in_the_manifest_and_compared(
    shop: SequenceDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["fit", "--model", "SASRec", "--model.embedding_dim", "8", "--data.dataset", str(shop.processed.path)]
    line += ["--data.split", "GlobalTemporal", "--data.split.quantile", "0.88", "--data.fields", "all"]
    line += ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert main([*line, "--evaluation.candidates", "all", "--run.folder", "all"]) == 0
    assert main([*line, "--run.folder", "trained"]) == 0
    assert json.loads(Path("all/manifest.json").read_text())["evaluation"]["candidates"] == "all"
    assert main(["verify", "all"]) == 0
    capsys.readouterr()
    assert main(["compare", "all", "trained"]) == 2
    said = capsys.readouterr().err
    assert "candidates: all in all; trained in trained" in said and "--evaluation.candidates all" in said
    assert main(["test", "all", "--evaluation.candidates", "trained", "--run.folder", "again"]) == 0
    assert main(["compare", "all", "again/test"]) == 2
    advice = capsys.readouterr().err
    assert "recsys-lab test all --evaluation.candidates all, and compare all/test" in advice, "the run that was trained"
    assert main(["predict", "all"]) == 0
    assert pl.read_parquet("all/predict/recommendations.parquet")["item_id"].n_unique() > 3


def test_fields_that_are_filled_are_kept_apart_from_padding() -> None:
    table = filled(built(SASRec, WITH_FIELDS)).embedding.items
    assert not table.is_plain and built(SASRec, WITH_FIELDS).scorer.scores_untrained
    assert not built(SASRec).scorer.scores_untrained


def reached(roots: list[object]) -> Iterator[object]:
    """The objects that these hold, and those that they hold; not what a class, a module or a function refers to."""
    seen, waiting = set(), roots
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType):
            seen.add(id(one))
            yield one
            waiting += gc.get_referents(one)


def test_fields_of_a_million_items_are_in_memory_once(shop: SequenceDataModule) -> None:
    """What docs/behaviours.md states: bytes of each kind, and no second copy in the data."""
    kinds = {
        "category": (Field("category", "item", "categorical", 9), 8e6),
        "list of three": (Field("tags", "item", "multi", 9, width=3), 3 * 8e6),
        "number": (Field("price", "item", "numeric"), 8e6),
        "vector of 16": (Field("image", "item", "vector", 16), 16 * 4e6),
    }
    for name, (field, stated) in kinds.items():
        assert ItemField(field, 1_000_000, 4, 0.02).values.nbytes == stated, name
    model = built(SASRec, shop.spec)
    model._fill_item_tables(shop)
    (table,) = [module for module in model.modules() if isinstance(module, ItemField)]
    assert table.values.any()
    held = list(reached([shop, model]))
    assert any(one is table.values for one in held)
    alike = [one for one in held if type(one) is torch.Tensor and one.shape == table.values.shape]
    others = [one for one in alike if one.data_ptr() != table.values.data_ptr() and torch.equal(one, table.values)]
    assert not others, "a second copy is kept"
