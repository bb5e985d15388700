"""A Predictor gives what `predict` gives where windows stop at sessions, where one type of event is predicted, whatever
the inputs of the model are, and for items that were never trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_data import made_events, prepared, quiet_trainer
from test_predictor_of_every_model import check, check_same, predicted
from trained import checkpoint_of, data_of, events_of

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.models import GRU4Rec, LSTMAttention, SASRec
from recsys_lab.models.blocks.inputs import Inputs
from recsys_lab.models.blocks.time_features import GapBuckets, GapToQuery, HourOfDay, RelativeTime
from recsys_lab.serve import Predictor
from recsys_lab.words import RecsysLabError

from shop_with_types import made_shop, of  # isort: skip  trained.py makes them known

SESSIONS = {
    "pause": {"sessions": "30m", "window_within": "session"},
    "column": {"sessions": "session_id", "window_within": "session"},
    "same_session": {"sessions": "session_id", "fields": ["worth", "same_session"]},
    "same_session and pause": {"sessions": "1h", "window_within": "session", "fields": ["same_session"]},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shop(tmp_path_factory.mktemp("data"))


def log_of(data: SequenceDataModule) -> pl.DataFrame:
    """The events as the shop has them."""
    processed = data.processed
    frame = events_of(data)
    codes = pl.Series(processed.field_array("session_id"))
    return frame.with_columns(session_id=pl.Series([None, *processed.field_values("session_id")]).gather(codes))


@pytest.mark.parametrize("name", SESSIONS)
def test_windows_stop_where_they_did_in_training(name: str, shop: Path, tmp_path: Path) -> None:
    data = of(shop, exclude_seen="none", **SESSIONS[name])
    path = checkpoint_of(SASRec(embedding_dim=8), data, tmp_path)
    expected, log, one = (
        predicted(SASRec.load_from_checkpoint(path), data, tmp_path),
        log_of(data),
        Predictor.load(path),
    )
    given = log if name != "same_session and pause" else log.drop("session_id")
    check_same(one.recommend(given, 5, exclude=None), expected)
    state, items = one.start("u"), log["item_id"].to_list()[:3]
    events = [{"item_id": item, "timestamp": 1_000 + 9_000 * place} for place, item in enumerate(items)]
    if data.sessions == "session_id":
        events = [event | {"session_id": f"s{place}"} for place, event in enumerate(events)]
    for event in events:
        state = one.step(state, event)
    assert one.top(state, 3).equals(one.recommend(pl.DataFrame(events).with_columns(user_id=pl.lit("u")), 3))
    if data.window_within == "session":  # the last event alone
        alone = one.recommend(pl.DataFrame(events[-1:]).with_columns(user_id=pl.lit("u")), 3, exclude=None)
        assert one.top(state, 3, exclude=None)["score"].to_list() == pytest.approx(alone["score"].to_list())
    else:
        others = one.recommend(pl.DataFrame(events).with_columns(pl.lit("a").alias("session_id"), user_id=pl.lit("u")))
        assert others["score"].to_list() != one.top(state)["score"].to_list(), "it goes on with one session"


def test_the_one_type_that_was_predicted_is_asked_for(tmp_path: Path) -> None:
    events = made_events().with_columns(pl.col("event_type").replace({"type0": "buy", "type1": "view"}))
    prepare = PrepareSettings(fields=("event_type=event.categorical@query",))
    chosen: Any = {"target_types": ["buy"], "max_length": 5, "exclude_seen": "none"}
    data = SequenceDataModule.from_frames(events, data_dir=tmp_path, prepare=prepare, **chosen)
    model = GRU4Rec(embedding_dim=8, target_fields=["event_type"])
    path = checkpoint_of(model, data, tmp_path, steps=20)
    expected, one = predicted(GRU4Rec.load_from_checkpoint(path), data, tmp_path), Predictor.load(path)
    log = events_of(data)
    found = one.recommend(log, 5, exclude=None)
    check_same(found, expected)
    users = log["user_id"].n_unique()
    for name in ("buy", "view"):
        asked = one.recommend(log, 5, exclude=None, target_fields={"event_type": [name] * users})
        assert asked.equals(found) == (name == "buy")
        typed = [
            "--input",
            str(tmp_path / "log.csv"),
            "--top",
            "5",
            "--keep_history",
            "--output",
            str(tmp_path / "l.csv"),
        ]
        log.write_csv(tmp_path / "log.csv")
        assert main(["recommend", str(path), *typed, "--target_fields", f"event_type={name}"]) == 0
        lists = pl.read_csv(tmp_path / "l.csv", infer_schema=False)
        assert lists["item_id"].to_list() == asked["item_id"].cast(pl.String).to_list()


def test_the_event_to_predict_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a model that is told it by nobody else: a list and its explanation are of what is asked."""
    events = made_events().with_columns(pl.col("event_type").replace({"type0": "buy", "type1": "view"}))
    prepare = PrepareSettings(fields=("event_type=event.categorical@query",))
    data = SequenceDataModule.from_frames(events, data_dir=tmp_path, prepare=prepare, max_length=5)
    path = checkpoint_of(GRU4Rec(embedding_dim=8, target_fields=["event_type"]), data, tmp_path, steps=5)
    one, history = Predictor.load(path), "101,102,103"
    for name in ("buy", "view"):
        told: Any = {"target_fields": {"event_type": [name]}}
        typed = ["--history", history, "--target_fields", f"event_type={name}", "--json"]
        assert main(["recommend", str(path), *typed, "--top", "3"]) == 0
        lists = json.loads(capsys.readouterr().out)
        expected = one.recommend([[101, 102, 103]], 3, **told)
        assert [row["score"] for row in lists] == pytest.approx(expected["score"].to_list())
        assert main(["diagnose", "explain", str(path), *typed, "--method", "removal"]) == 0
        assert json.loads(capsys.readouterr().out)["item"]["item_id"] == expected["item_id"][0]
    for words, said in (
        ([], "reads the field 'event_type' of the event to predict.*recommend --target_fields event_type=VALUE"),
        (["event_type"], "--target_fields event_type: write NAME=VALUE"),
        (["event_type=bay"], "--target_fields event_type=bay: the model was not trained.*Did you mean 'buy'"),
        (["price=3"], "--target_fields price=3: of the event to predict the model reads event_type"),
    ):
        option = ["--target_fields", *words] if words else []
        assert main(["recommend", str(path), "--history", history, *option]) == 2
        assert re.search(said, " ".join(capsys.readouterr().err.split()))


def test_the_time_of_the_prediction_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_of(prepared(tmp_path / "plain", made_events().with_columns(pl.col("timestamp") + 1_700_000_000)).path)
    path = checkpoint_of(GRU4Rec(embedding_dim=8, inputs=Inputs(time=[GapToQuery()])), data, tmp_path, steps=5)
    log, one = events_of(data), Predictor.load(path)
    log.write_csv(tmp_path / "log.csv")
    last, scores = int(log["timestamp"].max()), []  # type: ignore[arg-type]
    for when in (last, last + 10**7):
        typed = ["recommend", str(path), "--input", str(tmp_path / "log.csv"), "--top", "3", "--json"]
        assert main([*typed, "--query_time", str(when)]) == 0
        scores.append([row["score"] for row in json.loads(capsys.readouterr().out)])
        assert scores[-1] == pytest.approx(one.recommend(log, 3, query_time=when)["score"].to_list(), abs=1e-5)
    assert scores[0] != scores[1]
    assert main([*typed, "--query_time", "1000"]) == 2
    assert "has an event at" in capsys.readouterr().err


INPUTS: dict[str, Any] = {
    "user first": {"user": "first", "time": [HourOfDay()]},
    "concat, gate, gaps": {"fields": "concat", "items": "gate", "time": [GapBuckets()]},
    "query": {"time": [GapToQuery(), RelativeTime("query")]},
}


@pytest.mark.parametrize("name", ["user first", *(pytest.param(n, marks=pytest.mark.slow) for n in [*INPUTS][1:])])
@pytest.mark.parametrize("cls", [SASRec, GRU4Rec, pytest.param(LSTMAttention, marks=pytest.mark.slow)])
def test_every_input(cls: Any, name: str, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "plain", made_events(event_types=1)).path
    model = cls(embedding_dim=8, inputs=Inputs(**INPUTS[name]))
    mode: Any = "last_position" if "query" in name else "all_positions"
    check(model, data_of(folder, with_fields=True, training_mode=mode), tmp_path)
    one = Predictor.load(tmp_path / "model.ckpt")
    items = one.item_ids.at(one.is_trained.nonzero()[:3, 0].numpy()).to_list()
    state, times = one.start("u", **{"user.age": 40}), [5_000, 9_000, 99_000]
    for item, time in zip(items, times, strict=True):
        state = one.step(state, {"item_id": item, "timestamp": time})
    whole = one.recommend({"u": items}, 3, times=[times], fields={"user.age": [40]})
    assert one.top(state, 3)["item_id"].to_list() == whole["item_id"].to_list()
    assert one.top(state, 3)["score"].to_list() == pytest.approx(whole["score"].to_list(), rel=1e-5, abs=1e-5)


def test_items_without_training_events_where_the_model_scores_them(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "plain", made_events(num_users=9, num_items=60, event_types=1)).path
    data = data_of(folder, with_fields=True, split=GlobalTemporal(0.6, 0.8), exclude_seen="history")
    path = checkpoint_of(SASRec(embedding_dim=8), data, tmp_path, steps=1)
    lists, k = Recommendations(tmp_path / "best.parquet", top_k=100), 100
    callbacks: list[Any] = [RankingEvaluation(candidates="all"), lists]
    model = SASRec.load_from_checkpoint(path)
    quiet_trainer(tmp_path, callbacks=callbacks).predict(model, data, return_predictions=False)
    one, log = Predictor.load(path), events_of(data)
    found = one.recommend(log, k, candidates="all")
    assert found["item_id"].to_list() == pl.read_parquet(lists.path)["item_id"].to_list()
    cold = one.item_ids.at((~one.is_trained).nonzero()[1:, 0].numpy()).to_list()
    assert cold and set(cold) & set(found["item_id"]) and not set(cold) & set(one.recommend(log, k)["item_id"])
    named = one.recommend([log["item_id"].to_list()[:2]], candidates=cold[:2], exclude=None)
    assert set(named["item_id"]) == set(cold[:2])
    assert one.score([log["item_id"].to_list()[:2]], cold[:1])["score"].null_count() == 0
    by_ids = Predictor.load(checkpoint_of(SASRec(embedding_dim=8), data_of(folder), tmp_path / "ids", steps=1))
    with pytest.raises(RecsysLabError, match="candidates='all': the model knows items by their ids alone"):
        by_ids.recommend(log, candidates="all")
