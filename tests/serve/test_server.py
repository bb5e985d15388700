"""The routes of the server: what they answer, together and alone; full queues, time-outs, bodies; another model while
requests come; events, retention and deletion; measures and the description of the interface."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from served import made_run, serving

from recsys_lab import config
from recsys_lab.config import keep_out_of_collections, only_asks
from recsys_lab.serve import Predictor
from recsys_lab.serve.explaining import explain
from recsys_lab.serve.server import event_store
from recsys_lab.serve.server.answers import answer_all
from recsys_lab.serve.server.bodies import RecommendBody


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of other items."""
    folder = tmp_path_factory.mktemp("served")
    made_run(folder)
    made_run(folder, 500, "later")
    return folder


@pytest.fixture
def client(place: Path, tmp_path: Path) -> Iterator[Any]:
    with serving(place / "run", tmp_path / "events.sqlite") as client:
        yield client


def post(client: Any, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_list_is_that_of_the_predictor_with_titles(place: Path, client: Any) -> None:
    said = post(client, "/recommend", history=[100, "101"], k=4, times=[5, 6], fields={"price": [1, None]})
    best = Predictor.load(place / "run").recommend([[100, 101]], 4, times=[[5, 6]], fields={"price": [[1.0, None]]})
    assert [(i["rank"], i["item_id"]) for i in said["items"]] == best.select("rank", "item_id").rows()
    assert [i["score"] for i in said["items"]] == pytest.approx(best["score"].to_list(), abs=1e-6)
    assert all(i["title"] == f"Film {i['item_id']}" for i in said["items"])
    assert said["source"] == "model" and said["note"] is None and said["model"].startswith("run-")
    empty = post(client, "/recommend", history=["nobody knows"], k=2)
    assert (empty["source"], empty["note"]) == ("popularity", "none of its 1 events is of a known item")
    chosen = post(client, "/recommend", history=[100], candidates=[101, 102, 100], blocked=[102])
    assert [i["item_id"] for i in chosen["items"]] == [101]
    assert chosen["note"] == "1 of 10: there are 2 candidates, 1 of them in the history"
    alike = post(client, "/similar", item=100, k=3)
    again = Predictor.load(place / "run").similar(100, 3)
    assert [i["item_id"] for i in alike["items"]] == again["item_id"].to_list() and alike["by"] == "cosine"


def test_what_is_answered_together_is_what_is_answered_alone(client: Any) -> None:
    """Of histories with and without times and fields, of other lengths, and with a bad one among them."""
    asked: list[dict[str, Any]] = [
        {"history": [100 + n, 101 + n][: 1 + n % 2], "k": 3 + n % 2, "exclude": None if n % 3 else "history"}
        | ({"times": [7, 9][: 1 + n % 2]} if n % 2 else {})
        | ({"fields": {"price": [1.5, None][: 1 + n % 2]}} if n % 5 == 0 else {})
        for n in range(20)
    ]
    bodies = [RecommendBody(**one) for one in asked]
    bodies.insert(7, RecommendBody(history=[100, 101], times=[9, 7], k=4))
    together = answer_all(client.service.live, bodies, {})
    assert "go back" in str(together.pop(7))
    assert isinstance(together, list) and len(together) == 20
    for one, answer in zip(asked, together, strict=True):
        alone = post(client, "/recommend", **one)
        assert not isinstance(answer, Exception)
        found = answer.model_dump()
        assert [i["item_id"] for i in found["items"]] == [i["item_id"] for i in alone["items"]]
        assert [i["score"] for i in found["items"]] == pytest.approx([i["score"] for i in alone["items"]], abs=1e-5)


def test_requests_that_come_together_are_one_batch(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service, sizes, first = client.service, [], threading.Event()
    answer, begun = service._model._work, threading.Event()

    def work(questions: list[Any]) -> Any:
        sizes.append(len(questions))
        begun.set()
        first.wait(10)
        return answer(questions)

    monkeypatch.setattr(service._model, "_work", work)
    with ThreadPoolExecutor(8) as pool:
        one = pool.submit(post, client, "/recommend", history=[100])
        begun.wait(10)
        others = [pool.submit(post, client, "/recommend", history=[101]) for _ in range(6)]
        while service._model.waiting < 6:
            time.sleep(0.01)
        first.set()
        assert len({str(other.result(10)["items"]) for other in others}) == 1 and one.result(10)["items"]
    assert sizes == [1, 6]


def test_a_full_queue_refuses_and_late_answers_are_said(place: Path, tmp_path: Path) -> None:
    with serving(place / "run", tmp_path / "e.sqlite", max_queue=2, max_batch=1, timeout=0.5) as client:
        service, go = client.service, threading.Event()
        answer, done = service._model._work, []
        service._model._work = lambda questions: (done.append(len(questions)), go.wait(10), answer(questions))[2]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: client.post("/recommend", json={"history": [100 + n]}), range(8)))
        statuses = sorted(one.status_code for one in answers)
        assert statuses == [429] * 5 + [503] * 3 or statuses == [429] * 6 + [503] * 2, statuses
        refused = next(one for one in answers if one.status_code == 429)
        assert (refused.headers["retry-after"], refused.json()["error"]) == ("1", "too many requests wait: try again")
        late = next(one for one in answers if one.status_code == 503)
        assert late.json()["error"] == "no answer within 0.5 s: try again"
        go.set()
        while service._model.waiting:
            time.sleep(0.01)
        assert post(client, "/recommend", history=[100])["items"]
        assert done == [1, 1]  # nobody waited for the others any more


def test_bodies_that_are_large_or_late_are_refused(place: Path, tmp_path: Path) -> None:
    with serving(place / "run", tmp_path / "e.sqlite", max_body_kb=1, timeout=0.2) as client:
        large = b'{"history": [' + b"100, " * 400 + b"100]}"
        told = client.post("/recommend", content=large, headers={"Content-Type": "application/json"})
        assert (told.status_code, told.json()["error"]) == (413, "the body is larger than 1 KB")
        parts = (large[i : i + 100] for i in range(0, len(large), 100))  # no length is said before
        told = client.post("/recommend", content=parts, headers={"Content-Type": "application/json"})
        assert told.status_code == 413

        async def slowly() -> list[dict[str, Any]]:
            sent: list[Any] = []

            async def receive() -> dict[str, Any]:
                await asyncio.sleep(0.05)
                return {"type": "http.request", "body": b" ", "more_body": True}

            async def send(message: Any) -> None:
                sent.append(message)

            headers = [(b"host", b"127.0.0.1")]
            scope = {"type": "http", "method": "POST", "path": "/recommend", "headers": headers, "query_string": b""}
            await client.app(scope, receive, send)
            return sent

        start, body = asyncio.run(slowly())
        assert start["status"] == 408 and b"did not come within 0.2 s" in body["body"]


def test_another_model_comes_with_its_items_while_requests_are_answered(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(place / "run")
    with serving(link, tmp_path / "e.sqlite") as client:
        post(client, "/events", user="anna", events=[{"item_id": 100, "fields": {"price": 2}}, {"item_id": 503}])
        stop, answers = threading.Event(), []

        def ask(number: int) -> None:
            while not stop.is_set():
                answers.append(post(client, "/recommend", **({"user": "anna"} if number else {"history": [100, 503]})))

        with ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(ask, number) for number in range(2)]
            while len(answers) < 5:
                time.sleep(0.01)
            link.unlink()
            link.symlink_to(place / "later")
            assert client.post("/reload").json()["model"].startswith("later-")
            seen = len(answers)
            while len(answers) < seen + 5:
                time.sleep(0.01)
            stop.set()
            for one in asking:
                one.result(30)
        models = {answer["model"].partition("-")[0] for answer in answers}
        assert models == {"run", "later"}
        for answer in answers:
            is_later = answer["model"].startswith("later-")
            assert all((item["item_id"] >= 500) == is_later for item in answer["items"])
            assert all(item["title"] == f"Film {item['item_id']}" for item in answer["items"])
        link.unlink()
        link.symlink_to(tmp_path)
        told = client.post("/reload")
        assert told.status_code == 422 and "is not a run folder" in told.json()["error"]
        assert post(client, "/recommend", history=[503])["model"].startswith("later-")
        assert 'recsys_lab_reloads_total{outcome="failed"} 1.0' in client.get("/metrics").text


def test_the_model_is_left_out_of_collections_and_gone_when_it_is_replaced(client: Any) -> None:
    service = client.service
    keep_out_of_collections()
    try:
        earlier = weakref.ref(service.live.predictor.model)
        assert all(one is not earlier() for one in gc.get_objects())
        assert client.post("/reload").status_code == 200
        assert earlier() is None
        assert all(one is not service.live.predictor.model for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_cycles_are_looked_for_again_once_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "trains", True)
    try:
        only_asks()
        assert not gc.isenabled()
        keep_out_of_collections()
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


def test_an_explanation_is_that_of_the_library_with_titles(place: Path, client: Any) -> None:
    """Of a history, of a user, of the first item and of another; and lists beside it stay what they are."""
    lists = post(client, "/recommend", history=[100, 101], k=5)["items"]
    said = post(client, "/explain", history=[100, 101], fields={"price": [1, None]}, item="102")
    one = Predictor.load(place / "run")
    asked: Any = {"item": 102, "methods": ["attention", "leave_one_out"], "fields": {"price": [[1.0, None]]}}
    found = explain(one, [100, 101], **asked)
    assert said["item"] == pytest.approx({**found["item"], "title": "Film 102"})
    assert [event["title"] for event in said["events"]] == ["Film 101", "Film 100"]
    for event, again in zip(said["events"], found["events"], strict=True):
        assert event == pytest.approx({**again, "title": event["title"]})
    assert said["methods"] == found["methods"] and said["notes"] == found["notes"] == []
    assert said["fields"]["leave_one_out"] == pytest.approx(found["fields"]["leave_one_out"])
    assert said["model"].startswith("run-") and said["item"]["is_first_of_list"] is False
    post(client, "/events", user="anna", events=[{"item_id": 101, "timestamp": 9}, {"item_id": 100, "timestamp": 4}])
    of_user = post(client, "/explain", user="anna", methods=["removal"])
    assert of_user["item"]["item_id"] == post(client, "/recommend", user="anna")["items"][0]["item_id"]
    assert [(event["item_id"], event["timestamp"]) for event in of_user["events"]] == [(101, 9), (100, 4)]
    assert all("removal" in event and "attention" not in event for event in of_user["events"])
    told = client.post("/explain", json={"user": "nobody"})
    assert told.status_code == 422 and "the history is empty" in told.json()["error"]
    assert post(client, "/recommend", history=[100, 101], k=5)["items"] == lists
    live = client.service.live
    assert live.to_explain.model is not live.predictor.model, "explanations put other vectors into theirs"


def test_events_make_the_history_of_a_user(client: Any) -> None:
    events = [{"item_id": 101, "timestamp": 9, "fields": {"price": 2.5}}, {"item_id": 100, "timestamp": 4, "id": "x"}]
    assert post(client, "/events", user="anna", events=events) == {"stored": 2, "repeated": 0, "unknown": 0}
    again = [{"item_id": 100, "timestamp": 4, "id": "x"}, {"item_id": "new", "timestamp": 11}]
    assert post(client, "/events", user="anna", events=again) == {"stored": 1, "repeated": 1, "unknown": 1}
    stored = client.get("/users/anna/events").json()
    assert [event["item_id"] for event in stored["events"]] == [100, 101, "new"]
    asked = {"history": [100, 101], "times": [4, 9], "fields": {"price": [None, 2.5]}}
    assert post(client, "/recommend", user="anna")["items"] == post(client, "/recommend", **asked)["items"]
    assert post(client, "/recommend", user="nobody")["note"] == "the history is empty"
    assert client.delete("/users/anna").json() == {"deleted": 3}
    assert client.get("/users/anna/events").status_code == client.delete("/users/anna").status_code == 404
    assert post(client, "/recommend", user="anna")["source"] == "popularity"
    before = time.time()
    post(client, "/events", user=7, events=[{"item_id": 100}])
    (event,) = client.get("/users/7/events").json()["events"]
    assert before - 1 <= event["timestamp"] <= time.time()


def test_what_a_later_model_can_not_read_is_missing_and_no_error(client: Any) -> None:
    store = client.service.store
    odd = [("a", {"price": "cheap"}), ("b", {"price": [1, 2]}), ("c", {"gone": 1}), ("d", {"price": True})]
    store.add([event_store.StoredEvent("anna", 100, n, time.time(), f, id) for n, (id, f) in enumerate(odd)])
    plain = post(client, "/recommend", history=[100] * 4, times=[0, 1, 2, 3])
    assert post(client, "/recommend", user="anna")["items"] == plain["items"]


def test_events_are_kept_for_so_many_days(place: Path, tmp_path: Path) -> None:
    with serving(place / "run", tmp_path / "e.sqlite", keep_days=2) as client:
        now, day = time.time(), 86_400
        old = event_store.StoredEvent("anna", 100, 5, now - 2.1 * day)
        client.service.store.add([old, event_store.StoredEvent("anna", 101, 5, now - 1.9 * day)])
        assert [e["item_id"] for e in client.get("/users/anna/events").json()["events"]] == [101]  # not swept yet
    with serving(place / "run", tmp_path / "e.sqlite", keep_days=2) as client:
        end = time.time() + 20
        while len(client.service.store.of_users(["anna"])[0]) > 1 and time.time() < end:
            time.sleep(0.01)
        assert [event.item for event in client.service.store.of_users(["anna"])[0]] == [101]


def test_events_that_can_not_be_stored_are_not_acknowledged(client: Any) -> None:
    def broken(events: Any) -> Any:
        raise event_store.StoreError("the events can't be written: disk full")

    client.service.store.add = broken
    told = client.post("/events", json={"user": "anna", "events": [{"item_id": 100}]})
    assert (told.status_code, told.json()["error"]) == (503, "the events can't be written: disk full")
    client.service.store.check = lambda: broken([])
    assert client.get("/health").status_code == 503


def test_health_items_measures_and_the_description(client: Any) -> None:
    health = client.get("/health").json()
    assert health["status"] == "ok" and health["items"] == 29
    assert client.get("/items", params={"words": "film 11", "limit": 3}).json()[0]["title"].startswith("Film 11")
    assert client.get("/items?words=no+such+film").json() == []
    post(client, "/recommend", history=[100])
    client.delete("/users/anna")
    client.get("/nothing")
    text = client.get("/metrics").text
    for line in (
        'recsys_lab_requests_total{path="/recommend",status="200"} 1.0',
        'recsys_lab_requests_total{path="/users/{user:path}",status="404"} 1.0',
        'recsys_lab_requests_total{path="other",status="404"} 1.0',
        'recsys_lab_request_seconds_count{path="/recommend"} 1.0',
        "recsys_lab_batch_size_count 1.0",
        "recsys_lab_model_waiting 0.0",
        f'recsys_lab_model_info{{name="{health["model"]}"}} 1.0',
    ):
        assert line in text.splitlines(), line
    assert "anna" not in text
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) >= {"/recommend", "/events", "/similar", "/health", "/users/{user}", "/reload"}
    assert described["components"]["schemas"]["RecommendBody"]["properties"]["k"]["maximum"] == 1000


def test_an_unforeseen_error_is_told_in_one_line(client: Any) -> None:
    client.service.live.predictor.lists = None
    told = client.post("/recommend", json={"history": [100]})
    assert (told.status_code, told.json()["error"]) == (500, "an unforeseen error: the log of the server has it")


def test_only_its_own_names_reach_a_server_of_this_machine(client: Any) -> None:
    for host, status in (("localhost:8000", 200), ("[::1]:8000", 200), ("127.0.0.1", 200), ("evil.example", 400)):
        assert client.get("/health", headers={"Host": host}).status_code == status


def test_a_deletion_takes_what_came_before_it_and_is_not_stored_yet(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, begun, go_on = client.service.store, threading.Event(), threading.Event()
    add = store.add

    def slow(events: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return add(events)

    monkeypatch.setattr(store, "add", slow)
    with ThreadPoolExecutor(2) as pool:
        posted = pool.submit(post, client, "/events", user="anna", events=[{"item_id": 101}])
        assert begun.wait(30)
        deleted = pool.submit(client.delete, "/users/anna")
        wait([deleted], timeout=0.3)
        go_on.set()
        assert posted.result(30)["stored"] == 1
        assert deleted.result(30).json() == {"deleted": 1}
    assert client.get("/users/anna/events").status_code == 404


def test_unknown_items_of_stored_events_are_no_error_for_another_model(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(place / "later")
    with serving(link, tmp_path / "e.sqlite", unknown="error") as client:
        post(client, "/events", user="anna", events=[{"item_id": 529, "timestamp": 5}])
        link.unlink()
        link.symlink_to(place / "run")
        assert client.post("/reload").status_code == 200
        assert client.post("/recommend", json={"history": [529]}).status_code == 422
        post(client, "/events", user="anna", events=[{"item_id": 101, "timestamp": 9}])
        own, given = (post(client, "/recommend", **body) for body in ({"user": "anna"}, {"history": [101]}))
        assert own["items"] == given["items"] and own["source"] == "model"


def test_items_are_searched_beside_the_loop_that_talks_to_clients(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    monkeypatch.setattr(type(client.service.live), "found", lambda *_: threads.append(threading.current_thread()) or [])
    monkeypatch.setattr(client.service, "check", lambda: at_once(threads.append, threading.current_thread))
    assert client.get("/items?words=film").json() == [] and client.get("/health").status_code == 200
    searched, loop = threads
    assert searched is not loop


async def at_once(do: Any, made: Any) -> None:
    do(made())
