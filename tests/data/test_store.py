from __future__ import annotations

import builtins
import collections
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_source import MadeSource

from recsys_lab.data.prepare import store
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.words import RecsysLabError

EVENTS = {"user_id": [1, 1, 2], "item_id": ["x", "y", "x"], "timestamp": [5, 6, 7]}


def make(folder: Path, source: MadeSource | None = None, **chosen) -> ProcessedDataset:
    return prepare(source or MadeSource(EVENTS), PrepareSettings(**chosen), folder / "made", folder)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("made", ".made.lock"))


# -- a full disk -------------------------------------------------------------------------------------------------------


def full_device(monkeypatch, file: str) -> None:
    """Writes of `file` go to the device that is always full: the real error of the real system."""

    def patched(path, mode="r", **kwargs):
        return builtins.open("/dev/full" if Path(path).name == file else path, mode, **kwargs)

    monkeypatch.setattr(store, "open", patched, raising=False)


def polars_error(monkeypatch, file: str) -> None:
    def write_parquet(self, target):
        raise pl.exceptions.ComputeError("No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", write_parquet)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize(
    ("break_disk", "file"),
    [(full_device, "item_ids.npy"), (full_device, "manifest.json"), (polars_error, "users.parquet")],
)
def test_a_full_disk_while_writing(tmp_path, monkeypatch, break_disk, file):
    before = make(tmp_path)
    with monkeypatch.context() as patch:
        break_disk(patch, file)
        with pytest.raises(
            RecsysLabError, match=r"no space left on the disk of .*made: about .* MB are needed and .* MB"
        ):
            make(tmp_path, min_length=2)
    assert left_over(tmp_path) == []
    assert ProcessedDataset.open(tmp_path / "made", verify=True).data_hash == before.data_hash  # the old set stays


def test_too_little_space_is_known_before_writing(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage(100, 90, 10))
    monkeypatch.setattr(store.FolderWriter, "array", lambda *args: pytest.fail("wrote something"))
    with pytest.raises(RecsysLabError, match="no space left on the disk"):
        make(tmp_path)
    assert left_over(tmp_path) == [] and not (tmp_path / "made").exists()


def test_other_system_errors_pass_unchanged_and_clean_up(tmp_path, monkeypatch):
    def denied(descriptor, file):
        raise OSError(errno.EACCES, "denied")

    monkeypatch.setattr(store, "_sync", denied)
    with pytest.raises(OSError, match="denied"):
        make(tmp_path)
    assert left_over(tmp_path) == []


# -- killed processes --------------------------------------------------------------------------------------------------

KILLED_WHILE_WRITING = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_store
from recsys_lab.data.prepare.store import FolderWriter

def stop(self, name, content):
    print("writing", flush=True)
    time.sleep(60)

FolderWriter.json = stop
test_store.make(Path({folder!r}), min_length=2)
"""


@pytest.mark.parametrize("replaces", [False, True])
def test_a_killed_prepare_leaves_no_half_data_set(tmp_path, tmp_path_factory, caplog, replaces):
    before = make(tmp_path) if replaces else None
    script = tmp_path_factory.mktemp("script") / "killed.py"
    script.write_text(KILLED_WHILE_WRITING.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()

    assert len(left_over(tmp_path)) == 1  # the half-written sibling
    if before is not None:
        assert ProcessedDataset.open(tmp_path / "made", verify=True).data_hash == before.data_hash
    else:
        assert not (tmp_path / "made").exists()
    with caplog.at_level(logging.INFO, "recsys_lab"):
        assert make(tmp_path, min_length=2).num_users == 1
    assert "left by a process that was stopped" in caplog.text
    assert left_over(tmp_path) == []


def test_killed_between_the_two_renames_the_old_set_comes_back(tmp_path):
    source = MadeSource(EVENTS)
    folder = make(tmp_path, source).path
    folder.rename(tmp_path / ".made.old-0123456789ab")
    (tmp_path / ".made.tmp-0123456789ab").mkdir()
    make(tmp_path, source)
    assert source.reads == 1  # reused
    assert left_over(tmp_path) == []


# -- two at once -------------------------------------------------------------------------------------------------------


def test_a_second_process_waits_and_reuses(tmp_path, caplog):
    """Threads stand for processes: each opens the lock file itself, and the lock is of the open file."""
    inside, go_on = threading.Event(), threading.Event()

    class Slow(MadeSource):
        def tables(self, raw_dir):
            inside.set()
            go_on.wait(20)
            return super().tables(raw_dir)

    first, second = Slow(EVENTS), MadeSource(EVENTS)
    threads = [threading.Thread(target=make, args=(tmp_path, source)) for source in (first, second)]
    with caplog.at_level(logging.INFO, "recsys_lab"):
        threads[0].start()
        assert inside.wait(20)
        threads[1].start()
        while "waiting for it" not in caplog.text and threads[1].is_alive():
            threads[1].join(0.01)
        go_on.set()
        for thread in threads:
            thread.join(20)
    assert (first.reads, second.reads) == (1, 0)
    assert left_over(tmp_path) == []
    assert ProcessedDataset.open(tmp_path / "made", verify=True).num_events == 3


def test_without_locks_the_last_rename_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "fcntl", None)
    make(tmp_path)
    assert make(tmp_path, min_length=2).num_users == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_an_open_map_outlives_the_replacement(tmp_path):
    before = make(tmp_path)
    after = make(tmp_path, min_length=2)
    assert before.item_ids.tolist() == [1, 2, 1] and after.item_ids.tolist() == [1, 2]


def test_written_arrays_are_plain_npy_files(tmp_path):
    data = make(tmp_path)
    assert np.load(data.path / "item_ids.npy").tolist() == [1, 2, 1]
    assert data.manifest["arrays"]["item_ids"]["length"] == 3


@pytest.mark.skipif(store.fcntl is None, reason="needs locks")
def test_a_second_interrupt_does_not_stop_the_clean_up(tmp_path, monkeypatch):
    """Ctrl-C in a query of polars comes twice: the second one before the clean-up of the first begins."""

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.FolderWriter, "json", interrupted)
    monkeypatch.setattr(store.FolderWriter, "__exit__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert left_over(tmp_path) == [] and not (tmp_path / "made").exists()
