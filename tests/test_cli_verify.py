"""`recsys-lab verify`: a finished run holds, and one flipped byte anywhere is found and named."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from small_data import made_events, prepared
from test_cli_runs import TINY

from recsys_lab.cli import main
from recsys_lab.ops.rank_metrics import MISS
from recsys_lab.runs.verification import from_ranks, metric_checks, rank_checks


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/small and a run on it, that tests only read."""
    root = tmp_path_factory.mktemp("made")
    prepared(root / "data" / "small", made_events(num_users=40, shortest=4))
    where = ["--data.dataset", "small", "--data.data_dir", str(root / "data"), "--run.root", str(root / "runs")]
    assert main(["fit", *TINY, *where]) == 0
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def run_of(root: Path) -> Path:
    return root / "runs" / "small" / "sasrec" / "seed0"


def verify(root: Path, *more: str) -> int:
    return main(["verify", str(run_of(root)), "--data_dir", str(root / "data"), *more])


def flip(path: Path, position: int, bits: int = 0x01) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= bits
    path.write_bytes(bytes(content))


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # one line for each check


def failures(output: str) -> list[str]:
    return [line.removeprefix("FAILED").strip() for line in output.splitlines() if line.startswith("FAILED")]


def test_a_finished_run_holds(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
    assert verify(made) == 0
    shown = capsys.readouterr()
    assert not failures(shown.out) and "is what it says" in shown.out
    for name in ("item_ids.npy", "users.parquet", "data_hash", "split_hash", "test_targets", "checkpoints/best.ckpt"):
        assert any(line.startswith("ok ") and name in line for line in shown.out.splitlines()), name
    assert "ranks.parquet rank: 40 of 40 rows equal" in shown.out and "testing" in shown.err
    assert {p: p.read_bytes() for p in made.rglob("*") if p.is_file()} == before


def test_the_test_of_a_run_holds_as_well(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(run_of(copy)), "--data.data_dir", str(copy / "data")]) == 0
    assert main(["verify", str(run_of(copy) / "test"), "--data-dir", str(copy / "data")]) == 0
    assert "best.ckpt: its checksums hold" in capsys.readouterr().out
    assert main(["verify", "small", "--data_dir", str(copy / "data"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] and len(told["checks"]) > 5


@pytest.mark.parametrize("position", [-1, 200, 24])
@pytest.mark.parametrize("name", ["item_ids.npy", "timestamps.npy", "offsets.npy", "events/event_type.npy"])
def test_a_flipped_byte_of_an_array(name: str, position: int, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(copy / "data" / "small" / name, position)
    assert verify(copy) == 1
    shown = capsys.readouterr()
    found = failures(shown.out)
    assert len(found) == 1 and f"data {name}" in found[0], found
    assert f"data {name}" in shown.err and "Traceback" not in shown.err


def test_ranks_of_an_older_version(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_of(copy) / "ranks.parquet"
    pl.read_parquet(path).drop("num_greater").write_parquet(path)
    assert verify(copy) == 1
    shown = capsys.readouterr()
    assert "ranks.parquet: has no column num_greater: it was written by an older version" in shown.err
    assert "Traceback" not in shown.err


def test_an_array_with_its_bytes_the_other_way_round(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "data" / "small" / "timestamps.npy"
    flip(path, path.read_bytes().index(b"<i8"), 0x02)  # `<` becomes `>`: the same bytes, read as other numbers
    assert np.load(path).dtype == np.dtype(">i8")
    assert verify(copy) == 1
    assert "timestamps.npy" in failures(capsys.readouterr().out)[0]


@pytest.mark.parametrize("name", ["users.parquet", "items.parquet"])
def test_a_flipped_byte_of_a_table(name: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "data" / "small" / name
    for position in (0, path.stat().st_size // 2, -1):
        flip(path, position)
        assert verify(copy) == 1
        (found,) = failures(capsys.readouterr().out)
        assert f"data {name}" in found
        flip(path, position)
    assert verify(copy) == 0


def test_a_changed_manifest_of_the_data(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "data" / "small" / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"vocabulary_hash": "', '"vocabulary_hash": "0')[: len(text) + 1])
    assert verify(copy) == 1
    assert any("manifest.json was changed after it was prepared" in line for line in failures(capsys.readouterr().out))
    assert verify(copy, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] is False and any("manifest.json" in f"{one}" for one in told["checks"] if not one["ok"])
    (path.parent / "stamp.json").unlink()  # nothing vouches for the manifest then, but the run knows better
    assert verify(copy) == 1
    assert any("evaluation vocabulary_hash" in line for line in failures(capsys.readouterr().out))
    path.write_text("{")
    assert verify(copy) == 1
    assert "manifest.json" in failures(capsys.readouterr().out)[0]


@pytest.mark.parametrize(
    "column", ["rank", "num_ties", "num_candidates", "query_time", "target_item_id", "popularity_decile"]
)
def test_a_changed_value_of_the_ranks(column: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_of(copy) / "ranks.parquet"
    frame = pl.read_parquet(path)
    changed, row = frame[column].to_list(), int(np.flatnonzero(np.isfinite(frame["rank"].to_numpy()))[5])
    changed[row] = changed[row] + 1 if changed[row] != 10 else 9
    frame.with_columns(pl.Series(column, changed, dtype=frame[column].dtype)).write_parquet(path)
    assert verify(copy) == 1
    found = failures(capsys.readouterr().out)
    text = f"expected {changed[row]}, found {frame[column][row]} in row {row} (user_id {frame['user_id'][row]}"
    assert any(line.startswith(f"ranks.parquet {column}:") and text in line for line in found), found


def test_flipped_bytes_of_the_ranks(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damage is found wherever it is, also in the bytes that nobody reads: the manifest holds the file's hash."""
    path, draw = run_of(copy) / "ranks.parquet", random.Random(0)
    for _ in range(8):
        position = draw.randrange(path.stat().st_size)
        flip(path, position)
        assert verify(copy) == 1
        assert any("ranks.parquet" in line for line in failures(capsys.readouterr().out))
        flip(path, position)


@pytest.mark.parametrize("name", ["test/ndcg@10", "test/mean_rank", "test/cold_target_share", "val/ndcg@10", "epoch"])
def test_a_flipped_byte_of_the_metrics(name: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_of(copy) / "metrics.json"
    start = path.read_bytes().index(f'"{name}": '.encode()) + len(name) + 4
    start = start if name == "epoch" else path.read_bytes().index(b".", start) + 1
    flip(path, start)  # another digit
    assert verify(copy) == 1
    found = failures(capsys.readouterr().out)
    assert found and all(line.startswith("metrics.json") for line in found)
    assert name == "epoch" or all(name in line for line in found), found
    flip(path, start)
    flip(path, path.read_bytes().index(b'"test/ndcg@10"') + 2)  # the name is another one
    assert verify(copy) == 1
    assert "test/ndcg@10" in failures(capsys.readouterr().out)[0]
    flip(path, 0)  # no JSON any more
    assert verify(copy) == 1
    assert "metrics.json: it can't be read" in failures(capsys.readouterr().out)[0]


def test_a_flipped_byte_of_the_checkpoint(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_of(copy) / "checkpoints" / "best.ckpt"
    weights = torch.load(path, weights_only=True)["state_dict"]
    largest = max(weights.values(), key=torch.numel)
    for place in (path.read_bytes().index(largest.numpy().tobytes()) + 99, path.read_bytes().index(b"data_spec")):
        flip(path, place, 0x40)
        assert verify(copy) == 1
        assert any(line.startswith("checkpoints/best.ckpt") for line in failures(capsys.readouterr().out))
        flip(path, place, 0x40)
    assert verify(copy) == 0


def test_other_weights_are_found_by_their_ranks(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_of(copy) / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for weight in checkpoint["state_dict"].values():
        weight += 0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    torch.save(checkpoint, path)
    assert verify(copy) == 1
    found = failures(capsys.readouterr().out)
    assert any(line.startswith("ranks.parquet rank:") for line in found)
    assert any(line.startswith("metrics.json re-scored, test/ndcg") for line in found)
    assert any(line.startswith("checkpoints/best.ckpt: expected") for line in found)  # its hash is another one
    assert not any("from ranks.parquet" in line for line in found)


@pytest.mark.parametrize(
    ("name", "value"),
    [("data_hash", "0"), ("split_hash", "1-2"), ("exclude_seen", "none"), ("test_targets", 7), ("cutoffs", [1, 5])],
)
def test_a_changed_setting(name: str, value: object, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_of(copy) / "manifest.json"
    manifest = json.loads(path.read_text())
    expected = manifest["evaluation"][name]
    manifest["evaluation"][name] = value
    path.write_text(json.dumps(manifest))
    assert verify(copy) == 1
    text = f"manifest.json evaluation {name}: expected {value}, found {expected}"
    assert text in failures(capsys.readouterr().out)


def test_what_is_no_run(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(copy)]) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert main(["verify", str(copy / "gone")]) == 2
    (run_of(copy) / "ranks.parquet").unlink()
    assert verify(copy) == 2
    assert "ranks.parquet" in capsys.readouterr().err


def test_missing_data_and_checkpoint(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_of(copy) / "checkpoints" / "best.ckpt").unlink()
    assert verify(copy) == 1
    found = failures(capsys.readouterr().out)
    assert any("best.ckpt" in line for line in found)
    shutil.rmtree(copy / "data" / "small")
    assert verify(copy) == 1
    shown = capsys.readouterr()
    assert any(line.startswith("data") for line in failures(shown.out)) and "skipped" in shown.out


def test_near_ties_may_be_allowed() -> None:
    ranks = pl.DataFrame({"user_id": [1, 2], "target_item_id": [3, 4], "query_time": [0, 0], "rank": [1.0, 5.0]})
    other = ranks.with_columns(pl.Series("rank", [1.0, 6.0]))
    assert [check.ok for check in rank_checks(ranks, other, True)] == [True, True, True, False]
    assert all(check.ok for check in rank_checks(ranks, other, True, allowed=1))
    assert not all(check.ok for check in rank_checks(ranks[:1], other, True, allowed=1))


def test_an_older_run_may_lack_what_came_later() -> None:
    assert [c.ok for c in metric_checks("m", {"a": 1.0}, {"a": 1.0, "b": 2.0}, 0.0, complete=False)] == [True]
    assert [c.ok for c in metric_checks("m", {"a": 1.0}, {"a": 1.0, "b": 2.0}, 0.0, complete=True)] == [False]
    assert [c.ok for c in metric_checks("m", {"a": 1.0, "b": 2.0}, {"a": 1.0}, 0.0, complete=False)] == [False]
    assert [c.ok for c in metric_checks("m", {"a": float("nan")}, {"a": float("nan")}, 0.0)] == [True]
    frame = pl.DataFrame({"user_id": [1], "target_item_id": [3], "query_time": [0], "rank": [1.0]})
    later = frame.with_columns(is_repeat=False)
    assert all(check.ok for check in rank_checks(frame, later, complete=False))
    assert not all(check.ok for check in rank_checks(frame, later, complete=True))
    assert not all(check.ok for check in rank_checks(later, frame, complete=False))


def test_cold_targets_that_were_dropped() -> None:
    ranks = pl.DataFrame(
        {"num_greater": [0, MISS], "num_ties": [0, 0], "num_candidates": [9, 9], "is_cold": [False, True]}
    )
    ranks = ranks.with_columns(is_hidden=False)
    for rule, expected in (("drop", 1.0), ("miss", 0.5)):
        found = from_ranks(ranks, {"cutoffs": [1], "cold_targets": rule})
        assert found["test/hit_rate@1"] == expected and found["test/cold_target_share"] == 0.5
