"""Corrupt prepared data is noticed by every command that reads it, before anything trains, in one line."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_data import made_events, prepared
from test_cli_runs import QUIET, TINY

from recsys_lab.cli import main
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset, ProcessedDatasetError
from recsys_lab.data.reading.frames import FrameSource

CELLS: Counter[str] = Counter()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/small and a run on it, that tests only read."""
    root = tmp_path_factory.mktemp("made")
    prepared(root / "data" / "small", made_events(num_users=40, shortest=4))
    where = ["--data.dataset", "small", "--data.data_dir", str(root / "data"), "--run.root", str(root / "runs")]
    assert main(["fit", *TINY, *where]) == 0
    return root


def flip(name: str, position: float, bits: int = 1) -> Callable[[Path], None]:
    """One byte of a file, at a share of its size."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(position * (len(content) - 1))] ^= bits
        (folder / name).write_bytes(content)

    return change


def values(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Other values of the same type."""

    def write(folder: Path) -> None:
        old = np.load(folder / f"{name}.npy")
        np.save(folder / f"{name}.npy", change(old.copy()).astype(old.dtype))

    return write


def cut(name: str, share: float) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, int(share * (folder / name).stat().st_size))


def manifest(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edit_field(**changes: object) -> Callable[[Path], None]:
    """The first field of the manifest."""

    def edit(folder: Path) -> None:
        (first, *more) = json.loads((folder / "manifest.json").read_text())["fields"]
        manifest(fields=[first | changes, *more])(folder)

    return edit


def unstamped(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """Also where nothing tells that a file changed: a set of an older version, or somebody who took the stamp away."""

    def both(folder: Path) -> None:
        change(folder)
        (folder / "stamp.json").unlink()

    return both


def same_times(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """With the modification times that the files had."""

    def both(folder: Path) -> None:
        before = {path: path.stat() for path in folder.rglob("*")}
        change(folder)
        for path, stat in before.items():
            if path.exists():
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return both


def ten_other_ids(ids: np.ndarray) -> np.ndarray:
    ids[:10] = ids[:10] % ids.max() + 1
    return ids


def out_of_range(ids: np.ndarray) -> np.ndarray:
    ids[5:9] = 1_515_847_108
    return ids


CORRUPT = {
    "item ids out of range": values("item_ids", out_of_range),
    "ten item ids changed in range": values("item_ids", ten_other_ids),
    "offsets cut": cut("offsets.npy", 0.5),
    "offsets, a middle byte": flip("offsets.npy", 0.7),
    "timestamps flipped": values("timestamps", lambda times: times[::-1]),
    "items.parquet removed": lambda folder: (folder / "items.parquet").unlink(),
    "items.parquet flipped": flip("items.parquet", 0.4),
    "num_items edited": manifest(num_items=29),
    "manifest half written": cut("manifest.json", 0.5),
}
MORE = {
    "users.parquet flipped": flip("users.parquet", 0.4),
    "users.parquet of another set": lambda folder: shutil.copy(folder / "items.parquet", folder / "users.parquet"),
    "event types flipped": flip("events/event_type.npy", 0.99),
    "offsets that fall": values("offsets", lambda x: np.concatenate([x[:1], x[1:-1][::-1], x[-1:]])),
    "an array of another type": lambda folder: np.save(
        folder / "item_ids.npy", np.load(folder / "item_ids.npy").astype(np.int64)
    ),
    "an empty array file": cut("timestamps.npy", 0),
    "a header byte": flip("item_ids.npy", 0.01),
    "manifest a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest a number": lambda folder: (folder / "manifest.json").write_text("7"),
    "manifest removed": lambda folder: (folder / "manifest.json").unlink(),
    "num_users edited": manifest(num_users=39),
    "num_events text": manifest(num_events="many"),
    "arrays edited": manifest(arrays={}),
    "tables edited": manifest(tables={"items.parquet": {}}),
    "event type values flipped": flip("events/event_type.parquet", 0.4),
    "fields edited": manifest(fields=[]),
    "a field edited": edit_field(num_values=1),
    "a field without its form": edit_field(kind="other"),
    "the name edited": manifest(name="other"),
}


def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "data", tmp_path / "data"))


def command(name: str, made: Path, data: Path, tmp_path: Path) -> list[str]:
    run = str(made / "runs" / "small" / "sasrec" / "seed0")
    if name == "fit":
        where = ["--data.data_dir", str(data), "--run.root", str(tmp_path / "r")]
        return ["fit", *TINY, "--data.dataset", "small", *where]
    if name == "verify":
        return ["verify", run, "--data_dir", str(data)]
    if name == "verify data":
        return ["verify", str(data / "small")]
    return [name, run, "--data.data_dir", str(data), *QUIET]


@pytest.mark.parametrize("name", ["fit", "test", "predict", "verify", "verify data"])
@pytest.mark.parametrize("what", CORRUPT)
def test_every_command_notices(what: str, name: str, made: Path, tmp_path: Path, capsys) -> None:
    data = copied(made, tmp_path)
    CORRUPT[what](data / "small")
    before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
    capsys.readouterr()
    try:
        code = main(command(name, made, data, tmp_path))
    except BaseException as error:
        CELLS["traceback"] += 1
        raise AssertionError(f"a traceback: {error!r}") from error
    error = capsys.readouterr().err
    CELLS["noticed" if code in (1, 2) else "silent"] += 1
    assert code == (1 if name.startswith("verify") else 2), error
    assert name == "verify" or ("prepare it again" in error and str(data / "small") in error), error
    assert {p: p.read_bytes() for p in made.rglob("*") if p.is_file()} == before
    assert not list(tmp_path.glob("r/**/checkpoints/*"))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with fields of every kind and scope, and impressions, that tests only read."""
    root = tmp_path_factory.mktemp("rich")
    events = made_events(num_users=20, shortest=4)
    number = pl.int_range(events.height)
    events = events.with_columns(
        price=pl.when(number % 5 > 0).then(number / 4),
        tags=pl.when(number % 3 > 0).then(pl.concat_list((number % 4).cast(pl.String), pl.lit("all"))),
        vector=pl.concat_list(number * 0.5, number * 1.5),
        note=pl.format("note {}", number),
        size=number % 3,
    )
    items = pl.DataFrame({"item_id": range(100, 130), "genre": ["a", "b", "c"] * 10})
    shown = events.head(40).select(
        "user_id", "item_id", "timestamp", impression_id=number.head(40) // 4, label=number.head(40) % 2
    )
    source = FrameSource(events, items, impressions=shown.with_columns(place=pl.lit("top")), name="rich")
    prepare(source, PrepareSettings(fields=["size=item.categorical"]), root / "rich", root / "raw")
    return root / "rich"


FIELD_FILES = {
    name: flip(name, 0.95)
    for name in (
        *("events/price.npy", "events/tags.npy", "events/tags.offsets.npy", "events/tags.parquet", "events/vector.npy"),
        *("events/note.parquet", "events/size.item.npy", "items/size.npy", "items/genre.npy", "items/genre.parquet"),
        *("shown/item_ids.npy", "shown/offsets.npy", "shown/users.npy", "shown/timestamps.npy", "shown/labels.npy"),
        *("shown/place.npy", "impressions.parquet"),
    )
}
FIELD_FAULTS = {
    "a code out of range": values("items/genre", lambda codes: codes + 1),
    "offsets of lists that fall": values(
        "events/tags.offsets", lambda x: np.concatenate([x[:1], x[1:-1][::-1], x[-1:]])
    ),
    "an item that is none": values("shown/item_ids", lambda ids: ids + 100),
    "vectors of another width": lambda folder: np.save(
        folder / "events/vector.npy", np.load(folder / "events/vector.npy").reshape(-1, 1)
    ),
    "values cut": cut("events/tags.parquet", 0.5),
    "an array gone": lambda folder: (folder / "items/genre.npy").unlink(),
    "num_shown edited": manifest(num_shown=3),
    "num_impressions edited": manifest(num_impressions=0),
}


@pytest.mark.parametrize(
    ("what", "how"),
    [*((w, "as it is") for w in FIELD_FILES), *((w, h) for w in FIELD_FAULTS for h in ("as it is", "unstamped"))],
)
def test_a_damaged_field_is_noticed(what: str, how: str, rich: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(rich, tmp_path / "rich"))
    ProcessedDataset.open(copy)
    HOW[how]((FIELD_FILES | FIELD_FAULTS)[what])(copy)
    with pytest.raises(ProcessedDatasetError, match=re.escape(str(copy))) as caught:
        ProcessedDataset.open(copy)
    assert len(str(caught.value).splitlines()) == 1
    assert what not in FIELD_FILES or what in str(caught.value) or "manifest" in str(caught.value)
    assert main(["verify", str(copy)]) == 1


HOW = {"as it is": lambda change: change, "unstamped": unstamped, "same times": same_times}
# without the stamp nothing vouches for the name, on which no number depends
OPENED = [(what, how) for what in [*CORRUPT, *MORE] for how in HOW if (what, how) != ("the name edited", "unstamped")]


@pytest.mark.parametrize(("what", "how"), OPENED)
def test_opening_notices(what: str, how: str, made: Path, tmp_path: Path) -> None:
    change = (CORRUPT | MORE)[what]
    data = copied(made, tmp_path)
    ProcessedDataset.open(data / "small")  # a new stamp: the copy is known to be right
    HOW[how](change)(data / "small")
    with pytest.raises(ProcessedDatasetError) as caught:
        ProcessedDataset.open(data / "small")
    assert len(str(caught.value).splitlines()) == 1
    assert what == "manifest removed" or str(data / "small") in str(caught.value)


def test_the_counts() -> None:
    print(f"corrupt data: {len(CORRUPT) * 5} cells of commands; of those run here: {dict(CELLS)}")
    assert not CELLS["silent"] and not CELLS["traceback"]
