"""From the name that a user writes to an opened prepared data set."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from recsys_lab.data.prepare import PrepareSettings, prepare
from recsys_lab.data.processed import ProcessedDataset
from recsys_lab.data.sources import get_source, source_names
from recsys_lab.schema import RecsysLabError


def prepared_folder(name: str, data_dir: Path, settings: PrepareSettings, defaults: PrepareSettings) -> Path:
    """`data_dir/<name>`, with a hash of the settings behind the name where they are not the source's defaults."""
    if settings == defaults:
        return data_dir / name
    plain = json.dumps(dataclasses.asdict(settings), sort_keys=True, default=str)
    return data_dir / f"{name}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"


def find_prepared(
    dataset: str, data_dir: str | Path = "data", settings: PrepareSettings | None = None
) -> ProcessedDataset | None:
    """What `locate` would open, as far as it is prepared already; nothing is downloaded, checked or made."""
    data_dir = Path(data_dir)
    folders = [Path(dataset), data_dir / dataset]
    if dataset in source_names():
        source = get_source(dataset)
        defaults = PrepareSettings(**source.default_settings)
        folders = [prepared_folder(source.name, data_dir, settings or defaults, defaults)]
    for folder in folders:
        if (folder / "manifest.json").is_file():
            return ProcessedDataset.open(folder)
    return None


def locate(dataset: str, data_dir: str | Path = "data", settings: PrepareSettings | None = None) -> ProcessedDataset:
    """The prepared set that `dataset` names: a prepared folder, or a known source (prepared now if need be).

    Raises:
        RecsysLabError: for an unknown name, listing the known ones; for a folder that is not a prepared data set.
    """
    data_dir = Path(data_dir)
    for folder in (Path(dataset), data_dir / dataset):
        if dataset not in source_names() and folder.is_dir():
            if settings is not None:
                raise RecsysLabError(
                    f"{folder} is prepared already, so data.prepare can't change it; leave data.prepare out, or "
                    f"prepare "
                    "the raw file again with `recsys-lab prepare`"
                )
            return ProcessedDataset.open(folder)
    try:
        source = get_source(dataset)
    except RecsysLabError as error:
        raise RecsysLabError(
            f"{error}\nNor is there a prepared folder {dataset!r} or {str(data_dir / dataset)!r}"
        ) from error
    defaults = PrepareSettings(**source.default_settings)
    chosen = defaults if settings is None else settings
    return prepare(source, chosen, prepared_folder(source.name, data_dir, chosen, defaults), data_dir / "raw")
