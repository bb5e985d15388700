"""From the name that a user writes to an opened prepared data set."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import MANIFEST, ProcessedDataset
from recsys_lab.data.reading.addresses import is_remote
from recsys_lab.data.reading.source import Source
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.sources import get_source, source_names
from recsys_lab.words import RecsysLabError, did_you_mean

DATASET, DATA_DIR = "ml-100k", "data"
"""Of a run that names none."""
MAX_NAME = 120
"""Bytes of a data set's name: file systems allow 255, and the names of temporary folders are longer."""
RAW = "raw"
"""The folder of raw files in `data_dir`."""


def prepared_folder(name: str, data_dir: Path, settings: PrepareSettings, defaults: PrepareSettings) -> Path:
    """`data_dir/<name>`, with a hash of the settings behind the name where they are not the source's defaults."""
    if settings == defaults:
        return data_dir / name
    plain = json.dumps(settings.as_dict(), sort_keys=True, default=str)
    return data_dir / f"{name}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"


def own_folder(name: str, data_dir: Path) -> Path:
    """`data_dir/<name>`, the one folder of the user's own data set `name`.

    Raises:
        RecsysLabError: for a name that is no plain folder name, or that a public data set has.
    """
    fault = ""
    if not name.strip() or name.strip() != name or name.startswith((".", "-")):
        fault = "a name begins with a letter, a digit or another sign, not with a dot, dash or space, and ends in none"
    elif any(c in "/\\" or not c.isprintable() for c in name):
        fault = "a name holds no slashes, line ends and other control characters"
    elif len(name.encode()) > MAX_NAME:
        fault = f"a name is at most {MAX_NAME} bytes long, this one is {len(name.encode())}"
    elif name.lower() in (RAW, f"{RAW}.") or name.lower().replace("_", "-") in source_names():
        fault = "it is taken: " + ("raw files lie there" if name.lower() == RAW else "it is a public data set")
    if fault:
        shown = name if len(name) <= 40 else f"{name[:40]}..."
        raise RecsysLabError(f"{shown!r} can't be the name of a data set ({fault}). Choose another {option('name')}")
    return data_dir / name


def folders_of(dataset: str, data_dir: Path) -> list[Path]:
    """Where a prepared set may be that is no known source: by its name in `data_dir`, else at its path."""
    if not dataset.strip():
        raise RecsysLabError("data.dataset is empty: give the name of a data set, or the path of a prepared folder")
    folders = [data_dir / dataset, Path(dataset)]
    return sorted(folders, key=lambda folder: not (folder / MANIFEST).is_file())  # stable: prepared ones first


def find_prepared(
    dataset: str, data_dir: str | Path = "data", settings: PrepareSettings | None = None
) -> ProcessedDataset | None:
    """What `locate` would open, as far as it is prepared already; nothing is downloaded, checked or made."""
    data_dir = Path(data_dir)
    folders = folders_of(dataset, data_dir)
    if dataset in source_names():
        source = get_source(dataset)
        defaults = PrepareSettings(**source.default_settings)
        folders = [prepared_folder(source.name, data_dir, settings or defaults, defaults)]
    for folder in folders:
        if (folder / MANIFEST).is_file():
            return ProcessedDataset.open(folder)
    return None


@dataclass(frozen=True)
class Cache:
    """Where copies of shards lie, and the most that they take."""

    folder: Path
    gb: float


def locate(
    dataset: str,
    data_dir: str | Path = "data",
    settings: PrepareSettings | None = None,
    cache: Cache | None = None,
) -> ProcessedDataset:
    """The prepared set that `dataset` names: a prepared folder, an address of one in shards (`s3://...`), or a known
    source (prepared now if need be).

    Raises:
        RecsysLabError: for an unknown name, suggesting the closest and listing what is prepared; for a folder that is
            not a prepared data set.
    """
    data_dir = Path(data_dir)
    if is_remote(dataset):
        from recsys_lab.data.shards.sharded_dataset import ShardedDataset

        kept = cache or Cache(data_dir / "cache", 20.0)
        return ShardedDataset.open_remote(dataset, kept.folder, kept.gb)
    for folder in folders_of(dataset, data_dir):
        if dataset not in source_names() and folder.is_dir():
            if settings is not None:
                raise RecsysLabError(
                    f"{folder} is prepared already, so data.prepare can't change it; leave data.prepare out, or "
                    f"prepare the raw file again with `recsys-lab prepare`"
                )
            return ProcessedDataset.open(folder)
    if said := no_such_data(dataset, data_dir):
        raise RecsysLabError(said)
    source = get_source(dataset)
    defaults = PrepareSettings(**source.default_settings)
    chosen = defaults if settings is None else settings
    from recsys_lab.data.prepare.pipeline import prepare  # who only finds what is there needs none of it

    return prepare(source, chosen, prepared_folder(source.name, data_dir, chosen, defaults), data_dir / RAW)


def no_such_data(dataset: str, data_dir: str | Path = "data") -> str:
    """What `locate` says of a name that it does not know; "" for one that it knows. Nothing is opened."""
    data_dir = Path(data_dir)
    is_known = is_remote(dataset) or dataset.lower().replace("_", "-") in source_names()
    if is_known or any(folder.is_dir() for folder in folders_of(dataset, data_dir)):
        return ""
    if Path(dataset).is_file():
        return (
            f"{dataset} is a file: prepare it first (`recsys-lab prepare --input {shlex.quote(dataset)}`), and give "
            "the name that is printed then"
        )
    there = sorted(p.parent.name for p in data_dir.glob(f"*/{MANIFEST}")) if data_dir.is_dir() else []
    hint = did_you_mean(dataset, [*there, *source_names()])
    listed = f"Prepared in {data_dir}: {', '.join(there)}." if there else f"Nothing is prepared in {data_dir}."
    return (
        f"unknown data set {dataset!r}.{hint} {listed} Public data sets: `recsys-lab sources`. Your own: "
        "`recsys-lab prepare --input FILE --name NAME`"
    )


def prepare_frames(source: Source, name: str, data_dir: Path, settings: PrepareSettings, replace: bool) -> Path:
    """The folder of frames in memory, prepared where it is not there yet.

    Args:
        name: of the set; empty = that of the source, which is made of the content, and of the settings.
        replace: replace a set of this name that was prepared otherwise, instead of an error.
    """
    from recsys_lab.data.prepare.pipeline import prepare

    folder = own_folder(name, data_dir) if name else prepared_folder(source.name, data_dir, settings, PrepareSettings())
    prepare(source, settings, folder, data_dir / RAW, replace=replace)
    return folder
