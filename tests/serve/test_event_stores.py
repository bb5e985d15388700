"""Events in a file and in Redis: the same promises, kept by both. Redis is a real one that this file starts."""

from __future__ import annotations

import logging
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from served import made_run, serving

from recsys_lab.serve.server import event_store
from recsys_lab.serve.server.event_store import EventStore, StoredEvent, StoreError, open_store
from recsys_lab.words import RecsysLabError

PROGRAM = next(filter(None, map(shutil.which, ("valkey-server", "redis-server"))), None)
WHY = "neither valkey-server nor redis-server is here (Debian: apt-get install redis-server)"
NEEDS_REDIS = pytest.mark.skipif(PROGRAM is None, reason=WHY)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server of its own, which writes each event to disk before it answers."""
    folder = tmp_path_factory.mktemp("redis")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ("--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always")
    assert PROGRAM is not None
    process = subprocess.Popen([PROGRAM, "--port", str(port), *settings, "--save", ""], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(params=["file", pytest.param("redis", marks=NEEDS_REDIS)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], EventStore]]:
    """Opens the same events each time."""
    place = str(tmp_path / "events.sqlite") if request.param == "file" else request.getfixturevalue("redis_url")
    stores: list[EventStore] = []

    def again() -> EventStore:
        stores.append(open_store(place))
        return stores[-1]

    if request.param == "redis":
        again()._redis.flushall()  # type: ignore[attr-defined]
    yield again
    for store in stores:
        store.close()


def event(
    item: int | str = 1, timestamp: int = 5, user: str = "anna", received: float = 9.5, **more: object
) -> StoredEvent:
    return StoredEvent(user, item, timestamp, received, **more)  # type: ignore[arg-type]


def test_events_come_back_by_time_and_by_when_they_came(opened: Callable[[], EventStore]) -> None:
    store = opened()
    fields = {"price": 2.5, "tags": ["a", None, 3], "name": "h\u00e9\0"}
    events = [event(3, 9), event("4", 7, fields=fields), event(5, 7, id="x"), event(6, 8, user="b'; DROP TABLE events")]
    assert store.add(events) == [True] * 4
    assert store.add([event(7, 7)]) == [True]
    one, other, nobody = store.of_users(["anna", "b'; DROP TABLE events", "nobody"])
    assert one == [events[1], events[2], event(7, 7), events[0]]
    assert (other, nobody) == ([events[3]], [])
    assert opened().of_users(["anna"]) == [one]  # another server sees them


def test_an_event_with_an_id_is_stored_once(opened: Callable[[], EventStore]) -> None:
    store = opened()
    assert store.add([event(1, id="x"), event(2, id="x"), event(1), event(1)]) == [True, False, True, True]
    assert store.add([event(9, id="x"), event(3, id="y"), event(4, user="berta", id="x")]) == [False, True, True]
    assert [one.item for one in store.of_users(["anna"])[0]] == [1, 1, 1, 3]


def test_a_user_is_deleted_and_comes_anew(opened: Callable[[], EventStore]) -> None:
    store = opened()
    store.add([event(n, n, id=f"{n}" if n % 2 else None) for n in range(5)] + [event(user="berta")])
    assert store.delete_user("anna") == 5
    assert store.delete_user("anna") == 0
    assert [len(own) for own in store.of_users(["anna", "berta"])] == [0, 1]
    assert store.add([event(1, id="1")]) == [True]
    assert store.forget(1e12) == 2
    assert store.of_users(["anna", "berta"]) == [[], []]


def test_old_events_are_forgotten_by_when_they_came(opened: Callable[[], EventStore]) -> None:
    store = opened()
    store.add([event(n, timestamp=100 - n, received=float(n)) for n in range(10)])
    assert (store.forget(4.0), store.forget(4.0)) == (4, 0)
    assert [one.item for one in store.of_users(["anna"])[0]] == [9, 8, 7, 6, 5, 4]


def test_the_newest_are_read_of_a_long_history(
    opened: Callable[[], EventStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sqlite_events", "redis_events"):
        monkeypatch.setattr(f"recsys_lab.serve.server.{name}.MAX_KEPT", 3)
    store = opened()
    store.add([event(n, n) for n in range(7)])
    assert [one.item for one in store.of_users(["anna"])[0]] == [4, 5, 6]


def test_many_write_at_once(opened: Callable[[], EventStore]) -> None:
    stores = [opened(), opened()]
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(stores[n % 2].add, [event(n, id=str(n)), event(n, user=str(n))]) for n in range(60)]
        assert all(job.result() == [True, True] for job in jobs)
    assert sorted(one.item for one in stores[0].of_users(["anna"])[0]) == list(range(60))


def test_a_deleted_user_is_in_no_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "events.sqlite"))
    name, item = "a-name-that-is-found", "an-item-that-is-found"
    store.add([event(item, n, user=name, id=f"{name}-{n}") for n in range(200)])
    store.add([event(n, n, user=f"user {n}") for n in range(200)])
    store.of_users([name])

    def found(text: str) -> bool:
        return any(text.encode() in path.read_bytes() for path in tmp_path.iterdir())

    assert found(name) and found(item)
    store.delete_user(name)
    assert not found(name) and not found(item) and found("user 7")
    store.forget(1e12)
    assert not found("user 7")
    store.close()


def test_what_another_program_keeps_from_being_overwritten_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader of another process holds the log of the changes; the next deletion empties it."""
    store = open_store(str(tmp_path / "events.sqlite"))
    store.add([event("an-item-that-is-found", n) for n in range(50)] + [event(user="berta")])
    store._writer.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
    other = sqlite3.connect(tmp_path / "events.sqlite", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM events").fetchone()
    assert store.delete_user("anna") == 50 and "still holds what was deleted" in caplog.text
    other.close()
    assert store.delete_user("nobody") == 0
    assert not any(b"an-item-that-is-found" in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


def test_deletions_beside_writes_and_the_end(tmp_path: Path) -> None:
    """Each works with one connection: none is inside the transaction of another, and none waits for ever."""
    store = open_store(str(tmp_path / "events.sqlite"))
    with ThreadPoolExecutor(6) as pool:
        jobs = [
            job
            for n in range(40)
            for job in (
                pool.submit(store.add, [event(n, user=f"{n % 3}") for _ in range(20)]),
                pool.submit(store.delete_user, f"{n % 3}"),
                pool.submit(store.of_users, ["0", "1"]),
            )
        ]
        for job in jobs:
            job.result(60)
        last = [pool.submit(store.forget, 1e12), pool.submit(store.close)]
        forgotten, closed = (one.exception(60) for one in last)
        assert closed is None and (forgotten is None or "closed" in str(forgotten)), "the second may come first"
    again = open_store(str(tmp_path / "events.sqlite"))
    assert forgotten is not None or again.of_users(["0", "1", "2"]) == [[], [], []]
    again.close()


def test_the_file_is_for_this_user_alone_and_not_that_of_another_program(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "events.sqlite"))
    store.add([event()])
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    store.close()
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE things (name)")
    made.close()
    before = other.read_bytes()
    with pytest.raises(RecsysLabError, match="is a database of another program: it has a table 'things'"):
        open_store(str(other))
    assert other.read_bytes() == before


@NEEDS_REDIS
def test_a_deleted_user_is_in_no_key_of_redis(redis_url: str) -> None:
    import redis

    store, client = open_store(redis_url), redis.Redis.from_url(redis_url)
    client.flushall()
    store.add([event(user="a-name-that-is-found", id="one"), event(user="a-name-that-is-found")])
    assert any(b"a-name-that-is-found" in client.dump(key) + key for key in client.scan_iter())
    store.delete_user("a-name-that-is-found")
    assert client.keys() == [b"recsys-lab:number"]


@NEEDS_REDIS
def test_redis_that_may_lose_events_is_told(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    import redis

    with caplog.at_level(logging.WARNING, logger="recsys_lab"):
        open_store(redis_url).close()
        assert not caplog.records
        client = redis.Redis.from_url(redis_url)
        client.config_set("appendfsync", "everysec")
        try:
            open_store(redis_url).close()
        finally:
            client.config_set("appendfsync", "always")
    assert "appendfsync always" in caplog.text


@NEEDS_REDIS
def test_two_servers_share_the_events_of_redis(redis_url: str, tmp_path: Path) -> None:
    run = made_run(tmp_path)
    with serving(run, redis_url) as one, serving(run, redis_url) as other:
        assert one.post("/events", json={"user": "carla", "events": [{"item_id": 100}]}).status_code == 200
        assert other.get("/users/carla/events").json()["events"][0]["item_id"] == 100
        lists = [client.post("/recommend", json={"user": "carla"}).json()["items"] for client in (one, other)]
        assert lists[0] == lists[1]
        assert other.delete("/users/carla").json() == {"deleted": 1}
        assert one.get("/users/carla/events").status_code == 404


def test_what_can_not_be_opened_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, and longer than a page header of one " * 20)
    for place, words in {
        str(tmp_path / "text"): "text can't be opened: file is not a database",
        str(tmp_path / "no" / "file"): "can't be opened: No such file or directory",
        "mysql://somewhere": "--events is a file, or redis://HOST:PORT/NUMBER",
        "redis://:a-password@127.0.0.1:1/0": "--events: Redis does not answer: ConnectionError",
    }.items():
        with pytest.raises(RecsysLabError, match="--events") as told:
            open_store(place)
        assert words in str(told.value) and "a-password" not in str(told.value)


def test_a_store_that_is_gone_says_so(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "events.sqlite"))
    store.close()
    with pytest.raises(StoreError, match="can't be written"):
        store.add([event()])
    with pytest.raises(StoreError, match="can't be read"):
        store.of_users(["anna"])
    assert event_store.MAX_KEPT == 10_000
