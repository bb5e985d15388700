"""The files of a run folder and what ties them together: manifest.json holds the hash of each, and one of itself.

So nothing that was changed, mixed up or cut short after the run goes unnoticed by who reads it. Imports nothing of ours
but `words`: who writes a run and who reads one share this file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

HASHED = {"config.yaml": "config_sha256", "metrics.json": "metrics_sha256", "metrics.csv": "epochs_sha256"}
"""Files that are hashed whenever the manifest is written."""
OF_A_TEST = {
    "ranks.parquet": "ranks_sha256",
    "outcomes.parquet": "outcomes_sha256",
    "values.parquet": "values_sha256",
}
"""Files that a test writes, hashed when they are made, as the checkpoint is."""
SEAL = "manifest_sha256"
UNFINISHED = ("running", "interrupted", "nan", "error")
"""`stopped_by` of a run whose training did not come to its own end."""


def is_tested(manifest: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    """Whether the test came to its end whose ranks (or outcomes) lie in a run folder. A test writes its metrics and the
    manifest behind them, so neither knows of the files of a test that was stopped while it wrote them."""
    if any(entry in manifest for entry in OF_A_TEST.values()) or "stopped_by" not in manifest or not metrics:
        return True  # without metrics nothing is known; a fit leaves some before its test
    return any(name.startswith("test/") for name in metrics)  # a run of before, whose manifest has no such hash


def test_was_stopped(folder: Path) -> str:
    """What to say of a run that is not tested to its end (`is_tested`)."""
    return f"its test was stopped before it ended; to test it: recsys-lab fit {folder} --run.test_after_fit true"


def warn_of_unfinished(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Says that a model is that of a run whose training did not come to its end."""
    if (why := manifest.get("stopped_by")) in UNFINISHED:
        said = "%s is not finished (%s): its best checkpoint so far is taken; `recsys-lab fit %s` goes on"
        log.warning(said, folder, why, folder)


def no_run_folder(folder: Path, missing: str) -> str:
    """What to say of a path that a command takes for a run's folder, and of the run around a file, or runs below it."""
    if folder.is_file():
        home = next((one for one in folder.parents if (one / "config.yaml").is_file()), None)
        return f"{folder} is a file, and no run folder{f'. Did you mean {home}?' if home else ''}"
    below = sorted(folder.glob("*/config.yaml")) or sorted(folder.glob("*/*/config.yaml"))
    meant = f". Did you mean {below[0].parent}?" if below else ""
    return f"{folder} is not a run folder: it holds no {missing}{meant}"


class ChangedRunError(RecsysLabError):
    """A file of a run folder is damaged, or not the one that the run left."""


def write_text(path: Path, text: str) -> None:
    """Whole or not at all: a reader never sees half a file."""
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, plain: dict[str, Any]) -> None:
    """Whole or not at all, also where several processes write it."""
    with written(path, unique=True) as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A mapping; empty where there is no such file, or something else in it."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_texts(folder: Path, files: Mapping[str, str]) -> None:
    """Files (name -> text) that belong together, into a folder that is made when needed: all of them or none."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name, text in files.items():
            stack.enter_context(written(folder / name)).write_text(text, encoding="utf-8")


def write_results(folder: Path, files: dict[str, str], option: str = "--output") -> None:
    """Writes `files` (name -> text) into `folder`, which is made when needed; `option` names it on the command line.

    Raises:
        RecsysLabError: when that can't be, naming the folder.
    """
    try:
        write_texts(folder, files)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise RecsysLabError(f"can't write to {folder}: {why}; choose another folder with {option}") from error


def check_place(path: Path, option: str, is_folder: bool = False) -> None:
    """Before long work whose result is a file, or files in a folder: that is not lost where they can't be written.

    Raises:
        RecsysLabError: naming the place and the option that changes it.
    """
    if path.is_dir() and not is_folder:
        raise RecsysLabError(f"{option} {path} is a folder: name a file in it, such as {path / 'page.html'}")
    folder = path if is_folder else path.absolute().parent
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        raise RecsysLabError(f"can't write to {folder}: {there} is a file, and no folder; choose another with {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RecsysLabError(f"can't write to {folder}: permission denied; choose another folder with {option}")


def output_folder(output: str | None, default: Path) -> Path:
    """Where a command writes its files: what `--output` says, or `default`; see `check_place`."""
    folder = Path(output) if output else default
    check_place(folder, "--output", is_folder=True)
    return folder


@contextmanager
def written(path: Path, unique: bool = False) -> Iterator[Path]:
    """A file that appears whole or not at all: the block writes to the path that it is given, which becomes `path`.

    When the block fails, that is removed, and the error gets a note of `path`: a full disk's own error names no file.

    Args:
        unique: several processes may write the same file.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial" if unique else f"{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        error.add_note(f"writing {path}")
        raise


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes manifest.json with the hashes of `HASHED` and its own; `manifest` gets them, too."""
    for name, key in HASHED.items():
        manifest[key] = file_sha256(folder / name) if (folder / name).is_file() else None
    plain = json.loads(json.dumps(manifest, default=str))
    manifest[SEAL] = _seal(plain)
    write_text(folder / "manifest.json", json.dumps(plain | {SEAL: manifest[SEAL]}, indent=2) + "\n")


def read_manifest(folder: Path, needed: Sequence[str] = ("model", "evaluation")) -> dict[str, Any]:
    """manifest.json of a run.

    Args:
        needed: entries that must be there.

    Raises:
        FileNotFoundError: where there is none.
        ChangedRunError: when it can't be read, is not that of a run, or was changed after it was written.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise ChangedRunError(f"{path} is damaged: it is not JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise ChangedRunError(f"{path} is damaged: it holds no mapping")
    missing = [name for name in needed if not isinstance(manifest.get(name), str | dict)]
    if missing:
        raise ChangedRunError(f"{path} is damaged: it has no entry {', '.join(map(repr, missing))} of a run")
    if SEAL in manifest and manifest[SEAL] != _seal(manifest):
        raise ChangedRunError(f"{path} was changed after the run wrote it: its own {SEAL} does not fit")
    if SEAL not in manifest and "system_hash" in manifest:
        raise ChangedRunError(f"{path} was changed after the run wrote it: its {SEAL} is gone")
    return manifest


def check_file(folder: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Raises ChangedRunError when the file `name` of a run is not the one that its manifest was written with. Nothing
    is known of a file that the manifest holds no hash of: it is older, or the run is not that far."""
    expected = manifest.get((HASHED | OF_A_TEST)[name])
    path = folder / name
    if expected is not None and not path.is_file():
        raise ChangedRunError(f"{path} is gone")
    if expected is not None and file_sha256(path) != expected:
        raise ChangedRunError(f"{path} is not the file that the run wrote: its sha256 is not that of manifest.json")


def check_checkpoint(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raises ChangedRunError when the checkpoint that was tested is there, and is another one by now.

    A file of the same size and time as then is not read again.
    """
    name, expected = manifest.get("checkpoint"), manifest.get("checkpoint_sha256")
    if name is None or expected is None or not (folder / name).is_file():
        return
    path = folder / name
    if stamp(path) != manifest.get("checkpoint_stamp") and file_sha256(path) != expected:
        raise ChangedRunError(f"{path} is not the checkpoint that was tested: its sha256 is not that of manifest.json")


def checkpoint_facts(path: Any, folder: Path) -> dict[str, Any]:
    """Entries of manifest.json about the checkpoint that was tested: where it lies (from the run folder), its sha256,
    size and time. None each for a model that was tested as it was in memory."""
    file = Path(path) if path else None
    if file is None or not file.is_file():
        return {"checkpoint": None, "checkpoint_sha256": None, "checkpoint_stamp": None}
    return {
        "checkpoint": os.path.relpath(file, folder),
        "checkpoint_sha256": file_sha256(file),
        "checkpoint_stamp": stamp(file),
    }


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> list[int]:
    """[bytes, time of the last change in ns]."""
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def _seal(manifest: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in manifest.items() if name != SEAL}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
