"""The files of a run against the hashes in its manifest, and the checkpoint against its own checksums."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from recsys_lab.runs.run_files import HASHED, OF_A_TEST, check_file, file_sha256, read_manifest
from recsys_lab.runs.verification import Check, differs
from recsys_lab.words import RecsysLabError


def file_checks(folder: Path, manifest: dict[str, Any]) -> list[Check]:
    """The files of the run against the hashes in its manifest, as far as the version that wrote it made them."""
    checks = []
    try:
        read_manifest(folder)
    except RecsysLabError as error:
        checks.append(Check("manifest.json", False, str(error)))
    checks += changed_files(folder, manifest, *HASHED, *OF_A_TEST)
    recorded, path = manifest.get("checkpoint_sha256"), checkpoint_of(folder, manifest)
    if recorded is not None and path.is_file():
        found = file_sha256(path)
        if found != recorded:
            checks.append(differs(f"checkpoints/{path.name}", recorded, found))
    return checks


def changed_files(folder: Path, manifest: dict[str, Any], *names: str) -> list[Check]:
    """A failed check for each file that is not the one that the manifest was written with."""
    checks = []
    for name in names:
        try:
            check_file(folder, manifest, name)
        except RecsysLabError as error:
            checks.append(Check(name, False, str(error)))
    return checks


def checkpoint_of(folder: Path, manifest: dict[str, Any]) -> Path:
    """The checkpoint that was tested; of a run that does not say, `best.ckpt` of the run folder."""
    if isinstance(manifest.get("checkpoint"), str):
        return folder / manifest["checkpoint"]
    own = folder / "checkpoints"
    return (own if own.is_dir() else folder.parent / "checkpoints") / "best.ckpt"


def checkpoint_check(path: Path) -> Check:
    """The checksums that the file holds of its own parts: torch does not look at them."""
    field = f"checkpoints/{path.name}"
    if not path.is_file():
        return differs(field, "a file", "none")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except Exception as error:  # a damaged archive is reported in many ways
        return Check(field, False, f"it is damaged ({error})")
    return Check(field, bad is None, f"its part {bad} is damaged" if bad else "its checksums hold")
