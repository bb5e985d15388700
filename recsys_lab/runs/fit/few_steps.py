"""StepClock: what a few steps, a few evaluated batches and one checkpoint take, of time and of memory."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from recsys_lab.data.batches.epoch_size import EpochSize

WARM_UP = 3
"""Steps that are not timed: caches fill, and the allocator learns its sizes."""
LEAST = 8
"""Steps, also where they take longer than they were given."""
STEADY = 0.03
"""Relative standard error of the time of a position at which no more steps are needed."""
LONGEST = 4
"""Times the seconds that were given, where steps differ more than that."""


class StepClock(L.Callback):
    """Stops training after `seconds` of timed steps, or later where these differ much, and keeps what they took.

    Args:
        seconds: of timed training; a short epoch ends before, and unsteady steps are timed up to `LONGEST` times that.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.steps: list[tuple[float, float, int]] = []  # seconds, processor seconds, positions
        self.warm_up: list[tuple[float, float, int]] = []
        self.evaluated: dict[str, list[tuple[float, float, int]]] = {"val": [], "test": []}
        self.saved_bytes_per_position = 0.0  # kept for the backward pass
        self.largest = 0  # positions of the largest batch
        self._mark = (0.0, 0.0)
        self._watch = ExitStack()
        self._saved: dict[tuple[int, int], int] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._mark = _now(pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if len(self.warm_up) >= WARM_UP:
            return
        own = {tensor.untyped_storage().data_ptr() for tensor in (*pl_module.parameters(), *pl_module.buffers())}
        self._saved = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                self._saved[storage.data_ptr(), storage.nbytes()] = storage.nbytes()
            return tensor

        self._watch.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: torch.Tensor) -> None:
        self._watch.close()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._watch.close()
        step = self._step(pl_module, batch)
        self.largest = max(self.largest, step[-1])
        if len(self.warm_up) < WARM_UP:
            self.warm_up.append(step)
            if step[-1]:
                share = sum(self._saved.values()) / step[-1]
                self.saved_bytes_per_position = max(self.saved_bytes_per_position, share)
            return
        self.steps.append(step)
        taken = sum(seconds for seconds, _, _ in self.steps)
        if len(self.steps) < LEAST or taken <= self.seconds:
            return
        trainer.should_stop = taken > LONGEST * self.seconds or self.spread() < STEADY

    def spread(self) -> float:
        """Relative standard error of the processor seconds of an epoch that the timed steps give."""
        steps = np.array(self.steps or self.warm_up)
        own, size = steps[:, 1], steps[:, 2] if steps[:, 2].all() else np.ones(len(steps))
        rest = own - own.sum() / size.sum() * size
        return float(np.sqrt((rest**2).sum() / max(len(steps) - 1, 1) / len(steps)) / own.mean())

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self._mark = _now(pl_module)

    def on_test_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self._mark = _now(pl_module)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.evaluated["val"].append(self._step(pl_module, batch))

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.evaluated["test"].append(self._step(pl_module, batch))

    def of_training(self, whole: EpochSize) -> tuple[float, float]:
        """Seconds and processor seconds of an epoch from those of the timed steps, by positions: by chance their
        batches are longer or shorter than those of an epoch. Of all steps where an epoch has fewer than are timed."""
        return _of_whole(self.steps or self.warm_up, whole)

    def of_evaluation(self, part: str, whole: EpochSize) -> tuple[float, float]:
        """Seconds and processor seconds of a whole part. Its first batches, which are measured, are the longest."""
        return _of_whole(self.evaluated[part], whole)

    def _step(self, module: L.LightningModule, batch: Any) -> tuple[float, float, int]:
        before, self._mark = self._mark, _now(module)
        mask = getattr(batch, "valid_mask", None)
        return self._mark[0] - before[0], self._mark[1] - before[1], 0 if mask is None else mask.numel()


def _of_whole(found: list[tuple[float, float, int]], whole: EpochSize) -> tuple[float, float]:
    seen = sum(one[2] for one in found)
    factor = whole.positions / seen if seen and whole.positions else whole.steps / max(len(found), 1)
    return factor * sum(one[0] for one in found), factor * sum(one[1] for one in found)


def _now(module: L.LightningModule) -> tuple[float, float]:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter(), time.process_time()


class PeakMemory:
    """The most memory since it was made: of the process, or of the accelerator where the model is on one.

    On Linux the system's mark is set back; elsewhere it counts from the start of the process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self.before = 0 if device.type == "cuda" else memory_now("VmRSS")

    def bytes(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return memory_now("VmHWM")


def memory_now(entry: str) -> int:
    """Bytes of this process: VmRSS = now, VmHWM = at most. Where the system has no such file, the peak for both."""
    with suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith(entry)).split()[1]) << 10
    import resource  # not on Windows, where nothing of this is known

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts bytes
