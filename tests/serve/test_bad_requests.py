"""Sixty bad requests: each is refused with a message, nothing is changed, and no log has the token."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from bad_requests import BEARER, OPEN, REQUESTS, TOKEN
from served import made_run, serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("bad")
    with serving(made_run(folder), folder / "events.sqlite", token=TOKEN, unknown="error") as client:
        kept = {"user": "anna", "events": [{"item_id": 100, "fields": {"price": 3}, "id": "first"}]}
        assert client.post("/events", json=kept, headers=OPEN).json() == {"stored": 1, "repeated": 0, "unknown": 0}
        yield client


def state(client: Any) -> tuple[Any, ...]:
    store = client.service.store
    rows = store._reader.execute("SELECT * FROM events ORDER BY number").fetchall()
    return rows, id(client.service.live), sorted(path.name for path in store.path.parent.iterdir())


@pytest.mark.parametrize("name", REQUESTS)
def test_it_is_refused_in_words(client: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    method, path, body, headers = REQUESTS[name]
    before = state(client)
    with caplog.at_level(logging.DEBUG):
        answer = client.request(
            method, path, content=body, headers={k: v.encode("latin-1") for k, v in headers.items()}
        )
    assert 400 <= answer.status_code < 500, answer.text
    text = answer.text if name == "another host" else answer.json()["error"]
    assert 10 <= len(text) <= 1000 and "\n" not in text and TOKEN not in text
    assert not [r for r in caplog.records if TOKEN in r.getMessage() and not r.name.startswith("http")]  # the client's
    assert state(client) == before
    assert client.post("/recommend", json={"user": "anna", "k": 3}, headers=OPEN).status_code == 200


def test_the_messages_name_the_place(client: Any) -> None:
    def error(name: str) -> str:
        method, path, body, headers = REQUESTS[name]
        text: str = client.request(method, path, content=body, headers=headers).json()["error"]
        return text

    assert error("no token") == "this server needs its token: a header `Authorization: Bearer TOKEN`"
    assert error("a wrong key") == "top: Extra inputs are not permitted"
    assert error("an item that is a list").startswith(
        "history.0: Input should be a valid integer, or Input should be a"
    )
    assert error("neither history nor user").startswith("give a history, or a user whose events were posted")
    assert error("JSON as text").endswith("with the header Content-Type: application/json")
    assert error("no JSON").startswith("the body is not JSON: ")
    assert error("an unknown item") == (
        "1 of 2 items in the histories are unknown to the model, the first 'never seen'. They are skipped with "
        "unknown='skip' (--unknown skip)"
    )
    assert error("an event with a wrong value").startswith("events.0: fields: 'cheap' can't be a value of the")
    assert error("an event with an unknown field").endswith("the model is fed no field 'colour'; known: price")
    assert error("a huge body") == "the body is larger than 1,024 KB"
    assert error("a user who is not there") == "there are no events of the user 'nobody'"
    assert error("times that go back") == "times of user 0 go back: a history is oldest first; sort its events"


def test_a_path_that_is_a_user_is_only_a_name(client: Any) -> None:
    user = "../../etc/passwd"
    posted = client.post("/events", json={"user": user, "events": [{"item_id": 100}]}, headers=OPEN)
    assert posted.status_code == 200
    gone = client.delete("/users/..%2F..%2Fetc%2Fpasswd", headers=BEARER)
    assert (gone.status_code, gone.json()) == (200, {"deleted": 1})
