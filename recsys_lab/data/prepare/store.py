"""Writing a folder all at once or not at all: lock, temporary sibling, fsync, rename; and the disk-full error."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.words import RecsysLabError

try:
    import fcntl
except ImportError:  # Windows: no lock; two processes then work side by side and the last rename wins
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("recsys_lab")


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`: one process prepares it, others wait (and then find it prepared).

    The system frees the lock of a killed process, so whoever holds it may clean up what such a process left.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            file = stack.enter_context(open(_sibling(folder, "lock"), "a", encoding="utf-8"))
            if _lock(file.fileno(), folder):
                _clean_up(folder)
                stack.push(lambda kind, error, trace: _clean_up(folder) if kind is not None else None)
        yield


def _lock(descriptor: int, folder: Path) -> bool:
    """True if the lock is held; False where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another process prepares %s: waiting for it", folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("%s can't be locked (%s): don't prepare it twice at the same time", folder, error)
        return False
    return True


def _clean_up(folder: Path) -> None:
    """Removes what a killed process left, and puts an old set back that was moved aside but not replaced.

    Also after an error of this process: Ctrl-C in a query of polars comes twice, and the second may stop the clean-up
    of the first.
    """
    for old in folder.parent.glob(f"{_sibling(folder, 'old').name}-*"):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)
    for left in folder.parent.glob(f"{_sibling(folder, 'tmp').name}-*"):
        log.info("removing %s, left by a process that was stopped while preparing", left)
        _remove(left)


def _sibling(folder: Path, kind: str) -> Path:
    return folder.parent / f".{folder.name}.{kind}"


class FolderWriter:
    """Files of one new folder, in a temporary sibling until `commit`.

    Use as a context manager: left without `commit` (an error, Ctrl-C), the temporary folder is removed and `folder`
    stays as it was.

    Args:
        folder: Where the finished folder shall be.

    Raises:
        RecsysLabError: when the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.needed_bytes = 0
        self.temporary = folder.parent / f"{_sibling(folder, 'tmp').name}-{uuid.uuid4().hex[:12]}"
        self.arrays: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        """Manifest entries of what was written so far."""

    def __enter__(self) -> FolderWriter:
        self.scratch.mkdir(parents=True)
        return self

    @property
    def scratch(self) -> Path:
        """A folder for files that are only needed until `commit`."""
        return self.temporary / "scratch"

    def need(self, needed_bytes: int) -> None:
        """Says how much will be written, for an early and clear error.

        Raises:
            RecsysLabError: when the disk has too little space.
        """
        self.needed_bytes = needed_bytes
        if shutil.disk_usage(self.temporary).free < needed_bytes:
            raise self._disk_full()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        disk_full = self._disk_full() if error is not None and is_disk_full(error) else None
        if isinstance(error, OSError):
            error.add_note(f"writing {self.folder}")  # the system's error names no file
        _remove(self.temporary)
        if disk_full is not None:
            raise disk_full from error

    def _disk_full(self) -> RecsysLabError:
        free = shutil.disk_usage(self.folder.parent).free
        return RecsysLabError(
            f"no space left on the disk of {self.folder}: about {_megabytes(self.needed_bytes)} are needed and "
            f"{_megabytes(free)} are free. Free some space or choose another data folder; nothing was changed"
        )

    def array(self, name: str, dtype: str, parts: Iterable[np.ndarray], length: int, width: int | None = None) -> None:
        """Writes (length,) or (length, width) values, given in parts, as `<name>.npy`, and records shape, dtype and
        sha256. A name may have a folder in front.

        Not np.save: it reports a full disk as an OSError without a number.
        """
        digest, written = hashlib.sha256(), 0
        with open(self._file(f"{name}.npy"), "wb") as file:
            shape = (length,) if width is None else (length, width)
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                data = np.ascontiguousarray(part, dtype).reshape(-1).view(np.uint8).data
                file.write(data)
                digest.update(data)
                written += len(part)
            assert written == length, f"{name}: {written} values instead of {length}"
            _sync(file.fileno(), file)
        self.arrays[name] = {"length": length, "dtype": dtype, "sha256": digest.hexdigest()}
        if width is not None:
            self.arrays[name]["width"] = width

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """Writes a frame as a Parquet file and records size and sha256."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        content = buffer.getvalue()
        with open(self._file(name), "wb") as file:
            file.write(content)
            _sync(file.fileno(), file)
        self.tables[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def table_of_parts(self, name: str, parts: Iterable[pl.DataFrame]) -> None:
        """As `table`, for a frame that is given in parts, of which one is in memory at a time."""
        folder = self.scratch / f"parts-{len(self.tables)}"
        folder.mkdir()
        for number, part in enumerate(parts):
            part.write_ipc(folder / f"{number:08d}.arrow")
        path = self._file(name)
        pl.scan_ipc(folder / "*.arrow").sink_parquet(path, engine="streaming")
        with open(path, "rb+") as file:
            self.tables[name] = {
                "bytes": path.stat().st_size,
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
            _sync(file.fileno(), file)
        shutil.rmtree(folder)

    def _file(self, name: str) -> Path:
        path = self.temporary / name
        path.parent.mkdir(exist_ok=True)
        return path

    def json(self, name: str, content: dict[str, Any]) -> None:
        with open(self.temporary / name, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")
            _sync(file.fileno(), file)

    def commit(self) -> None:
        """Puts the finished folder in place; a folder that is there is replaced, open memory maps of it stay valid."""
        shutil.rmtree(self.scratch)
        _sync_folder(self.temporary)
        old = None
        if self.folder.exists():
            old = self.folder.parent / f"{_sibling(self.folder, 'old').name}-{uuid.uuid4().hex[:12]}"
            self.folder.rename(old)
        self.temporary.rename(self.folder)
        _sync_folder(self.folder.parent)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def _remove(folder: Path, patience: float = 5.0) -> None:
    """Also where threads of polars still write into it: they end soon after an interrupted query, but not at once."""
    end = time.monotonic() + patience
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


def _sync(descriptor: int, file: Any) -> None:
    file.flush()
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_disk_full(error: BaseException) -> bool:
    """Also as polars says it: its errors carry the system's text, not always the number."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, OSError | pl.exceptions.PolarsError) and os.strerror(errno.ENOSPC) in str(error)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
