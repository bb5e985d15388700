"""Three tiers of tests. A test without a marker is in the first, which guards every change in minutes; `process` marks
tests that start processes of their own, `slow` those that take long. `--all` runs every tier."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LATER = ("process", "slow")
"""Markers of the tests that the default tier leaves out."""


def is_asked_for(markers: Iterable[str], nodeid: str, path: Path, arguments: Iterable[str], here: Path) -> bool:
    """Whether a test runs without `--all` and `-m`: it is of the default tier, or the command line names it.

    Args:
        markers: of the test.
        nodeid: of the test, `tests/test_x.py::test_y[z]`.
        path: of its file.
        arguments: what pytest was given, paths from `here`: `tests/test_x.py::test_y` runs in any case; a file
            by itself (`tests/test_x.py`) runs with its `process` tests, and without its `slow` ones.
    """
    left_out = set(LATER) & set(markers)
    for argument in arguments:
        file, _, wanted = argument.partition("::")
        if left_out and (here / file).resolve() == path:
            test = nodeid.partition("::")[2]
            if not wanted:
                left_out.discard("process")
            elif test == wanted or test.startswith((f"{wanted}[", f"{wanted}::")):
                left_out.clear()
    return not left_out
