"""SplitMix64: random bits of numbers, the same in every version and process (Steele et al. 2014, "Fast splittable
pseudorandom number generators")."""

from __future__ import annotations

import numpy as np

STEP = np.uint64(0x9E3779B97F4A7C15)
"""What a stream of SplitMix64 adds for each number."""


def mixed(z: np.ndarray) -> np.ndarray:
    """uint64 -> uint64: the finaliser, a bijection whose output bits each depend on all input bits."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
