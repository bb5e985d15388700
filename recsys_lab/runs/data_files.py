"""The files of a prepared data set against its manifest, byte by byte: what a proof of a run begins with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lab.data.prepare.integrity import array_form
from recsys_lab.data.prepare.processed import ProcessedDataset, array_sha256
from recsys_lab.data.prepare.processed import read_manifest as read_data_manifest
from recsys_lab.runs.verification import Check, differs, same


def data_checks(folder: Path) -> list[Check]:
    """Every file of a prepared folder against its manifest, byte by byte."""
    manifest = read_data_manifest(folder)
    checks = [_array_check(folder, name, about) for name, about in manifest["arrays"].items()]
    for name, about in manifest["tables"].items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        checks.append(same(f"data {name} sha256", about["sha256"], found))
    if all(check.ok for check in checks):
        ProcessedDataset.open(folder)  # do the sizes agree with each other?
    return checks


def _array_check(folder: Path, name: str, about: dict[str, Any]) -> Check:
    try:
        array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        dtype, shape = array_form(name, about)
    except (OSError, ValueError, TypeError, EOFError) as error:
        return Check(f"data {name}.npy", False, f"it can't be read ({' '.join(str(error).split())})")
    # not the name of the type: that is `int32` also where the header says that the bytes are the other way round
    expected, found = (dtype.str, shape), (array.dtype.str, array.shape)
    if expected != found:
        return differs(f"data {name}.npy", expected, found)
    return same(f"data {name}.npy sha256", about["sha256"], array_sha256(array))
