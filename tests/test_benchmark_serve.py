"""serve_kills.py, serve_load.py and search.py: three kills lose nothing, a short load and searches are measured."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "scripts" / "benchmarks"


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.slow
def test_three_kills_lose_no_event(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code = module("serve_kills", monkeypatch).main(["--kills", "3", "--items", "300", "--seed", "3"])
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "events acknowledged, 0 lost, 0 stored twice." in printed
    assert not printed.splitlines()[-2].startswith("0 events") and printed.count("| 0 |") >= 6


@pytest.mark.process
def test_a_short_load_is_measured(tmp_path: Path) -> None:
    out, markdown = tmp_path / "out.jsonl", tmp_path / "page.md"
    options = ("--models", "GRU4Rec", "--rates", "20,40", "--seconds", "1", "--items", "300", "--threads", "1")
    places = ("--out", str(out), "--markdown", str(markdown), "--even-if-busy")
    done = subprocess.run(
        [sys.executable, str(FOLDER / "serve_load.py"), *options, *places], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["rate"] for row in rows] == [20, 40]
    for row in rows:
        assert row["sent"] == sum(row["statuses"].values()) > 0 and row["errors"] == 0
        assert 0 < row["p50_ms"] <= row["p99_ms"] and row["rss_mb"] > 50 and not row["crashed"]
    assert all(row["cpu_ms"] > 0 for row in rows)
    assert "| GRU4Rec | 40 | " in markdown.read_text() and "0 of 2 servers crashed." in markdown.read_text()


def test_a_lost_event_would_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kills = module("serve_kills", monkeypatch)

    class Forgetful:
        """Loses the last event that it acknowledged, and has the first twice."""

        start_s = 1.0

        def __init__(self, *_: Any) -> None:
            self.is_dead = False

        def kill(self) -> None:
            self.is_dead = True

        def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
            if method == "GET":
                events = stored[path.split("/")[2]]
                return 200, {"events": [events[0], *events[:-1]]}
            if self.is_dead:
                raise ConnectionRefusedError
            stored.setdefault(body["user"], []).extend(body["events"])
            return 200, {}

    stored: dict[str, list[Any]] = {}
    monkeypatch.setattr(kills, "Server", Forgetful)
    monkeypatch.setattr(kills.time, "sleep", lambda seconds: None)
    row = kills.Kills(tmp_path, "", tmp_path / "log.txt", 9, 0).one(0)
    assert row["acknowledged"] > 0 and row["lost"] == row["twice"] == kills.WRITERS


@pytest.mark.process
def test_searches_are_measured(tmp_path: Path) -> None:
    out, markdown = tmp_path / "out.jsonl", tmp_path / "page.md"
    options = ("--items", "3000", "--dim", "16", "--queries", "20", "--threads", "1", "--even-if-busy")
    done = subprocess.run(
        [sys.executable, str(FOLDER / "search.py"), *options, "--out", str(out), "--markdown", str(markdown)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["index"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert list(rows) == ["exact", "hnsw", "ivf", "ivf-8bit", "ivf-pq"] and rows["exact"]["recall"] == 1.0
    for row in rows.values():
        assert row["recall"] > 0.5 and 0 < row["p50_ms"] <= row["p99_ms"]
    assert (
        rows["hnsw"]["index_mb"]
        > rows["ivf"]["index_mb"]
        > rows["ivf-8bit"]["index_mb"]
        > 0
        < rows["ivf-pq"]["index_mb"]
    )
    assert "| 3,000 | hnsw | " in markdown.read_text()
