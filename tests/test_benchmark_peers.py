"""scripts/benchmarks/peers.py: what it makes of measurements; and one whole run of our side on small data."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from small_data import made_events

SCRIPTS = Path(__file__).parents[1] / "scripts" / "benchmarks"


@pytest.fixture(scope="module")
def peer_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peer_table", SCRIPTS / "peer_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        spec.loader.exec_module(module)
    return module


def measured(who: str, turn: int, speed: float, **more: Any) -> dict[str, Any]:
    return {
        "data": "d",
        "model": "SASRec",
        "who": who,
        "windows": "newest",
        "round": turn,
        "targets_per_s": speed,
        "eval_users_per_s": 10.0,
        "peak_rss_mb": 100.0,
        "targets_per_epoch": 7,
        "eval_users": 5,
        "busy_cores_before": 0.0,
        **more,
    }


def test_ratio_pairs_the_two_measurements_of_a_round(peer_table: ModuleType) -> None:
    ours = [measured(peer_table.OURS, turn, speed) for turn, speed in enumerate([10.0, 20.0, 90.0])]
    theirs = [measured("peer", turn, speed) for turn, speed in enumerate([5.0, 4.0, 30.0])]
    assert peer_table.ratio(ours, theirs, "targets_per_s") == 3.0  # of 2, 5 and 3; the ratio of the medians is 4
    assert peer_table.spread(ours, theirs, "targets_per_s") == "3.00 [2.00, 5.00]"
    assert peer_table.spread(ours[:1], theirs, "targets_per_s") == "2.00"


def test_notes_name_the_fastest_peer_and_what_is_wrong(peer_table: ModuleType) -> None:
    rows = [
        measured(peer_table.OURS, 0, 30.0),
        measured("slow", 0, 10.0, peak_rss_mb=50.0),
        measured("fast", 0, 15.0, targets_per_epoch=8, busy_cores_before=1.5),
    ]
    text = "\n".join([*peer_table.notes(rows), *sys.modules["harness"].not_idle(rows)])
    assert "fastest peer in training: fast (15); ours/theirs 2.00" in text
    assert "lowest peak memory: slow (50); ours/theirs 2.00" in text
    assert "NOT the same work as fast: targets_per_epoch [7, 8]" in text
    assert "NOT an idle machine: before 1 of 3 measurements" in text and "1.5 cores" in text
    assert not peer_table.notes(rows[:1]) and not sys.modules["harness"].not_idle(rows[:1])


def test_a_peer_with_options_of_its_script_is_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    peer_side = importlib.import_module("peer_side")
    fake_peer(tmp_path, "replay", targets_per_s=50.0)
    given = {"peers": tmp_path / "venvs", "peer_scripts": tmp_path / "scripts", "peer": None, "fast": False}
    args = argparse.Namespace(**given, peer_options=["replay=--bucket 32"])
    plain, bucketed = peer_side.find_peers(args)
    assert (plain.options, bucketed.options) == ("", "--bucket 32")
    assert peer_side.who(bucketed, {"version": "9.9"}) == "replay 9.9 --bucket 32"
    args.peer_options = ["repley=--bucket 32"]
    with pytest.raises(SystemExit, match="--peer-options 'repley=--bucket 32' is not NAME=OPTIONS of one of replay"):
        peer_side.find_peers(args)
    args.peer_options, args.fast = [], True
    assert [peer.options for peer in peer_side.find_peers(args)] == ["", "--bucket 32"]


def test_peers_by_model_and_scripts_beside_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    peer_side = importlib.import_module("peer_side")
    for name in ("recbole", "rectools_fast"):  # the one script is given, the other lies beside the benchmark
        fake_peer(tmp_path, name)
    (tmp_path / "scripts" / "bench_rectools_fast.py").unlink()
    given = {"peers": tmp_path / "venvs", "peer_scripts": tmp_path / "scripts", "peer_options": [], "fast": True}
    recbole, fast = peer_side.find_peers(argparse.Namespace(**given, peer=["recbole=GRU4Rec", "rectools_fast"]))
    assert recbole.has("GRU4Rec") and not recbole.has("SASRec") and fast.has("SASRec") and not fast.has("GRU4Rec")
    assert (recbole.script.parent, fast.script.parent) == (tmp_path / "scripts", SCRIPTS)
    (alone,) = peer_side.find_peers(argparse.Namespace(**given, peer=["recbole"]))
    assert alone.has("GRU4Rec") and alone.has("SASRec")


@pytest.mark.parametrize("windows, wanted", [("peers", ["all", "all"]), ("newest", ["newest", "all", "all"])])
def test_ours_on_the_windows_of_a_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: str, wanted: list[str]
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    peers, peer_side = importlib.import_module("peers"), importlib.import_module("peer_side")
    numbers = {"peak_rss_mb": 1.0, "prepare_s": 1.0, "setup_s": 1.0}
    monkeypatch.setattr(peers, "ours", lambda *_, **__: numbers)
    monkeypatch.setattr(peer_side.Peer, "measure", lambda *_, **__: {"version": "9"})
    limits = {"epochs": 1, "max_batches": 0, "max_test_batches": 0, "peer_epochs": 1, "peer_max_batches": 0}
    args = argparse.Namespace(windows=windows, peer_timeout=9, **limits)
    peer = peer_side.Peer("recbole", tmp_path, tmp_path)
    rows = list(peers.speed(args, [peer], {}, "GRU4Rec", ("d", tmp_path, 8, tmp_path), numbers))
    assert [row["windows"] for row in rows] == wanted and rows[-1]["who"] == "recbole 9"


@pytest.mark.process
def test_ours_and_a_peer_in_turn_on_the_same_targets(tmp_path: Path) -> None:
    """A stand-in for RecBole, which trains on all windows: ours is measured on those, whatever --windows says."""
    file = tmp_path / "events.parquet"
    made_events(num_users=40, shortest=6).write_parquet(file)
    peers = fake_peer(tmp_path, "recbole", targets_per_s=50.0, targets_per_epoch=1, n_users=40, prep_s=2.0)
    done, rows = benchmark(tmp_path, file, *peers, "--model", "GRU4Rec", "--windows", "newest", "--epochs", "2")
    assert [(row["who"], row["windows"]) for row in rows] == [
        ("recsys-lab", "newest"),
        ("recsys-lab", "all"),
        ("recbole 9.9", "all"),
    ]
    for row in rows[:2]:
        assert row["eval_users"] == row["num_users"] == 40 and len(row["epoch_s"]) == 2
        assert min(row[name] for name in ("targets_per_s", "eval_users_per_s", "peak_rss_mb", "preparation_s")) > 0
        assert f"| small | GRU4Rec | recsys-lab | {row['windows']} | {row['targets_per_s']:,.0f} |" in done
    assert rows[2]["raw"]["asked"]["model"] == "GRU4Rec" and rows[2]["raw"]["asked"]["batch_size"] == "2048"
    ratio = rows[1]["targets_per_s"] / 50.0
    assert f"small, GRU4Rec: fastest peer in training: recbole 9.9 (50); ours/theirs {ratio:.2f}" in done
    assert "NOT the same work as recbole 9.9: targets_per_epoch" in done


@pytest.mark.process
def test_quality_tells_when_ours_was_as_good(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    made_events(num_users=40, shortest=6).write_parquet(file)
    peers = fake_peer(tmp_path, "replay", best_val_ndcg=1e-9, time_to_best_s=8.0, epochs_run=5, test_A={"NDCG@10": 0.5})
    done, (theirs, mine) = benchmark(tmp_path, file, *peers, "--quality", "0.1")
    assert theirs["raw"]["asked"]["max_seconds"] == "0.1"
    assert mine["against"] == "replay 9.9" and len(mine["val_curve"]) == mine["epochs"] == len(mine["val_seconds"])
    assert mine["best_val"] == pytest.approx(max(mine["val_curve"]), abs=1e-5) and 0.0 <= mine["test_hidden"] <= 1.0
    first = next(s for s, v in zip(mine["val_seconds"], mine["val_curve"], strict=True) if v > 0)
    assert mine["seconds_to_goal"] == pytest.approx(first, abs=0.01)
    assert f"| {mine['seconds_to_goal']:,.1f} | {mine['seconds_to_goal'] / 8.0:.2f} |" in done


def test_quality_that_is_not_reached(peer_table: ModuleType) -> None:
    shared = {"data": "d", "model": "SASRec", "round": 0, "best_val": 0.1, "stopped_by": "patience"}
    theirs = {**shared, "who": "peer", "seconds_to_best": 8.0}
    mine = {**shared, "who": peer_table.OURS, "against": "peer", "seconds_to_goal": None, "seconds_to_best": 5.0}
    *_, line = peer_table.quality_table([theirs, mine])
    assert "| 0.1000 | 8.0 | not reached |  | 0.1000 | 5.0 |" in line


@pytest.mark.process
def test_a_made_log(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPTS / "peers.py", "--made", "5e3:200:8", "--rounds", "1", "--threads", "1"]
    command += ["--epochs", "1", "--windows", "newest", "--even-if-busy", "--work-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = (json.loads(line) for line in (tmp_path / "benchmark.jsonl").read_text().splitlines())
    assert row["data"] == "made 5,000 x 200" and row["num_users"] <= 50 and row["max_length"] == 8
    assert 0.9 * 5_000 < row["num_events"] <= 5_000  # users of fewer than five events are dropped
    assert [path.name for path in tmp_path.iterdir()] == ["benchmark.jsonl"], "the log is gone"


@pytest.mark.parametrize("text", ["1e6", "x:5", "0:10", "10:10:0", "1:2:3:4"])
def test_a_made_log_that_is_none(tmp_path: Path, text: str) -> None:
    command = [sys.executable, SCRIPTS / "peers.py", "--made", text]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "is not EVENTS:ITEMS[:L], e.g. 1e7:1e5" in done.stderr


def benchmark(folder: Path, file: Path, *options: str) -> tuple[str, list[dict[str, Any]]]:
    """What it printed, and its JSON lines."""
    command = [sys.executable, SCRIPTS / "peers.py", "--data", f"small={file}:8", "--rounds", "1"]
    command += ["--threads", "1", "--even-if-busy", "--out", folder / "out.jsonl", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout, [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def fake_peer(folder: Path, name: str, **answer: Any) -> list[str]:
    """An environment and a script that answers this, and with what it was asked."""
    (folder / "venvs" / name / "bin").mkdir(parents=True)
    (folder / "venvs" / name / "bin" / "python").symlink_to(sys.executable)
    (folder / "scripts").mkdir(exist_ok=True)
    lines = [
        "import json, sys",
        "asked = dict(option.removeprefix('--').split('=', 1) for option in sys.argv[1:])",
        f"answer = {dict(answer, version='9.9')!r}",
        "print(json.dumps({**answer, 'asked': {key.replace('-', '_'): value for key, value in asked.items()}}))",
    ]
    (folder / "scripts" / f"bench_{name}.py").write_text("\n".join(lines) + "\n")
    return ["--peers", str(folder / "venvs"), "--peer-scripts", str(folder / "scripts")]
