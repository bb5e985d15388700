"""`recsys-lab recommend`: from a run folder and from a checkpoint, with titles where the run's data has them, and
without any data; what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from own_process import in_own_process
from polars.testing import assert_frame_equal
from small_data import made_events
from test_cli_runs import fit

from recsys_lab.cli import main
from recsys_lab.cli import recommend as recommend_command
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.serve import Predictor, item_frame, mmr, popularity_cap, quota
from recsys_lab.serve.list_files import typed_ids
from recsys_lab.words import RecsysLabError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and the data that it was trained on."""
    folder = tmp_path_factory.mktemp("recommend")
    events = made_events(event_types=1)
    items = (
        shelves().with_columns(Title="Film " + pl.col("item_id").cast(pl.String)).select("item_id", "Title", "shelf")
    )
    data = SequenceDataModule.from_frames(events, items=items, data_dir=folder / "data", name="films")
    assert fit(data.processed.path, folder / "runs", "--run.folder", str(folder / "run")) == 0
    return folder


def shelves() -> pl.DataFrame:
    return pl.DataFrame({"item_id": range(100, 130), "shelf": [f"shelf {n // 7}" for n in range(30)]})


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert main(["recommend", *words]) == code
    return capsys.readouterr()


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("a, b,,c ", ["a", "b", "c"]),
        ('"Shoe ""1"", red",x', ['Shoe "1", red', "x"]),
        ('x, "a,b"', ["x", "a,b"]),
        ('Shoe "1",x', ['Shoe "1"', "x"]),
        ("a\nb,c", ["a", "b", "c"]),
        ("", []),
    ],
)
def test_typed_ids(typed: str, ids: list[str]) -> None:
    assert typed_ids(typed) == ids


def test_a_history_on_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = told(capsys, str(place / "run"), "--history", "101, 102,nobody knows", "--top", "3")
    title, *rows = out.splitlines()
    assert title.split() == ["rank", "item_id", "title", "score"]
    best = Predictor.load(place / "run").recommend([[101, 102]], 3)
    assert [row.split()[:4] for row in rows] == [
        [str(rank), str(item), "Film", str(item)] for rank, item in best.select("rank", "item_id").rows()
    ]
    assert "titles from the item table of films, column 'Title'" in err
    assert "1 of 3 items in the histories are unknown to the model, the first 'nobody knows'" in err
    out, _ = told(capsys, str(place / "run"), "--history", "", "--top", "2")
    assert out.splitlines()[-1] == "the most popular items: the history is empty"
    _, err = told(capsys, str(place / "run"), "--history", '"101,102', code=2)
    assert "a double quote that begins an item id must end it" in " ".join(err.split())
    _, err = told(capsys, str(place / "run"), "--history", "101,?", "--unknown", "error", code=2)
    assert "1 of 2 items" in err


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_log_into_a_file(place: Path, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = pl.DataFrame({"who": ["a", "b", "a"], "item_id": [101, 102, 103], "timestamp": [9, 5, 3]})
    log.write_csv(tmp_path / "log.csv")
    output = tmp_path / f"lists.{ending}"
    asked = ("--input", str(tmp_path / "log.csv"), "--user-column", "who", "--top", "3", "--output", str(output))
    out, _ = told(capsys, str(place / "run"), *asked)
    assert out == f"written: 6 rows in {output}\n" and sorted(p.name for p in tmp_path.iterdir()) == [
        output.name,
        "log.csv",
    ]
    readers = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}
    found = readers[ending](output)
    expected = Predictor.load(place / "run").recommend({"a": [103, 101], "b": [102]}, 3)
    assert found.select("user", "rank", "item_id").rows() == expected.select("user", "rank", "item_id").rows()
    assert found["title"][0] == f"Film {expected['item_id'][0]}"
    out, _ = told(capsys, str(place / "run"), *asked[:4], "--top", "30")
    assert "the first 50 rows of at least" in out and "user a: " in out


def test_a_log_of_another_shape_and_with_holes(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What its messages advise can be typed here, too."""
    (tmp_path / "log.txt").write_text("7;101;5\n;102;6\n7;103;never\n7;104;8\n")
    shape = ("--format", "csv", "--separator", ";", "--names", "user_id,item_id,timestamp", "--json")
    asked = (str(place / "run"), "--input", str(tmp_path / "log.txt"), *shape)
    _, err = told(capsys, *asked, code=2)
    assert "--missing_ids drop" in err
    _, err = told(capsys, *asked, "--missing_ids", "drop", code=2)
    assert "--bad_times drop" in err
    out, _ = told(capsys, *asked, "--missing_ids", "drop", "--bad_times", "drop")
    expected = Predictor.load(place / "run").recommend({7: [101, 104]}, times=[[5, 8]])
    assert [row["item_id"] for row in json.loads(out)] == expected["item_id"].to_list()


def test_many_users_are_read_some_at_a_time(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users in the order of their first event, whose events lie between those of others."""
    users, items = [7, 3, 7, 9, 3, 1, 1, 7], [101, 102, 103, 5, 104, 105, 106, 107]
    log = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": range(8)})
    log.write_parquet(tmp_path / "log.parquet")
    read: list[int] = []
    reading = Predictor.recommend_in_parts
    monkeypatch.setattr(
        Predictor,
        "recommend_in_parts",
        lambda self, some, *asked, **more: (read.append(some.height), reading(self, some, *asked, **more))[1],
    )
    monkeypatch.setattr(recommend_command, "USERS_AT_ONCE", 2)
    asked = ("--input", str(tmp_path / "log.parquet"), "--output", str(tmp_path / "found.parquet"))
    told(capsys, str(place / "run"), *asked)
    found = pl.read_parquet(tmp_path / "found.parquet").drop("title")
    assert read == [5, 3], "those of 7 and 3, then those of 9 and 1"
    assert_frame_equal(found, Predictor.load(place / "run").recommend(log))
    read.clear()
    _, err = told(capsys, str(place / "run"), *asked, "--unknown", "error", code=2)
    assert "1 of 8 items" in err and read == [], "before any list is made"


def test_candidates_and_exclusions_from_files(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = Predictor.load(place / "run")
    (tmp_path / "wanted.txt").write_text("103\n104\n\n105\n")
    (tmp_path / "not.csv").write_text("item_id\n104\n")
    log = pl.DataFrame({"user_id": [1, 2], "item_id": [101, 102]})
    log.write_parquet(tmp_path / "log.parquet")
    pl.DataFrame({"user_id": [2, 2, 1], "item_id": [105, 106, 103]}).write_csv(tmp_path / "each.csv")

    def lists(*more: str) -> pl.DataFrame:
        output = tmp_path / "found.parquet"
        told(capsys, str(place / "run"), "--input", str(tmp_path / "log.parquet"), "--output", str(output), *more)
        return pl.read_parquet(output).drop("title")

    candidates = ["--candidates", str(tmp_path / "wanted.txt")]
    both = lists(*candidates, "--exclude", str(tmp_path / "not.csv"), "--keep-history")
    expected = one.recommend(log, candidates=[103, 104, 105], blocked=[104], exclude=None)
    assert_frame_equal(both, expected)
    own = lists("--candidates", str(tmp_path / "each.csv"))
    assert_frame_equal(own, one.recommend(log, candidates=[[103], [105, 106]]))


def test_without_data_and_from_a_checkpoint_alone(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected, _ = told(capsys, str(place / "run"), "--history", "101")
    numbers = [line.split()[1] for line in expected.splitlines()[1:]]
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    shutil.copy(place / "run" / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    none = "a checkpoint holds none"
    for run, why in (("run", f"{none}, and the data of the run is gone"), ("alone.ckpt", none)):
        out, err = told(capsys, run, "--history", "101")
        assert [line.split()[1] for line in out.splitlines()[1:]] == numbers and "Film" not in out
        assert f"no titles: {why}\n" in err


def test_a_checkpoint_of_before_is_counted_in_its_data(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    file = run / "checkpoints" / "best.ckpt"
    held = torch.load(file, weights_only=True)
    del held["vocabulary"]["item_counts"]
    torch.save(held, file)
    manifest = json.loads((run / "manifest.json").read_text())
    with pytest.raises(RecsysLabError, match="is not the checkpoint that was tested"):
        Predictor.load(run)
    assert manifest["checkpoint"] == "checkpoints/best.ckpt"
    (run / "manifest.json").unlink()
    found = Predictor.load(run).recommend([[101]])
    assert_frame_equal(found, Predictor.load(place / "run").recommend([[101]]))
    (run / "config.yaml").unlink()
    with pytest.raises(RecsysLabError, match="does not say which items it was trained on.*Train the model again"):
        Predictor.load(run)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{run}"], "--history a,b,c"),
        (["{run}", "--history", "101", "--input", "x.csv"], "--history a,b,c"),
        (["{run}", "--history", "101", "--top", "0"], "argument --top: must be at least 1"),
        (["{run}", "--history", "101", "--output", "lists.xlsx"], "must end in one of .parquet, .csv, .jsonl"),
        (["{run}", "--history", "101", "--output", "no/lists.csv"], "there is no folder"),
        (["{run}", "--history", "101", "--candidates", "none.txt"], "none.txt can't be read"),
        (["{run}", "--history", "101", "--candidates", "wrong.csv"], "wrong.csv has no column 'item_id'; it has sku"),
        (["{run}", "--history", "101", "--candidates", "users.csv"], "has a column user_id: it goes with --input"),
        (["{run}", "--history", "101", "--exclude", "users.csv"], "has a column user_id"),
        (["{run}", "--input", "wrong.csv"], "has no columns? 'user_id' .*--user_column"),
        (["{run}", "--input", "none.csv"], "none.csv"),
        (["nowhere", "--history", "101"], "no checkpoint at nowhere"),
        ([".", "--history", "101"], "is not a run folder: it holds no checkpoints/best.ckpt"),
        (["wrong.csv", "--history", "101"], "wrong.csv is not a checkpoint of recsys_lab"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    says: str,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.csv").write_text("sku\n1\n")
    (tmp_path / "users.csv").write_text("user_id,item_id\n1,101\n")
    before = sorted(tmp_path.iterdir())
    _, err = told(capsys, *(word.format(run=place / "run") for word in words), code=2)
    lines = [line for line in err.splitlines() if "error: " in line]
    assert len(lines) == 1 and re.search(says, lines[0]) and "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_lists_that_are_re_ranked(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, one = place / "run", Predictor.load(place / "run")
    longer = one.recommend([[101, 102]], 20)
    known = item_frame(one)
    changed = 0
    for words, expected in (
        (("mmr", "--weight", "0.7", "--among", "20"), mmr(longer, 5, known, "vector", 0.7)),
        (("popularity_cap", "--at_most", "1", "--among", "20"), popularity_cap(longer, 5, known, 1)),
        (("quota", "--by", "shelf", "--at_most", "2", "--among", "20"), quota(longer, 5, shelves(), 2, "shelf")),
        (("mmr", "--by", "shelf", "--among", "20"), mmr(longer, 5, shelves(), "shelf")),
    ):
        out, _ = told(capsys, str(run), "--history", "101,102", "--top", "5", "--json", "--rerank", *words)
        assert [row["item_id"] for row in json.loads(out)] == expected["item_id"].to_list()
        changed += expected["item_id"].to_list() != longer["item_id"][:5].to_list()
    assert changed >= 2
    for words, said in (
        (("--rerank", "quota", "--at_most", "2"), "--rerank quota needs --by COLUMN"),
        (("--rerank", "quota", "--by", "shelf"), "--rerank quota needs --at_most NUMBER"),
        (("--by", "shelf"), "--by is of re-ranked lists: --rerank mmr"),
        (("--rerank", "mmr", "--by", "shelv"), "--by shelv: the items have Title, shelf. Did you mean 'shelf'?"),
    ):
        _, err = told(capsys, str(run), "--history", "101", *words, code=2)
        assert said in err
    shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    _, err = told(capsys, str(tmp_path / "alone.ckpt"), "--history", "101", "--rerank", "mmr", "--by", "shelf", code=2)
    assert "--by shelf: a checkpoint holds none" in err


@pytest.mark.process
def test_a_process_that_only_asks_imports_no_lightning(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same lists with their titles, from models that are no modules of Lightning; the server imports none, too."""
    asked = ("recommend", str(place / "run"), "--history", "101,102", "--json")
    code = """import sys, recsys_lab.cli
try:
    recsys_lab.cli.run()
finally:
    import recsys_lab.serve.server.http_server, recsys_lab.serve.server.live_model
    print(sorted({"lightning", "torch._dynamo", "scipy.stats", "jsonargparse"} & sys.modules.keys()), file=sys.stderr)
"""
    done = in_own_process(code, *asked)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "[]", done.stderr
    out, _ = told(capsys, *asked[1:])
    assert json.loads(done.stdout) == json.loads(out) and "Film" in out
