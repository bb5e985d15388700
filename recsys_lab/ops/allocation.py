"""Memory on a CPU: what a step frees stays with the process for the next step.

glibc gives large freed blocks back to the system and asks for them again at the next step, and the system hands over
zeroed pages one by one: on two cores that was a tenth to a third of the time of an evaluation, and some percent of
training (docs/batches.md). Peak memory does not change; up to `KEPT_BYTES` more stay with the process between steps.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

KEPT_BYTES = 128 << 20
"""Freed memory at the end of the heap beyond this goes back to the system."""

LARGEST_BLOCK = 32 << 20
"""Larger blocks come from the system and go back at once, as always; glibc takes no larger limit."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of malloc.h
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


@cache
def keep_freed_memory() -> bool:
    """Sets glibc's limits for this process, once. Returns whether it did.

    Does nothing without glibc, and where the environment has settings of its own (or another allocator in
    `LD_PRELOAD`).
    """
    glibc = _glibc()
    if glibc is None or any(name in os.environ for name in _VARIABLES):
        return False
    return bool(glibc.mallopt(_MMAP_THRESHOLD, LARGEST_BLOCK)) and bool(glibc.mallopt(_TRIM_THRESHOLD, KEPT_BYTES))


def give_freed_memory_back() -> None:
    """Before a run of another kind, whose blocks have other sizes: what was kept would lie beside them unused. Pages
    come back one by one, a third of the time of a test of a thousand users: not before a second test."""
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        process = ctypes.CDLL(None)
        process.gnu_get_libc_version  # noqa: B018  # a C library with another `mallopt` would not have it
    except (AttributeError, OSError, TypeError):  # another C library; Windows
        return None
    return process
