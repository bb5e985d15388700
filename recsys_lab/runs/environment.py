"""Facts about code and machine, for the manifest of a run."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("recsys-lab", "torch", "lightning", "torchmetrics", "numpy", "polars")


def describe_environment() -> dict[str, Any]:
    """commit and dirty flag of the checkout that this package lies in (None outside git), and versions."""
    here = Path(__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    changes = _git(here, "status", "--porcelain", "--untracked-files=no")
    versions = {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    return {"commit": commit, "dirty": None if changes is None else bool(changes), "versions": versions}


def describe_device(device: torch.device, processes: int) -> str:
    """For people: `cpu, 2 threads`, `2 x NVIDIA H100`."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{device.type}, {torch.get_num_threads()} threads"
    return name if processes == 1 else f"{processes} x {name}"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
