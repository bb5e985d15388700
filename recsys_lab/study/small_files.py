"""Small files of studies: written whole or not at all, so that a reader never sees half of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recsys_lab.runs.run_files import written


def write_text(path: Path, text: str) -> None:
    with written(path, unique=True) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, plain: dict[str, Any]) -> None:
    write_text(path, json.dumps(plain, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A mapping; empty where there is no such file, or something else in it."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
