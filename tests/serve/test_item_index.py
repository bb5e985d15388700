"""Lists by an index: nearly those of exact search, and exact in everything else: scores, order, filters, exclusions."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from served import serving
from trained import checkpoint_of, data_of

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import GRU4Rec, SASRec
from recsys_lab.models.baselines.markov import Markov
from recsys_lab.serve import Predictor, item_index
from recsys_lab.serve.item_index import ItemIndex, use_index
from recsys_lab.words import RecsysLabError

ITEMS, KINDS = 2_000, ("hnsw", "ivf", "ivf-8bit", "ivf-pq")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 2,000 items, all of which train."""
    user, place = np.repeat(np.arange(120), 20), np.tile(np.arange(20), 120)
    events = pl.DataFrame({"user_id": user, "item_id": (user * 18 + place) % ITEMS, "timestamp": place})
    return SequenceDataModule.from_frames(events, name="many", data_dir=tmp_path_factory.mktemp("index")).processed.path


@pytest.fixture(scope="module")
def path(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint_of(SASRec(embedding_dim=16), data_of(folder), tmp_path_factory.mktemp("sasrec"))


def histories(number: int = 60) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, ITEMS, size).tolist() for size in draw.integers(1, 12, number)]


def both(path: Path, kind: Any, effort: int | None = None) -> tuple[Predictor, Predictor]:
    """One that searches exactly, and one with an index."""
    indexed = Predictor.load(path)
    assert use_index(indexed, kind, effort) is not None
    return Predictor.load(path), indexed


def test_an_index_is_built_once_for_each_checkpoint(
    path: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RECSYS_LAB_CACHE", str(tmp_path / "cache"))
    built, build = [], item_index._built

    def noted(*given: Any) -> Any:
        built.append(given[1])
        return build(*given)

    monkeypatch.setattr(item_index, "_built", noted)
    own = Path(shutil.copy(path, tmp_path / "model.ckpt"))
    lists = [both(own, kind)[1].recommend(histories(), 5) for kind in (*KINDS, *KINDS)]
    assert len(built) == len(KINDS) and all(a.equals(b) for a, b in zip(lists[:4], lists[4:], strict=True))
    (hnsw,) = (tmp_path / "cache" / "indexes").glob("*-hnsw.faiss")
    whole = hnsw.read_bytes()
    hnsw.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert both(own, "hnsw")[1].recommend(histories(), 5).equals(lists[0]) and len(built) == 5
    assert "was changed after it was written" in caplog.text
    assert both(own, "hnsw")[1] and len(built) == 5, "it was kept again"
    checkpoint_of(SASRec(embedding_dim=16), data_of(folder), tmp_path, steps=3)  # the run has another model now
    exact, other = both(own, "hnsw")
    assert len(built) == 6 and list((tmp_path / "cache" / "indexes").glob("*-hnsw.faiss")) == [hnsw]
    assert other.recommend(histories(), 5)["score"].to_list() != lists[0]["score"].to_list()
    use_index(exact, "hnsw", store=False)
    assert len(built) == 7
    (tmp_path / "cache").rename(tmp_path / "away")
    (tmp_path / "cache").write_text("no folder")
    assert both(own, "hnsw")[1].recommend(histories(), 5).equals(other.recommend(histories(), 5))
    assert "the index is not kept" in caplog.text


def shared(exact: pl.DataFrame, found: pl.DataFrame) -> float:
    """Share of the items of the exact lists that were found."""
    return exact.join(found, on=["user", "item_id"], how="inner").height / exact.height


def assert_same_lists(found: pl.DataFrame, exact: pl.DataFrame) -> None:
    """Equal but for rounding, which may swap neighbours whose scores differ by less than 1e-5."""
    assert found.select("user", "rank", "source", "note").equals(exact.select("user", "rank", "source", "note"))
    assert np.allclose(found["score"], exact["score"], atol=1e-5)
    gaps = exact.select(pl.min_horizontal(pl.col("score").diff().abs(), pl.col("score").diff(-1).abs()).over("user"))
    is_clear = gaps["score"].fill_null(1.0) > 1e-5
    assert found.filter(is_clear)["item_id"].equals(exact.filter(is_clear)["item_id"]) and is_clear.mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_nearly_the_exact_ones_with_exact_scores(path: Path, kind: str) -> None:
    one, other = both(path, kind)
    exact, found = one.recommend(histories(), 10), other.recommend(histories(), 10)
    assert found.height == exact.height == 600
    assert shared(exact, found) > {"hnsw": 0.97, "ivf": 0.3, "ivf-8bit": 0.3, "ivf-pq": 0.3}[kind]
    same = exact.join(found, on=["user", "item_id"], how="inner")
    assert np.allclose(same["score"], same["score_right"], atol=1e-5)
    falls = found.select((pl.col("score").diff() <= 0).over("user"))["score"].drop_nulls()
    assert falls.all()


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])  # with 8 bits some are rounded away
def test_an_index_that_looks_at_everything_is_exact(path: Path, kind: str) -> None:
    one, other = both(path, kind, effort=ITEMS)
    assert_same_lists(other.recommend(histories(), 10), one.recommend(histories(), 10))


@pytest.mark.parametrize("kind", KINDS)
def test_filters_and_exclusions_are_exact(path: Path, kind: str) -> None:
    one, other = both(path, kind)
    asked = histories(30)
    blocked, half = list(range(0, ITEMS, 3)), list(range(0, ITEMS, 2))
    found = other.recommend(asked, 20, blocked=blocked, candidates=half)
    assert found.height == 600  # no list is short
    for user, own in enumerate(asked):
        items = set(found.filter(pl.col("user") == user)["item_id"])
        assert len(items) == 20 and not items & set(own) and not items & set(blocked) and items <= set(half)
    assert shared(one.recommend(asked, 20, blocked=blocked, candidates=half), found) > 0.3
    exact: list[dict[str, Any]] = [  # few candidates, candidates of each user's own, a list of everything
        {"candidates": [5, 9, 700, 1_500], "k": 3},
        {"candidates": [[n, n + 1, n + 500] for n in range(30)], "k": 3},
        {"k": ITEMS},
    ]
    for settings in exact:
        assert_same_lists(other.recommend(asked, **settings), one.recommend(asked, **settings))
    assert_frame_equal(other.recommend([[], ["unknown"]], 5), one.recommend([[], ["unknown"]], 5))


def test_equal_scores_come_in_the_same_order(path: Path) -> None:
    one, other = both(path, "ivf", effort=ITEMS)
    for predictor in (one, other):
        for parameter in predictor.model.scorer.parameters():
            parameter.data.round_(decimals=1)
        use_index(predictor, "ivf", ITEMS) if predictor is other else None
    exact = one.recommend(histories(20), 50)
    assert exact.select(pl.col("score").diff().over("user"))["score"].eq(0).any()
    assert_frame_equal(other.recommend(histories(20), 50), exact, abs_tol=1e-5)


def test_a_state_and_a_long_history(folder: Path, tmp_path: Path) -> None:
    one, other = both(
        checkpoint_of(GRU4Rec(embedding_dim=16, item_bias=True), data_of(folder), tmp_path), "hnsw", ITEMS
    )
    tops = []
    for predictor in (one, other):
        state = predictor.start("anna")
        for item in range(300):
            state = predictor.step(state, item * 5)
        tops.append(predictor.top(state, 10))
    assert_same_lists(tops[1], tops[0])
    use_index(other, "exact")
    assert_frame_equal(other.recommend([[1, 2]]), one.recommend([[1, 2]]))


def test_what_has_no_vectors_is_refused_in_words(
    path: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor.load(checkpoint_of(Markov(), data_of(folder), tmp_path))
    with pytest.raises(RecsysLabError, match="--index hnsw: the scores of this model are no products"):
        use_index(predictor, "hnsw")
    assert predictor.recommend([[1, 2]]).height == 10
    with pytest.raises(RecsysLabError, match="index='tree'; known: exact, hnsw, ivf, ivf-8bit, ivf-pq"):
        use_index(Predictor.load(path), "tree")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RecsysLabError, match=r"--index ivf needs Faiss: pip install 'recsys-lab\[index\]'"):
        use_index(Predictor.load(path), "ivf")


def test_the_commands_take_an_index(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = []
    for index in ("exact", "hnsw"):
        assert main(["recommend", str(path), "--history", "1,2,3", "--top", "5", "--index", index]) == 0
        lists.append(capsys.readouterr().out)
    assert lists[0] == lists[1]
    with serving(path, tmp_path / "events.sqlite", index="hnsw") as client:
        said = client.post("/recommend", json={"history": [1, 2, 3], "k": 5}).json()
        assert isinstance(client.service.live.predictor.top_lists, ItemIndex)
    assert [str(item["item_id"]) for item in said["items"]] == [line.split()[1] for line in lists[0].splitlines()[1:]]
