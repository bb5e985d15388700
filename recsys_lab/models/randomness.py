"""Where the random numbers of training come from: (seed, epoch, batch index, process), and nothing else.

The same batch of the same run hence has the same dropout masks and negatives, whatever was drawn before: a resumed run
needs no saved state of a generator, each process draws its own, and a callback that draws numbers changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def run_seed() -> int:
    """The seed of `seed_everything`, which Lightning keeps in the environment; 0 where nobody called it."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws in here come from the seed; afterwards torch's generators are where they were."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def states(device: torch.device) -> list[torch.Tensor]:
    """Of torch's generators of the CPU and of `device`."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def restore(states: list[torch.Tensor], device: torch.device) -> None:
    """Puts the generators where they were when `states` was called; an empty list changes nothing."""
    for number, state in enumerate(states):
        if number == 0:
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)
