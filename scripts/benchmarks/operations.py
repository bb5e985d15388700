"""Where the processor's time goes, by torch operation, and what each can't go below; for encoders.py.

Processor seconds of all threads, not those of a clock: others may use the machine. Imports torch: only for processes
that measure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Row = dict[str, Any]
PRODUCTS = {"mm": 0, "bmm": 0, "matmul": 0, "mv": 0, "addmm": 1, "addmm_": 1, "addmv_": 1, "baddbmm": 1}
"""Where among its tensors the first factor is."""
TAKES_ROWS = ("index_select", "embedding", "gather", "index")


class Spent(TorchDispatchMode):
    """While it is entered: `part: operation` -> seconds, floating point operations, bytes read and written.

    Args:
        part: of what no function that is `within` another calls.
    """

    def __init__(self, part: str) -> None:
        super().__init__()
        self.found: dict[str, list[float]] = {}
        self.part = part

    def within(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, whose operations are of another part."""

        def inner(*arguments: Any, **named: Any) -> Any:
            outside, self.part = self.part, part
            try:
                return call(*arguments, **named)
            finally:
                self.part = outside

        return inner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.process_time()
        out = func(*args, **(kwargs or {}))
        took = time.process_time() - started
        name = func.overloadpacket.__name__
        given, made = ([t for t in tree_leaves(x) if isinstance(t, torch.Tensor)] for x in (args, out))
        numbers = (took, operations_of(name, [tuple(t.shape) for t in given]), moved_bytes(func, name, given, made))
        key = f"{self.part}: {name}"
        before = self.found.get(key, [0.0, 0.0, 0.0])
        self.found[key] = [have + more for have, more in zip(before, numbers, strict=True)]
        return out


def operations_of(name: str, shapes: list[tuple[int, ...]]) -> float:
    """Floating point operations of products; of causal attention half of them."""
    if name == "linear":  # composite operations are seen where there is no autograd
        return 2.0 * math.prod(shapes[0]) * shapes[1][0]
    if name in PRODUCTS:
        first, second = shapes[PRODUCTS[name] : PRODUCTS[name] + 2]
        return 2.0 * math.prod(first) * (second[-1] if len(second) > 1 else 1)
    if "scaled_dot_product" in name:
        backward = "backward" in name
        *rows, length, width = shapes[1 if backward else 0]  # before the query stands the gradient
        return math.prod(rows) * length**2 * width * (5.0 if backward else 2.0)
    return 0.0


def moved_bytes(func: Any, name: str, given: list[torch.Tensor], made: list[torch.Tensor]) -> float:
    """Of what is read and what is written; nothing where only a view is made."""
    if func.is_view:
        return 0.0
    written = sum(t.numel() * t.element_size() for t in made)
    return 2.0 * written if name in TAKES_ROWS else written + sum(t.numel() * t.element_size() for t in given)


def floor(row: Row, seconds: float, operations: float, moved: float) -> float:
    """Seconds that an operation can't go below: products at the speed of a large one, all else at that of a copy."""
    least: float = operations / row["square_gflops"] / 1e9 if operations else moved / row["copied_gb_s"] / 1e9
    return max(0.0, min(least, seconds))  # what is left between two measured times may be below zero


def speeds() -> Row:
    """Of this machine, for each processor second: a product of 2,048 x 2,048, and a copy of 64 MB."""
    one, large = torch.randn(2048, 2048), torch.randn(1 << 24)
    other = torch.empty_like(large)
    return {
        "square_gflops": 2 * 2048**3 / _least_seconds(lambda: one @ one) / 1e9,
        "copied_gb_s": 8 * len(large) / _least_seconds(lambda: other.copy_(large)) / 1e9,
    }


def _least_seconds(call: Callable[[], Any]) -> float:
    """Of the processor; of five calls."""
    took = []
    for _ in range(5):
        started = time.process_time()
        call()
        took.append(time.process_time() - started)
    return min(took)
