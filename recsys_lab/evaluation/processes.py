"""Numbers of all processes brought together."""

from __future__ import annotations

import torch
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """(n, C) of each process, n different on each -> all rows on every process, process by process, on the CPU."""
    if not _is_distributed():
        return rows.cpu()
    rows = rows.to(_exchange_device())
    world = torch.distributed.get_world_size()
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
    torch.distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    longest = int(max(counts))
    padded = rows.new_zeros(longest, rows.shape[1])
    padded[: len(rows)] = rows
    parts = [torch.zeros_like(padded) for _ in range(world)]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)]).cpu()


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
