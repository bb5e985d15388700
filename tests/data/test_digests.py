"""Digests of raw files are remembered exactly as long as a file can't have changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from recsys_lab.data.reading import digests as digests_module
from recsys_lab.data.reading.digests import NOTE, Digests
from recsys_lab.data.reading.download import ChecksumError, file_digest
from recsys_lab.data.reading.file_source import FileSource
from recsys_lab.data.reading.raw_files import PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables


class Reader:
    """`file_digest` that counts."""

    __name__ = "file_digest"

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, path: Path, algorithm: str) -> str:
        self.reads += 1
        return file_digest(path, algorithm)


@pytest.fixture
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once: their change time can't be set back in a test."""
    monkeypatch.setattr(digests_module, "SETTLED_NS", -(10**10))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text("one")
    return path


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.usefixtures("old_files")
def test_a_file_is_read_once_by_all_processes(tmp_path: Path, file: Path) -> None:
    read = Reader()
    for _ in range(3):  # each object stands for a process: nothing is kept in it
        assert Digests(tmp_path / "raw").of(file, read=read) == sha256("one")
    assert read.reads == 1
    assert Digests(tmp_path / "raw").of(file, "md5", read) == hashlib.md5(b"one").hexdigest()
    assert read.reads == 2
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [NOTE]


def larger(path: Path) -> None:
    before = path.stat()
    path.write_text("three")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def same_size_later(path: Path) -> None:
    before = path.stat()
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def same_size_same_time(path: Path) -> None:
    before = path.stat()
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_text("two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.usefixtures("old_files")
@pytest.mark.parametrize("change", [larger, same_size_later, same_size_same_time, replaced])
def test_a_changed_file_is_read_again(tmp_path: Path, file: Path, change: object) -> None:
    assert Digests(tmp_path).of(file) == sha256("one")
    change(file)  # type: ignore[operator]
    assert Digests(tmp_path).of(file) == sha256(file.read_text()) != sha256("one")


def test_a_file_written_just_now_is_read_each_time(tmp_path: Path, file: Path) -> None:
    read = Reader()
    for _ in range(2):
        Digests(tmp_path).of(file, read=read)
    assert read.reads == 2 and not (tmp_path / NOTE).exists()


@pytest.mark.usefixtures("old_files")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(tmp_path: Path, file: Path) -> None:
    def read(path: Path, algorithm: str) -> str:
        digest = file_digest(path, algorithm)
        path.write_text("more than before")
        return digest

    Digests(tmp_path).of(file, read=read)
    assert not (tmp_path / NOTE).exists()


@pytest.mark.usefixtures("old_files")
@pytest.mark.parametrize("content", ["{", "[]", '{"%s sha256 file_digest": 1}'])
def test_an_unreadable_note_is_as_none(tmp_path: Path, file: Path, content: str) -> None:
    (tmp_path / NOTE).write_text(content.replace("%s", str(file)))
    read = Reader()
    for _ in range(2):
        assert Digests(tmp_path).of(file, read=read) == sha256("one")
    assert read.reads == 1  # the note is in order again


@pytest.mark.usefixtures("old_files")
def test_a_folder_that_can_not_be_written_is_no_error(tmp_path: Path, file: Path) -> None:
    (tmp_path / "raw").write_text("a file where the folder should be")
    assert Digests(tmp_path / "raw").of(file) == sha256("one")


@pytest.mark.usefixtures("old_files")
def test_notes_of_vanished_files_go(tmp_path: Path, file: Path) -> None:
    Digests(tmp_path).of(file)
    file.unlink()
    other = tmp_path / "other.csv"
    other.write_text("two")
    Digests(tmp_path).of(other)
    assert "log.csv" not in (tmp_path / NOTE).read_text() and "other.csv" in (tmp_path / NOTE).read_text()


# -- the sources use them ----------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the algorithms of all file hashing from here on."""
    real, calls = hashlib.file_digest, []

    def counted(handle: object, algorithm: str) -> object:
        calls.append(algorithm)
        return real(handle, algorithm)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counted)
    return calls


@pytest.mark.usefixtures("old_files")
def test_the_users_file_is_hashed_once(tmp_path: Path, hashed: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user_id,item_id\n1,2\n")
    first = FileSource(path).fingerprint(tmp_path / "raw")
    assert FileSource(path).fingerprint(tmp_path / "raw") == first
    assert hashed == ["sha256"]
    path.write_text("user_id,item_id\n1,3\n")
    assert FileSource(path).fingerprint(tmp_path / "raw") != first


@pytest.mark.usefixtures("old_files")
def test_a_public_file_is_checked_once_and_a_changed_one_is_refused(tmp_path: Path, hashed: list[str]) -> None:
    text = "1 2\n"
    source = PublicSource(
        name="published",
        licence="",
        homepage="",
        citation="",
        files=(PublicFile("a.txt", checksum=f"sha256:{sha256(text)}"),),
        parse=lambda files: RawTables(None),  # type: ignore[arg-type]
    )
    path = tmp_path / "published" / "a.txt"
    path.parent.mkdir()
    path.write_text(text)
    assert source.fingerprint(tmp_path) == source.fingerprint(tmp_path)
    assert hashed == ["sha256"]  # the check and the fingerprint share it
    path.write_text("1 3\n")
    with pytest.raises(ChecksumError, match="is not the published a.txt"):
        source.fingerprint(tmp_path)
