"""An item table that is divided among two or three processes, unevenly, does what a whole one does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from own_process import run_processes
from sharded import CASES, EVALUATED, STORED, everything, fitted
from small_data import made_events, prepared

from recsys_lab.models import SASRec, table_files
from recsys_lab.models.checkpoint import read_checkpoint
from recsys_lab.models.table_files import fill_whole
from recsys_lab.ops.shards import Division
from recsys_lab.serve import Predictor
from recsys_lab.words import RecsysLabError

pytestmark = [pytest.mark.process]
PARALLEL: Any = "parallel"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    """34 items, 4 of them without a training event, and 22 windows."""
    users, items, event_type = ["u003", "u005", "u007", "u009", "u011"], [500, 105, 501, 502, 503], ["type0"] * 5
    events = made_events()
    last = pl.DataFrame([users, items, [9_000_000] * 5, event_type], schema=events.schema)
    return prepared(folder / "data", pl.concat([events, last])).path


@pytest.fixture(scope="module")
def runs(data: Path, folder: Path) -> dict[Any, list[dict[str, Any]]]:
    """Number of processes -> what each of them found; checkpoints of the smaller numbers are there for the larger.
    `PARALLEL`: two with ModelParallelStrategy, where those of one and of three are."""
    found = {1: [everything(str(data), folder, devices=1)]}
    for number, where in ((2, folder), (3, folder), (2, folder / PARALLEL)):
        if where != folder:
            shutil.copytree(folder, where)
        run_processes("sharded.py", data, where, number, *(["model_parallel"] if where != folder else []))
        files = [where / f"{number}-rank{rank}.pt" for rank in range(number)]
        found[number if where == folder else PARALLEL] = [torch.load(file, weights_only=True) for file in files]
    return found


@pytest.fixture(scope="module")
def one(runs: dict[Any, list[dict[str, Any]]]) -> dict[str, Any]:
    return runs[1][0]


@pytest.fixture(params=[2, 3, PARALLEL])
def several(request: pytest.FixtureRequest, runs: dict[Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return runs[request.param]


@pytest.mark.parametrize("name", CASES)
def test_the_weights_and_the_numbers_are_those_of_one_process(
    name: str, several: list[dict[str, Any]], one: dict[str, Any]
) -> None:
    alone = one[name]
    for own in (found[name] for found in several):
        assert own["weights"].keys() == alone["weights"].keys()
        for part, value in alone["weights"].items():
            torch.testing.assert_close(
                own["weights"][part], value, rtol=0, atol=1e-5, msg=lambda text, p=part: p + text
            )
        assert own["numbers"] == pytest.approx(alone["numbers"], abs=1e-5)
        assert own["numbers"] == several[0][name]["numbers"]


@pytest.mark.parametrize("how", EVALUATED)
def test_whole_numbers_are_ranked_exactly_as_on_one_process(
    how: tuple[str, str, int],
    several: list[dict[str, Any]],
    one: dict[str, Any],
    folder: Path,
    runs: dict[Any, list[dict[str, Any]]],
) -> None:
    ties, alone = how[0], one[str(how)]
    assert alone["test ranks"][:, 2].any() == (ties == "expected"), "there are ties, where they are counted apart"
    for own in (found[str(how)] for found in several):
        for name, value in alone.items():
            assert torch.equal(torch.as_tensor(own[name]), torch.as_tensor(value)), name
    file, where = f"{'-'.join(map(str, how))}.parquet", folder / PARALLEL if several is runs[PARALLEL] else folder
    lists = [pl.read_parquet(folder / f"1-{file}"), pl.read_parquet(where / f"{len(several)}-{file}")]
    assert lists[0].equals(lists[1]) and len(lists[0]) > 12


def furthest(own: dict[str, Any], other: dict[str, Any]) -> float:
    assert own.keys() == other.keys()
    return max(float((value - other[name]).abs().max()) for name, value in own.items())


@pytest.mark.parametrize("name", STORED)
def test_a_run_goes_on_as_if_it_had_not_been_stopped(name: str, several: list[dict[str, Any]]) -> None:
    for own in (found[f"stored {name}"] for found in several):
        assert furthest(own["two epochs"], own["resumed"]) == 0
        assert furthest(own["one epoch"], own["resumed"]) > 1e-4


@pytest.mark.parametrize("name", STORED)
def test_any_number_of_processes_reads_what_another_wrote(
    name: str, runs: dict[Any, list[dict[str, Any]]], data: Path, folder: Path
) -> None:
    wrote = {number: found[0][f"stored {name}"]["one epoch"] for number, found in runs.items()}
    files: dict[Any, Path] = {number: folder / f"{number}-{name}.ckpt" for number in (1, 2, 3)}
    files[PARALLEL] = folder / PARALLEL / f"2-{name}.ckpt"
    for number, others in ((2, {1: 1, 2: 2}), (3, {1: 1, 2: 2, 3: 3}), (PARALLEL, {1: 1, 2: PARALLEL, 3: 3})):
        for own in (found[f"stored {name}"] for found in runs[number]):
            for file, other in others.items():
                assert furthest(own[f"read from {file}"], wrote[other]) == 0
    for other in (2, 3, PARALLEL):
        assert furthest(fitted(str(data), name, 1, folder, 1, files[other])[1], wrote[other]) == 0
        loaded = Predictor.load(files[other]).model.state_dict()
        assert torch.equal(loaded["scorer.items.weight"], wrote[other]["embedding.items.weight"])


def test_two_processes_read_what_three_wrote(one: dict[str, Any], folder: Path) -> None:
    whole, parts = (read_checkpoint(folder / "3-adam.ckpt"), [read_checkpoint(folder / "3-adam.ckpt") for _ in "ab"])
    fill_whole(whole, folder / "3-adam.ckpt")
    for rank, part in enumerate(parts):
        table_files._fill(part, Division(35, 2, rank).held, folder, with_optimizer=True)
    rows = [part["state_dict"]["embedding.items.weight"] for part in parts]
    assert [len(own) for own in rows] == [17, 18]
    assert torch.equal(torch.cat(rows), whole["state_dict"]["embedding.items.weight"])


def test_rows_are_gone_or_damaged(one: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    (rows,) = folder.glob("2-adam-*.shards")  # those of the checkpoint that was written anew are gone
    (tmp_path / "2-adam.ckpt").write_bytes((folder / "2-adam.ckpt").read_bytes())
    with pytest.raises(RecsysLabError, match="gone"):
        SASRec.load_from_checkpoint(tmp_path / "2-adam.ckpt")
    there = tmp_path / rows.name
    there.mkdir()
    for file in rows.iterdir():
        (there / file.name).write_bytes(file.read_bytes())
    assert SASRec.load_from_checkpoint(tmp_path / "2-adam.ckpt").spec is not None
    for name in ("rank1.safetensors", "index.json"):
        kept = (there / name).read_bytes()
        (there / name).write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(RecsysLabError, match=f"{name} is damaged"):
            SASRec.load_from_checkpoint(tmp_path / "2-adam.ckpt")
        (there / name).write_bytes(kept)
