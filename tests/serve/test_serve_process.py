"""`recsys-lab serve` as a process: signals, a taken address, bad requests over a real connection, refusals."""

from __future__ import annotations

import gc
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from bad_requests import BEARER, OPEN, REQUESTS, TOKEN
from served import made_run, service_of

from recsys_lab.cli import main
from recsys_lab.serve.server.http_server import run_server
from recsys_lab.words import RecsysLabError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("process")
    made_run(folder)
    made_run(folder, 500, "later")
    return folder


class Served:
    """A server process. `output` is what it wrote."""

    def __init__(self, run: Path, events: Path, *options: str, **environment: str) -> None:
        self.log = events.with_suffix(".txt")
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "recsys_lab.cli",
                    "serve",
                    str(run),
                    "--port",
                    "0",
                    "--events",
                    str(events),
                    *options,
                ],
                stdout=file,
                stderr=file,
                env={**os.environ, **environment},
            )
        end = time.monotonic() + 100
        while not (found := re.search(r"at http://127\.0\.0\.1:(\d+)", self.output)):
            assert time.monotonic() < end and self.process.poll() is None, self.output
            time.sleep(0.02)
        self.port = int(found[1])
        while True:
            try:
                self.ask("GET", "/health")
                break
            except OSError:
                assert time.monotonic() < end, self.output
                time.sleep(0.02)

    @property
    def output(self) -> str:
        return self.log.read_text()

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if headers is None else headers
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if "json" in answer.headers["content-type"] else text
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def served(run: Path, events: Path, *options: str, **environment: str) -> Iterator[Served]:
    server = Served(run, events, *options, **environment)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(20)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_answered_when_it_stops(place: Path, tmp_path: Path, number: int) -> None:
    with served(place / "run", tmp_path / "events.sqlite") as server, ThreadPoolExecutor(1) as pool:
        body = json.dumps({"history": [100], "k": 3}).encode()
        with socket.create_connection(
            ("127.0.0.1", server.port), timeout=60
        ) as half:  # the rest comes after the signal
            half.sendall(b"POST /recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
            half.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
            time.sleep(0.3)
            ended = pool.submit(server.stop, number)
            time.sleep(0.3)
            half.sendall(body[5:])
            answer = http.client.HTTPResponse(half)
            answer.begin()
            assert answer.status == 200 and len(json.loads(answer.read())["items"]) == 3
        assert ended.result(60) == 0
        assert server.output.rstrip().endswith("stopped")


def test_a_signal_that_comes_before_it_listens_stops_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serve = uvicorn.Server.serve

    async def too_early(self: uvicorn.Server, sockets: Any = None) -> None:
        signal.raise_signal(signal.SIGTERM)
        await serve(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "serve", too_early)
    service = service_of(place / "run", tmp_path / "events.sqlite")
    with caplog.at_level("INFO", "recsys_lab"):
        run_server(service, "127.0.0.1", 0, None)  # returns
    gc.unfreeze()
    told = [record.getMessage() for record in caplog.records]
    assert told[-1] == "stopped" and told[-2].startswith("serving run-")


@pytest.mark.process
def test_a_signal_brings_another_model(place: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(place / "run")
    with served(link, tmp_path / "events.sqlite") as server:
        assert server.ask("GET", "/health")[1]["model"].startswith("run-")
        link.unlink()
        link.symlink_to(place / "later")
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while not server.ask("GET", "/health")[1]["model"].startswith("later-"):
            assert time.monotonic() < end, server.output
        _, said = server.ask("POST", "/recommend", {"history": [500]})
        assert said["source"] == "model" and all(item["item_id"] >= 500 for item in said["items"])


@pytest.mark.process
def test_bad_requests_over_a_real_connection(place: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.sqlite"
    (tmp_path / "token").write_text(TOKEN + "\n")
    options = ("--token-file", str(tmp_path / "token"), "--unknown", "error")
    with served(place / "run", events, *options) as server:
        one = {"user": "anna", "events": [{"item_id": 100}]}
        assert server.ask("POST", "/events", one, OPEN)[0] == 200
        _, health = server.ask("GET", "/health")
        for name, (method, path, body, headers) in REQUESTS.items():
            status, said = server.ask(method, path, body, headers)
            assert 400 <= status < 500, name
            assert TOKEN not in str(said) and "\n" not in str(said), name
        for raw in (
            b"GARBAGE\r\n\r\n",
            f"GET /\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode(),
            b"\x16\x03\x01" * 50,
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 70_000,
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.sendall(raw)
                assert connection.recv(100).startswith(b"HTTP/1.1 400")
        assert server.ask("GET", "/health")[1] == health
        assert server.ask("GET", "/users/anna/events", None, BEARER)[1]["events"][0]["item_id"] == 100
        assert server.stop() == 0
        assert TOKEN not in server.output and "anna" not in server.output and "Traceback" not in server.output
    with sqlite3.connect(events) as database:
        assert database.execute("SELECT count(*) FROM events").fetchone() == (1,)


@pytest.mark.process
def test_a_taken_address_and_the_token_of_the_environment(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(place / "run", tmp_path / "events.sqlite", RECSYS_LAB_TOKEN=TOKEN) as server:
        assert server.ask("GET", "/metrics")[0] == 401 and server.ask("GET", "/metrics", None, BEARER)[0] == 200
        events = str(tmp_path / "others.sqlite")
        code = main(["serve", str(place / "run"), "--port", str(server.port), "--events", events])
        assert code == 2 and f"--port {server.port}: another program has 127.0.0.1:" in capsys.readouterr().err


def test_an_address_that_is_none_and_a_token_that_is_no_text(tmp_path: Path) -> None:
    from recsys_lab.serve.server.http_server import _listening, read_token

    with pytest.raises(RecsysLabError, match=r"--host 192.0.2.1: can't listen there: Cannot assign requested address"):
        _listening("192.0.2.1", 0)
    (tmp_path / "token").write_bytes(b"\xff" * 40)
    with pytest.raises(RecsysLabError, match="a token is 16 or more ASCII characters"):
        read_token(str(tmp_path / "token"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["serve", *words]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_what_can_not_be_served_is_said_before_a_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECSYS_LAB_TOKEN", raising=False)
    told = refused(capsys, "nowhere", "--host", "0.0.0.0")
    assert "--host 0.0.0.0: other machines could ask, and no token is set" in told and "--token_file FILE" in told
    (tmp_path / "token").write_text("short")
    told = refused(capsys, "nowhere", "--token_file", str(tmp_path / "token"))
    assert "a token is 16 or more ASCII characters" in told and "short" not in told
    monkeypatch.setenv("RECSYS_LAB_TOKEN", "with a space in it")
    assert "RECSYS_LAB_TOKEN: a token is" in refused(capsys, "nowhere")
    monkeypatch.delenv("RECSYS_LAB_TOKEN")
    assert "nowhere" in refused(capsys, "nowhere")
    assert not list(Path().glob("events.sqlite"))


def test_a_missing_package_names_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "recsys_lab.serve.server.http_server", raising=False)
    told = refused(capsys, "nowhere")
    assert told.endswith("`serve` needs the package uvicorn: pip install 'recsys-lab[serve]' has it and all others")
