"""What the measuring processes of all benchmarks share. Imports nothing heavy."""

from __future__ import annotations

import resource
import sys
from typing import Any

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
"""A Trainer that prints and writes nothing."""


def peak_mb() -> float:
    """Most memory that this process had so far: imports and mapped pages of files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
