"""What a prepared set is, in a few lines for people."""

from __future__ import annotations

import os
import shlex
from itertools import groupby
from pathlib import Path
from typing import Any

from recsys_lab.data.fields.stored import owners
from recsys_lab.data.prepare.odd_values import moment
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.prepare.reuse import as_typed
from recsys_lab.words import number_of, number_of_these


def prepared_text(data: ProcessedDataset, data_dir: str = "data") -> str:
    """Counts, times, fields, hashes and settings of a prepared set, and the option by which a run uses it.

    Args:
        data_dir: the folder of prepared sets that the user knows.
    """
    manifest = data.manifest
    sizes = (data.num_users, "user"), (data.num_items, "item"), (data.num_events, "event")
    lines = [f"{data.name}: {', '.join(number_of(*size) for size in sizes)}"]
    if not data.has_timestamps:
        lines.append("  time      none: the order in the file, or the order column, stands in")
    elif manifest.get("first_time") is not None:
        lines.append(f"  time      {moment(manifest['first_time'])} to {moment(manifest['last_time'])} (UTC)")
    lines += [f"  left out  {number_of_these(count, what)}" for what, count in manifest.get("left_out", {}).items()]
    for scope, fields in groupby(data.fields.values(), lambda field: field.scope):
        of = owners(scope)
        lines.append(f"  fields    of {of}: {', '.join(f'{field.name} ({field.kind})' for field in fields)}")
    if best := manifest.get("best_possible"):
        scores = ", ".join(f"{name} {value:.4f}" for name, value in best["test"].items() if "_error" not in name)
        seen = best["exclude_seen"]
        lines.append(f"  best      {scores} is the most that a model can expect, with --data.exclude_seen {seen}")
    return "\n".join(
        [
            *lines,
            f"  folder    {data.path}",
            f"  hash      data {data.data_hash}, items {data.vocabulary_hash}",
            f"  settings  {_settings(manifest.get('settings', {}))}",
            f"  use it    recsys-lab fit --model SASRec --data.dataset {_handle(data.path, data_dir)}",
        ]
    )


def _settings(settings: dict[str, Any]) -> str:
    """Those that are not the usual ones, as they are typed."""
    usual = PrepareSettings().as_dict()
    given = {name: value for name, value in settings.items() if value != usual.get(name)}
    if not given:
        return "the usual ones (prepare --help)"
    pairs = [(name, one) for name, value in given.items() for one in (value if name == "keep" else [value])]
    return " ".join(f"--{name} {shlex.quote(as_typed(value))}" for name, value in pairs)


def _handle(folder: Path, data_dir: str) -> str:
    """What `--data.dataset` takes for this folder, from where the command was given."""
    if folder.parent == Path(data_dir).absolute():
        return shlex.quote(folder.name) + ("" if data_dir == "data" else f" --data.data_dir {shlex.quote(data_dir)}")
    return shlex.quote(os.path.relpath(folder))
