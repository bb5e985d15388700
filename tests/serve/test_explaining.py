"""`recsys-lab diagnose explain` and `serve.explaining.explain`: of a run from the command line, and from Python."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared
from trained import checkpoint_of, data_of, events_of

from recsys_lab.cli import main
from recsys_lab.data.prepare.decoded import decoded_user
from recsys_lab.diagnose.explain.explained_text import as_text
from recsys_lab.models import GRU4Rec, SASRec
from recsys_lab.models.baselines import Popularity
from recsys_lab.runs.run_files import read_manifest, write_manifest
from recsys_lab.serve import Predictor
from recsys_lab.serve.explaining import DEFAULT, explain
from recsys_lab.words import RecsysLabError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("explain") / "plain", made_events()).path


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from test_cli_runs import fit

    root = tmp_path_factory.mktemp("runs")
    assert fit(folder, root, "--trainer.max_epochs", "1", "--data.fields", "[event_type]") == 0
    (found,) = root.rglob("seed0")
    return found


def test_a_user_of_the_data(run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "why.html"
    words = ["diagnose", "explain", str(run), "--user", "u003"]
    capsys.readouterr()
    assert main([*words, "--page", str(page)]) == 0
    shown = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert max(map(len, shown.splitlines()[2:-2])) <= 80
    assert list(found["methods"]) == list(DEFAULT) and found["user"] == "u003"
    log = made_events().filter(pl.col("user_id") == "u003")
    given = log["item_id"].to_list()[::-1][: len(found["events"])]
    assert [one["item_id"] for one in found["events"]] == given
    assert [one["ago"] for one in found["events"]] == list(range(1, len(given) + 1))
    assert found["events"][0]["timestamp"] == log["timestamp"][-1]
    assert set(found["fields"]["leave_one_out"]) == {"item", "event_type"} == set(found["events"][0]["parts"])
    total = sum(one["integrated_gradients"] for one in found["events"])
    item = found["item"]
    assert total == pytest.approx(item["log_probability"] - item["expected"], abs=0.01)
    predictor = Predictor.load(run)
    assert item["item_id"] == predictor.recommend(log, 1)["item_id"][0] and item["is_first_of_list"]
    assert item["score"] == pytest.approx(predictor.score(log, [item["item_id"]])["score"][0], abs=1e-5)
    html = page.read_text()
    assert "<script" not in html and "http://" not in html.replace("http://www.w3.org", "") and "u003" in html
    assert "What each field adds" in html and f"{len(given)} events" in html


def test_another_item_and_other_methods(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["diagnose", "explain", str(run), "--history", "101, 102,999,103", "--item", "110"]
    assert main([*words, "--method", "removal,leave_one_out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["item"]["item_id"] == 110 and not found["item"]["is_first_of_list"]
    assert [one["item_id"] for one in found["events"]] == [103, 102, 101]
    assert list(found["methods"]) == ["removal", "leave_one_out"]
    assert found["notes"] == ["1 of the 4 events are of items that the model does not know"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a user of the data (--user ID), or a history (--history a,b,c)"),
        (["--user", "u003", "--history", "101"], "--user u003 and --history 101: an explanation is of one of them"),
        (["--history", "101", "--query_time", "9"], "--query_time 9: a typed history has no times to compare it with"),
        (["--history", "101", "--page", "."], "--page . is a folder: name a file in it, such as page.html"),
        (["--history", "101", "--page", "pyproject.toml/why.html"], "pyproject.toml is a file, and no folder"),
        (["--user", "nobody"], "--user nobody: small has no such user; its ids are like 'u000'"),
        (["--history", ""], "the history is empty"),
        (["--history", '"101,102'], "a double quote that begins an item id must end it"),
        (["--history", "999"], "none of the history's 1 events is of an item that the model knows"),
        (["--history", "101", "--item", "zzz"], "the model does not know the item 'zzz'"),
        (["--history", "101", "--method", "lime"], "must be one of attention, integrated_gradients"),
    ],
)
def test_mistakes(run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["diagnose", "explain", str(run), *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_page_that_cant_be_written_loses_no_explanation(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()  # /proc takes no folder, which nobody can know before
    assert main(["diagnose", "explain", str(run), "--history", "101", "--page", "/proc/none/why.html"]) == 2
    answer = capsys.readouterr()
    assert "left out" in answer.out and answer.err.strip().endswith("choose another folder with --page")


def test_the_sentence_is_of_one_method_whatever_their_order(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, sentences = ["diagnose", "explain", str(run), "--history", "101,102,103"], []
    for methods in ("removal,leave_one_out", "leave_one_out,removal"):
        capsys.readouterr()
        assert main([*words, "--method", methods]) == 0
        sentences.append(" ".join(capsys.readouterr().out.partition("\n\n")[0].split()))
    assert sentences[0] == sentences[1] and ', by "left out"' in sentences[0]


def test_a_run_that_was_interrupted_says_so(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = Path(shutil.copytree(run, tmp_path / "begun"))
    manifest = read_manifest(begun)
    write_manifest(begun, {**manifest, "stopped_by": "interrupted"})
    for words in (["explain", str(begun), "--history", "101"], ["faithfulness", str(begun), "--lists", "2"]):
        capsys.readouterr()
        assert main(["diagnose", *words, "--method", "attention"]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert f"{begun} is not finished (interrupted): its best checkpoint so far is taken" in said
        assert f"`recsys-lab fit {begun}` goes on" in said


def test_a_smaller_answer_does_not_replace_a_larger_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(shutil.copytree(run, tmp_path / "other"))
    ask = ["diagnose", "faithfulness", other, "--lists", "4", "--output", str(tmp_path / "to")]
    assert main([*ask, "--method", "removal,leave_one_out"]) == 0
    held = (tmp_path / "to" / "faithfulness.json").read_text()
    for words, said in (
        (["--method", "removal"], "has the method leave_one_out, which this answer would not have"),
        (["--method", "removal,leave_one_out", "--lists", "3"], "has 4 lists, which this answer would not have"),
    ):
        capsys.readouterr()
        assert main([*ask, *words]) == 2 and said in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "to" / "faithfulness.json").read_text() == held
    assert main([*ask, "--method", "removal,leave_one_out", "--lists", "5"]) == 0
    assert main(["diagnose", "faithfulness", other, f"{other}/../other", "--method", "removal"]) == 2
    assert "is named twice: name each seed once" in capsys.readouterr().err
    for wrong, said in (
        ([other, other], "is named twice"),  # before what lies in the place of the answer
        ([f"{other}/checkpoints/best.ckpt"], f"is a file, and no run folder. Did you mean {other}?"),
    ):
        capsys.readouterr()
        assert main(["diagnose", "faithfulness", *wrong, "--lists", "3", "--output", str(tmp_path / "to")]) == 2
        assert said in " ".join(capsys.readouterr().err.split())


def test_a_checkpoint_without_its_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    assert main(["diagnose", "explain", str(alone), "--user", "u003"]) == 2
    assert "--user u003: the prepared data of the run is not there" in capsys.readouterr().err
    assert main(["diagnose", "explain", str(alone), "--history", "101,102", "--method", "attention"]) == 0


def test_a_model_that_counts_says_so(folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(checkpoint_of(Popularity(), data_of(folder), tmp_path))
    with pytest.raises(RecsysLabError, match="Popularity counts, and encodes no events"):
        explain(predictor, [101, 102])


def test_more_than_one_user_and_no_method(folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(checkpoint_of(GRU4Rec(embedding_dim=8), data_of(folder), tmp_path))
    with pytest.raises(RecsysLabError, match="of one user, and there are 2"):
        explain(predictor, made_events().filter(pl.col("user_id").is_in(["u001", "u002"])))
    with pytest.raises(RecsysLabError, match="methods is empty"):
        explain(predictor, [101], methods=[])
    with pytest.raises(RecsysLabError, match="'shap' is none of them"):
        explain(predictor, [101], methods=["shap"])  # type: ignore[list-item]
    found = explain(predictor, list(range(101, 115)), methods="leave_one_out")
    assert found["user"] is None and explain(predictor, [list(range(101, 115))], methods=["leave_one_out"]) == found
    assert len(found["events"]) == 8 and found["notes"] == ["the model sees the newest 8 of 14 events"]
    with pytest.raises(RecsysLabError, match="titles has no column 'item_id': it is a frame of item_id and title"):
        explain(predictor, [101], titles=pl.DataFrame({"id": [101], "title": ["a"]}))


def test_beside_lists_of_the_same_model(folder: Path, tmp_path: Path) -> None:
    """Of a server: in other threads the model is as it was, and the caller may be in inference mode."""
    predictor = Predictor.load(checkpoint_of(GRU4Rec(embedding_dim=8), data_of(folder), tmp_path))
    alone, history = predictor.recommend([[101, 102]], 5), list(range(101, 107))
    before = explain(predictor, history)
    with ThreadPoolExecutor(2) as pool, torch.inference_mode():
        found = pool.submit(lambda: [explain(predictor, history) for _ in range(5)])
        while not found.done():
            assert predictor.recommend([[101, 102]], 5).equals(alone)
        assert found.result() == [before] * 5 and explain(predictor, history) == before


def test_every_kind_of_field(folder: Path, tmp_path: Path) -> None:
    data = data_of(folder, with_fields=True)
    predictor = Predictor.load(checkpoint_of(SASRec(embedding_dim=8), data, tmp_path))
    frame = events_of(data).filter(pl.col("user_id") == "u003")
    found = explain(predictor, frame, methods=["integrated_gradients", "leave_one_out"])
    names = {"item", "item.tags", "item.image", "item.price", "price", "colour"}
    assert set(found["fields"]["integrated_gradients"]) == names
    assert set(found["fields"]["leave_one_out"]) == names | {"user.age"}
    for one in found["events"]:
        assert sum(one["parts"].values()) == pytest.approx(one["integrated_gradients"])
    assert np.isfinite([value for of in found["fields"].values() for value in of.values()]).all()


def test_what_goes_with_a_flat_history_may_be_flat(folder: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(checkpoint_of(SASRec(embedding_dim=8), data_of(folder, with_fields=True), tmp_path))
    flat = explain(
        predictor, [101, 102], times=[10, 20], fields={"price": [1.0, 2.0], "user.age": [30.0]}, methods="leave_one_out"
    )
    assert [one["timestamp"] for one in flat["events"]] == [20, 10]
    nested = explain(
        predictor,
        [[101, 102]],
        times=[[10, 20]],
        fields={"price": [[1.0, 2.0]], "user.age": [30.0]},
        methods="leave_one_out",
    )
    assert flat == nested


def test_names_keep_room_beside_many_methods() -> None:
    """Bars give way to them on a narrow terminal, and are there on a wide one."""
    methods = ("attention", "integrated_gradients", "leave_one_out", "removal")
    events = [
        {"ago": ago, "item_id": 100 + ago, "title": "Somebody Up There Likes Me (1956)", **dict.fromkeys(methods, 0.5)}
        for ago in (1, 2, 3)
    ]
    about = {name: {"events": True, "note": "", "sum": 1.0, "gap": 0.0, "steps": 8} for name in methods}
    item = {"item_id": 7, "title": "Marty (1955)", "rank": 1, "probability": 0.5}
    found = {"item": item, "events": events, "methods": about, "fields": {}, "notes": []}
    narrow, wide = as_text(found, 80), as_text(found, 140)
    assert "Somebody Up There" in narrow and "###" not in narrow and max(map(len, narrow.splitlines())) <= 80
    assert "Somebody Up There Likes Me (1956) (101)" in wide and "#####" in wide


def test_the_events_of_a_user_as_they_were(folder: Path) -> None:
    processed = data_of(folder).processed
    for user in (0, 3):
        found = decoded_user(processed, user)
        own = made_events().filter(pl.col("user_id") == processed.user_ids[user])
        assert found.select(own.columns).to_dict(as_series=False) == own.to_dict(as_series=False)
