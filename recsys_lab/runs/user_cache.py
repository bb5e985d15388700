"""Where what can be made again is kept for this user."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`~/.cache/recsys_lab`, or the folder that RECSYS_LAB_CACHE names. It may be deleted at any time."""
    own = os.environ.get("RECSYS_LAB_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys_lab"
