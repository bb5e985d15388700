"""What a command prints for an error that is no bug: one line with the bad thing and the way out.

It imports nothing heavy: a missing torch may be the very error.
"""

from __future__ import annotations

import errno
import os
import re
import sys

from recsys_lab.words import RecsysLabError

WAYS_OUT = {
    errno.ENOSPC: "free some space there, or choose another place with {place}",
    errno.EDQUOT: "free some of your quota, or choose another place with {place}",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or choose another place with {place}",
    errno.EROFS: "choose a place that can be written to with {place}",
    errno.EACCES: "choose a place that you may read and write with {place}",
    errno.EPERM: "choose a place that you may read and write with {place}",
    errno.ENOTDIR: "a part of the path is a file: choose another folder with {place}",
    errno.EEXIST: "something with that name is there already: choose another name with {place}",
    errno.EISDIR: "a folder has that name: choose another with {place}",
    errno.ENAMETOOLONG: "choose a shorter name with {place}",
    errno.ENOENT: "it, or the folder that should hold it, is not there: choose another with {place}",
    errno.ELOOP: "its links lead in a circle",
    errno.EMFILE: "too many files are open: raise the limit (`ulimit -n`)",
    errno.EIO: "the disk reports a fault",
    errno.ENODEV: "choose another place with {place}",
    errno.EINVAL: "choose another name or place with {place}",
}
ONLY_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
PLACES = {
    "fit": "--run.folder or --data.data_dir",
    "test": "--run.folder",
    "validate": "--run.folder",
    "predict": "--run.folder or --recommendations.path",
    "recommend": "--output",
    "export": "--output",
    "serve": "--events",
    "prepare": "--data_dir or --output",
    "audit": "--output",
    "diagnose": "--output",
    "study": "--root or --output",
    "report": "--output",
}
NOT_WRITING = {"compare": "leave the untrained baselines out with --no_baselines"}
"""What a command need not write."""
NO_MEMORY = re.compile(
    r"MemoryError|can't allocate memory|not enough memory|out of memory|Unable to allocate|tensor.* too large|"
    r"Storage size calculation overflowed|array is too big|maximum allowed dimension",
    re.IGNORECASE,
)


def in_words(error: BaseException, command: str = "") -> str | None:
    """The line for `error`; None where it is a bug, whose traceback is wanted."""
    if isinstance(error, RecsysLabError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        return None if package in ("", "recsys_lab") else _missing_package(package)
    number, text = _system_error(error)
    if number is not None:
        verb = "write" if number in ONLY_WRITING else "read or write"
        return f"can't {verb} {_path_of(error)}: {text}; {_way_out(number, command)}"
    if isinstance(error, MemoryError | RuntimeError | ValueError) and NO_MEMORY.search(f"{error} {type(error)}"):
        first = (str(error).splitlines() or ["the system gave none"])[0]
        smaller = "--model.embedding_dim, --data.max_length, --data.batch_size or --data.eval_batch_size"
        return f"not enough memory ({first}): use a smaller {smaller}"
    return None


def _way_out(number: int, command: str) -> str:
    text = WAYS_OUT[number]
    if command in PLACES:
        return text.format(place=PLACES[command])
    text = text.replace(" with {place}", "")
    return f"{text}, or {NOT_WRITING[command]}" if command in NOT_WRITING else text


def _system_error(error: BaseException) -> tuple[int | None, str]:
    """The system's number of an error and its text; also as polars says it: `... (os error 28)`."""
    if isinstance(error, ConnectionError | TimeoutError):
        return None, ""
    if isinstance(error, OSError) and error.errno in WAYS_OUT:
        return error.errno, os.strerror(error.errno).lower()
    if isinstance(error, OSError) or type(error).__module__.startswith("polars"):
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found and int(found[1]) in WAYS_OUT:
            return int(found[1]), os.strerror(int(found[1])).lower()
        full = os.strerror(errno.ENOSPC)
        if full in str(error):
            return errno.ENOSPC, full.lower()
    return None, ""


def _path_of(error: BaseException) -> str:
    """The file that an error is about: its own word, or a note of who was writing (`run_files.written`)."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if isinstance(name, bytes | str | os.PathLike):
        return os.fsdecode(name)
    notes = [note.removeprefix("writing ") for note in getattr(error, "__notes__", []) if note.startswith("writing ")]
    named = re.search(r"\(os error \d+\): (\S.*)$", str(error))
    return notes[0] if notes else named[1] if named else "a file"


def _missing_package(package: str) -> str:
    return (
        f"the package {package!r} is not installed for {sys.executable}. Install recsys_lab there with all that it "
        "needs (`pip install .` in its folder), or start the recsys-lab of the environment that has it"
    )
