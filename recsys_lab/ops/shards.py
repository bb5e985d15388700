"""A table whose rows are divided among the processes: who holds which, and how a process gets the rows of others.

Each process holds a contiguous block of rows, and nothing ever gathers the table. The rows that a step needs are asked
of those who hold them, and their gradients go back the same way (`looked_up`). What needs all rows is computed block by
block, each process for the queries of all: `sharded_cross_entropy.py`, `sharded_ranks.py`.

Gradients of rows are the mean over the processes of what each one's loss gives, as DDP has it for other weights.

Every process must take part in each exchange. In training they do by themselves: they take the same steps. In an
evaluation one may have fewer batches: each exchange is announced, and whoever is done goes on to answer the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from recsys_lab.ops.processes import parts_of_all

DONE, LOOK_UP, RANKS, TOP = range(4)
"""What a process says that it is about to do, in an evaluation."""


@dataclass(frozen=True)
class Division:
    """Which rows of a table each process holds: blocks that lie side by side, of sizes that differ by one at most."""

    num_rows: int
    world: int
    rank: int

    @classmethod
    def here(cls, num_rows: int) -> Division:
        """Over the processes of the default group."""
        return cls(num_rows, dist.get_world_size(), dist.get_rank())

    def rows_of(self, rank: int) -> slice:
        return slice(self.num_rows * rank // self.world, self.num_rows * (rank + 1) // self.world)

    @property
    def held(self) -> slice:
        """Of this process."""
        return self.rows_of(self.rank)

    @property
    def largest(self) -> int:
        """Rows of the largest block."""
        return -(-self.num_rows // self.world)


def announce(what: int, device: torch.device | None = None) -> int:
    """-> what the processes do next, which are not done; `DONE` when all are."""
    codes = {int(part) for part in parts_of_all(torch.tensor([what], device=device))} - {DONE}
    if len(codes) > 1:
        raise RuntimeError(f"processes got out of step: they are about to do {sorted(codes)}")
    return codes.pop() if codes else DONE


def looked_up(weight: Tensor, item_ids: Tensor, division: Division, sparse: bool = False) -> Tensor:
    """Rows of a divided table. Every process calls it, each with ids of its own.

    Args:
        weight: (n, D), the rows that this process holds.
        item_ids: (R,) int64, distinct and ascending; may be none.
        sparse: the gradient of `weight` is a coalesced sparse tensor.

    Returns:
        (R, D). Row 0, padding, gets no gradient.
    """
    rows: Tensor = _LookedUp.apply(weight, item_ids, division, sparse)
    return rows


class _LookedUp(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, item_ids: Tensor, division: Division, sparse: bool) -> Tensor:
        bounds = torch.tensor([division.rows_of(rank).stop for rank in range(division.world)], device=item_ids.device)
        own = torch.searchsorted(item_ids, bounds).diff(prepend=bounds.new_zeros(1))  # (world,) asked of each
        of_all = torch.stack(parts_of_all(own, even=True)).tolist()
        asked, given = own.tolist(), [counts[division.rank] for counts in of_all]
        local = exchanged(item_ids, asked, given) - division.held.start
        ctx.save_for_backward(local)
        ctx.shape, ctx.counts, ctx.division, ctx.sparse = weight.shape, (asked, given), division, sparse
        return exchanged(weight.index_select(0, local), given, asked)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (local,) = ctx.saved_tensors
        asked, given = ctx.counts
        rows = exchanged(gradients[0].contiguous(), asked, given).div_(ctx.division.world)
        if ctx.division.held.start == 0:
            real = local != 0
            local, rows = local[real], rows[real]
        if ctx.sparse:
            found = torch.sparse_coo_tensor(local[None], rows, ctx.shape, check_invariants=False).coalesce()
        else:
            found = rows.new_zeros(ctx.shape).index_add_(0, local, rows)
        return found, None, None, None


def exchanged(rows: Tensor, to_each: Sequence[int], from_each: Sequence[int]) -> Tensor:
    """(sum of to_each, ...) rows, the first ones for process 0 -> those that the others sent, process by process."""
    out = rows.new_empty(sum(from_each), *rows.shape[1:])
    dist.all_to_all_single(out, rows.contiguous(), list(from_each), list(to_each))
    return out


class Scaled(Function):
    """The values as they are, and their gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def for_rows_of_block(values: Tensor) -> Tensor:
    """Weights that every process has, such as a bias of the items, as part of a block: DDP divides their gradient by
    the number of processes, which was done with that of the block's rows already."""
    scaled: Tensor = Scaled.apply(values, float(dist.get_world_size()))
    return scaled
