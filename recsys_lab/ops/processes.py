"""Numbers of all processes brought together."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """(n, C) of each process, n different on each -> all rows on every process, process by process, on the CPU."""
    if not _is_distributed():
        return rows.cpu()
    return torch.cat(parts_of_all(rows.to(_exchange_device()))).cpu()


def parts_of_all(rows: Tensor, even: bool = False) -> list[Tensor]:
    """(n, ...) of each process, on the device where the back end wants them -> those of each process.

    Args:
        even: n is the same on each, and need not be asked.
    """
    world = torch.distributed.get_world_size()
    counts = [torch.tensor([len(rows)], device=rows.device) for _ in range(world)]
    if not even:
        torch.distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    padded = rows.new_zeros(int(max(counts)), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.zeros_like(padded) for _ in range(world)]
    torch.distributed.all_gather(parts, padded)
    return [part[: int(count)] for part, count in zip(parts, counts, strict=True)]


def gather_columns(columns: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """(n,) or (n, c) each, n different on each process -> all rows of each column, process by process. A process
    without rows gives no columns; none anywhere gives none."""
    if not _is_distributed():
        return {name: column.numpy() for name, column in columns.items()}
    kinds = of_every_process({name: (column.dtype, column.shape[1:]) for name, column in columns.items()})
    found = {}
    for name, (dtype, shape) in next((of for of in kinds if of), {}).items():
        column = columns.get(name, torch.zeros(0, *shape, dtype=dtype))
        found[name] = gather_rows(column.reshape(len(column), -1)).reshape(-1, *shape).numpy()
    return found


def of_every_process(value: Any) -> list[Any]:
    """Plain data of each process, in their order, on every process."""
    if not _is_distributed():
        return [value]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    return found


def sum_over_processes(values: Tensor) -> Tensor:
    """Any shape, the same on every process -> the sum of all processes' values, on every process, on the CPU."""
    if not _is_distributed():
        return values.cpu()
    total = values.to(_exchange_device(), copy=True)
    torch.distributed.all_reduce(total)
    return total.cpu()


def _exchange_device() -> torch.device:
    """Where the processes' back end wants its tensors."""
    on_gpu = "nccl" in torch.distributed.get_backend()
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
