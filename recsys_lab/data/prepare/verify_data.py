"""Whether a prepared data set is what its manifest says."""

from __future__ import annotations

from pathlib import Path

from recsys_lab.data.locate import folders_of
from recsys_lab.data.prepare.integrity import MANIFEST, hash_checks, value_faults
from recsys_lab.data.prepare.processed import ProcessedDataset, ProcessedDatasetError, read_manifest
from recsys_lab.data.shards.sharded_dataset import ShardedDataset
from recsys_lab.words import RecsysLabError, number_of


class DataVerificationFailed(RecsysLabError):
    """A prepared set is damaged."""

    exit_code = 1


def data_folder(name: str, data_dir: str | Path = "data") -> Path | None:
    """The prepared folder that `name` means (a path, or the name of a data set), if it is one."""
    for folder in folders_of(name, Path(data_dir)) if name.strip() else []:
        if (folder / "offsets.npy").exists() or (folder / "item_ids.npy").exists():
            return folder
    return None


def verify_data(folder: Path) -> list[str]:
    """Reads every file of a prepared folder; a line for each thing that was checked.

    Raises:
        DataVerificationFailed: naming the files that are not what was prepared.
    """
    try:
        data = ProcessedDataset.open(folder, verify=True)
    except ProcessedDatasetError as error:
        raise DataVerificationFailed(str(error)) from error
    if isinstance(data, ShardedDataset):
        return [f"{data.path}: {len(data.store)} shards, each file as it was cut (data {data.data_hash})"]
    manifest = read_manifest(data.path)
    checks = hash_checks(data.path, manifest, data.arrays)
    assert all(checks.values()) and not value_faults(data.path, manifest, data.arrays)
    sizes = (data.num_users, "user"), (data.num_items, "item"), (data.num_events, "event")
    return [
        *(f"ok  {name}: sha256 as prepared" for name in checks),
        f"ok  {MANIFEST}: {', '.join(number_of(*size) for size in sizes)}",
        f"{data.path} is what it says (data {data.data_hash}, items {data.vocabulary_hash})",
    ]
