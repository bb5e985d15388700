"""scripts/embed_items.py: texts of items become a vector file that a model takes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import SASRec
from recsys_lab.models.vector_files import read

FILE = Path(__file__).parent.parent / "scripts" / "embed_items.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("embed_items", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["embed_items"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shop(tmp_path: Path) -> SequenceDataModule:
    kinds = ["red running shoes", "blue running shoes", "kitchen knife set", "kitchen knives", "garden chair", ""]
    events = [(user, (user + step) % 12, 100 * step) for user in range(20) for step in range(6)]
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    titles = [f"{kinds[n % 6]} {n}" if kinds[n % 6] else None for n in range(12)]
    items = pl.DataFrame({"item_id": range(12), "title": titles, "tags": [["home", f"t{n}"] for n in range(12)]})
    return SequenceDataModule.from_frames(frame, items, name="shop", data_dir=tmp_path / "data")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_texts_that_are_alike_have_vectors_that_are(
    script: ModuleType, shop: SequenceDataModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.parquet"
    line = [
        "--dataset",
        "shop",
        "--data_dir",
        str(shop.processed.path.parent),
        "--fields",
        "item.title",
        "--width",
        "4",
    ]
    assert script.main([*line, "--out", str(out)]) == 0
    assert "10 vectors of 4 numbers (2 items have no text)" in capsys.readouterr().out
    ids, vectors = read(out)
    found = {i: v for i, v in zip(ids.to_list(), vectors.numpy(), strict=True)}
    assert 5 not in found and cosine(found[0], found[1]) > 0.7 > cosine(found[0], found[3])
    assert script.main([*line, "--out", str(tmp_path / "again.parquet")]) == 0
    assert pl.read_parquet(out).equals(pl.read_parquet(tmp_path / "again.parquet")), "one seed, one file"
    model = SASRec(embedding_dim=8, num_heads=1, item_vectors=str(out), item_vectors_missing="learn")
    quiet_trainer(tmp_path).fit(model, shop)
    assert model.embedding.items.parts[0].has_vector.sum() == 10


def test_lists_and_several_fields_are_joined(script: ModuleType, shop: SequenceDataModule) -> None:
    texts = script.texts_of(shop.processed, ["item.title", "item.tags"])
    assert texts[0] == "red running shoes 0 home t0" and texts[5] == "home t5"


@pytest.mark.parametrize("control", ["shuffled", "random"])
def test_controls_have_the_spectrum_and_not_the_meaning(control: str, script: ModuleType) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(400, 3)) @ np.diag([3.0, 1.0, 0.1]) + 5).astype(np.float32)
    changed = script.control_of(vectors, control, 1)
    assert changed.shape == vectors.shape and changed.dtype == np.float32 and not np.allclose(changed, vectors)
    values = [np.linalg.eigvalsh(np.cov(part.T)) for part in (vectors, changed)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-3)
    assert abs(np.corrcoef(vectors[:, 0], changed[:, 0])[0, 1]) < 0.15


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--fields", "item.titel"], "--fields: shop has no 'item.titel'; columns of its items: item.title, item.tags"),
        (["--fields", "item.title", "--width", "99"], "--width 99: 12 texts have at most 11 directions"),
        (["--fields", "item.title", "--method", "wordllama", "--width", "7"], "vectors of 64, 128, 256 numbers"),
    ],
)
def test_what_can_not_be(
    more: list[str], text: str, script: ModuleType, shop: SequenceDataModule, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "v.parquet"
    line = ["--dataset", "shop", "--data_dir", str(shop.processed.path.parent), "--out", str(out)]
    assert script.main([*line, *more]) == 2
    assert text in capsys.readouterr().err and not out.exists()
