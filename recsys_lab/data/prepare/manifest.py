"""The manifest of a prepared folder: read, checked, brought to the form of today; and the errors of such folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recsys_lab.data.fields.stored import StoredField, hash_of
from recsys_lab.data.prepare.integrity import FORMAT, FORMAT_VERSION, FORMS, MANIFEST, REQUIRED
from recsys_lab.words import EVENT_TYPE, RecsysLabError


class ProcessedDatasetError(RecsysLabError):
    """The folder is missing, foreign, of another format version, or damaged."""


class MissingDatasetError(ProcessedDatasetError):
    """There is no such folder."""


class ForeignFolderError(ProcessedDatasetError):
    """The folder was not written by `prepare`, so it must not be replaced either."""


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a prepared folder of this format version.

    Raises:
        MissingDatasetError, ForeignFolderError, ProcessedDatasetError: as `ProcessedDataset.open`.
    """
    if not path.is_dir():
        raise MissingDatasetError(f"there is no prepared data set at {path}: prepare one with `recsys-lab prepare`")
    foreign = f"{path} is not a prepared data set of recsys_lab"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ForeignFolderError(f"{foreign}: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        whose = ". Delete the folder and prepare it again" if (path / "item_ids.npy").is_file() else ""
        raise ForeignFolderError(f"{foreign}: its {MANIFEST} can't be read ({error}){whose}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ForeignFolderError(f"{foreign}: its {MANIFEST} was written by something else")
    if manifest.get("format_version") == 1:
        manifest = _with_fields(path, manifest)
    elif manifest.get("format_version") != FORMAT_VERSION:
        raise ProcessedDatasetError(
            f"{path} has format version {manifest.get('format_version')}, this recsys_lab reads version "
            f"{FORMAT_VERSION}: prepare it again with `recsys-lab prepare`"
        )
    missing = [key for key in REQUIRED if key not in manifest]
    if missing:
        raise damaged(path, f"its {MANIFEST} lacks {', '.join(missing)}")
    wrong = [key for key, is_right in FORMS.items() if not is_right(manifest[key])]
    if wrong:
        raise damaged(path, f"{', '.join(wrong)} in its {MANIFEST} is not what `prepare` writes")
    return manifest


def _with_fields(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of version 1, whose only field are the event types, with them as a field."""
    names, arrays = manifest.get("event_type_names"), manifest.get("arrays")
    if not isinstance(names, list) or not isinstance(arrays, dict):
        raise damaged(path, f"its {MANIFEST} is not what `prepare` writes")
    if "event_types" not in arrays:
        return {**manifest, "fields": []}
    digest = hash_of("categorical", str(arrays["event_types"]), *map(str, names))
    field = StoredField(EVENT_TYPE, "event", "categorical", num_values=len(names), file=EVENT_TYPE, hash=digest)
    return {**manifest, "fields": [field.as_dict()]}


def files_of(manifest: dict[str, Any]) -> list[str]:
    """Names of the files that a manifest vouches for."""
    return [f"{name}.npy" for name in manifest["arrays"]] + list(manifest["tables"])


def damaged(path: Path, what: str) -> ProcessedDatasetError:
    """The error of a prepared folder that is not as it was prepared."""
    return ProcessedDatasetError(f"{path} is damaged: {what}. Delete the folder and prepare it again")
