"""`torch.compile` for the training step: which part of it, for which shapes, and how long the compiler took.

Batches differ in their number of rows and in their length, so everything is compiled for dynamic shapes: a handful of
graphs (a length of 1, the full window, and what lies between), whatever an epoch brings. Compiled kernels are kept on
disk and found again by the next run (`TORCHINDUCTOR_CACHE_DIR`). docs/batches.md says where it pays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from recsys_lab.words import RecsysLabError

Function = TypeVar("Function", bound=Callable[..., Any])


class _Clock:
    """Seconds that torch's compiler took in this process: within a training step, but no part of training."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.graphs = 0  # how often it was called: once per graph and set of shapes, forward and backward apart
        self._started = 0.0

    def watch(self) -> None:
        from torch._dynamo.callback import callback_handler  # importing it takes a second: only who compiles pays

        if self._start not in callback_handler.start_callbacks:  # torch._dynamo.reset() forgets them
            callback_handler.register_start_callback(self._start)
            callback_handler.register_end_callback(self._end)

    def _start(self, *_: Any) -> None:
        self._started = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._started
        self.graphs += 1


clock = _Clock()


def compiled(function: Function, device: torch.device) -> Function:
    """`function`, compiled for tensors of any length on first use, with the clock running.

    Raises:
        RecsysLabError: when this machine has no compiler for the device.
    """
    if device.type == "cpu":
        _require_cpp_compiler()
    clock.watch()
    return cast(Function, torch.compile(function, dynamic=True))


def compile_training(model: Any) -> None:
    """What of a `NextItemModule` gains: the encoder as training runs it, and what its task names."""
    for part, names in ((model, ("training_states",)), (model.task, model.task.compiled)):
        for name in names:
            if name not in part.__dict__:  # else this is not the first fit
                setattr(part, name, compiled(getattr(part, name), model.device))


def _require_cpp_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise RecsysLabError(
            "compile_model needs a C++ compiler to compile for a CPU, and there is none: install g++ or clang, name "
            "one in the environment variable CXX, or set compile_model: false"
        ) from error
