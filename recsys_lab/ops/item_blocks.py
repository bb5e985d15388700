"""The items' side of full cross-entropy: logits and exponentials of some positions by some items at a time."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

_LOG2_E = math.log2(math.e)
# Exponentials from 2^-80 to 2^80 and their sums and products with items stay well within float32 (2^-126 to 2^127).
_SAFE_LOGIT = 80.0


class ItemTiles:
    """The items' side of the product, block by block. `wide` is the dtype of logits, sums and gradients.

    Tiles of logits are (I, C), items down and positions across: the product that writes one runs at the speed of the
    other two that way, for few positions as well; as (C, I) it took up to twice as long on a CPU.

    Logits are in base 2, since exp2 takes about half the time of exp.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, chunk: int, block: int) -> None:
        self.wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.table = weight[1:].to(dtype)  # (V-1, D); a view where the dtype is right already
        self.bias = None if bias is None else bias[1:, None].to(self.wide) * _LOG2_E  # (V-1, 1)
        count = self.table.shape[0]
        self.blocks = [slice(start, min(start + block, count)) for start in range(0, count, block)]
        self.buffer = torch.empty(chunk * min(block, count), dtype=self.wide, device=weight.device)
        self.shifted = True  # the largest logit is taken off before exponentials; see `can_overflow`

    def can_overflow(self, states: Tensor) -> bool:
        """Whether exponentials of the logits of `states` (N, D), from `in_base_2`, may leave what float32 holds.

        No logit can be larger than the longest state times the longest item. Where that is safe, two passes over each
        tile are not needed. Yes without a look where looking would be a wait for the device.
        """
        if states.device.type != "cpu" or not states.numel() or self.wide != self.table.dtype:
            return True
        bound = torch.linalg.vector_norm(states, dim=1).amax() * torch.linalg.vector_norm(self.table, dim=1).amax()
        if self.bias is not None:
            bound += self.bias.abs().amax()
        return not bool(bound <= _SAFE_LOGIT)  # NaN is not

    @cached_property
    def with_ones(self) -> Tensor:
        """(D+1, V-1): the items as columns, over a row of ones. One product of it with the exponentials gives what the
        states' gradient needs and the sums of the exponentials, which would be one more pass over the tile."""
        count, dim = self.table.shape
        rows = self.table.new_empty(count, dim + 1)  # filled as rows: writing columns takes ten times as long
        rows[:, :dim], rows[:, dim] = self.table, 1.0
        return rows.T

    def logits(self, states: Tensor, block: slice) -> Tensor:
        """Base-2 logits (I, C) of states (C, D) that `in_base_2` gave and the items of the block, in the buffer: the
        next call overwrites them."""
        table = self.table[block]
        logits = self.tile(block, len(states))
        if states.dtype == self.wide:
            torch.mm(table, states.T, out=logits)
        else:
            logits.copy_(table @ states.T).mul_(_LOG2_E)
        return logits if self.bias is None else logits.add_(self.bias[block])

    def in_base_2(self, states: Tensor) -> Tensor:
        """Scaled before the product, where that is no more rounding: a pass less over each tile."""
        return states * _LOG2_E if states.dtype == self.wide else states

    def tile(self, block: slice, positions: int) -> Tensor:
        """The buffer as (I, C)."""
        size = block.stop - block.start
        return self.buffer[: size * positions].view(size, positions)

    def exponentials(self, states: Tensor, block: slice, top: Tensor) -> Tensor:
        """2 ** (logit - top), (I, C), in the buffer; top is (1, C)."""
        logits = self.logits(states, block)
        return (logits.sub_(top) if self.shifted else logits).exp2_()

    def softmax_parts(self, states: Tensor, targets: Tensor, want_sum: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(C, D), (1, C) -> what is taken off each position's logits (the largest, or 0), the sum of the exponentials
        of the rest (without `want_sum` a zero, where there is one block), and the target's logit, all (1, C) and in
        base 2.

        The exponentials of the last block stay in the buffer.
        """
        tops, totals, target_logits = [], [], torch.zeros_like(targets, dtype=self.wide)
        for block in self.blocks:
            logits = self.logits(states, block)
            local, inside = self.within(targets, block)
            target_logits = torch.where(inside, logits.gather(0, local), target_logits)
            if self.shifted:
                tops.append(logits.amax(0, keepdim=True))
                logits.sub_(tops[-1])
            logits.exp2_()
            if want_sum or len(self.blocks) > 1:
                totals.append(logits.sum(0, keepdim=True))
        zero = torch.zeros_like(target_logits)
        if len(self.blocks) == 1:
            return (tops[0] if tops else zero), (totals[0] if totals else zero), target_logits
        every_total = torch.cat(totals)  # (blocks, C)
        if not self.shifted:
            return zero, every_total.sum(0, keepdim=True), target_logits
        every_top = torch.cat(tops)  # (blocks, C)
        top = every_top.amax(0, keepdim=True)
        total = (every_total * (every_top - top).exp2_()).sum(0, keepdim=True)
        return top, total, target_logits

    def within(self, targets: Tensor, block: slice) -> tuple[Tensor, Tensor]:
        """Where in the block each target is, and whether it is: (1, C) int64, (1, C) bool."""
        local = targets - block.start
        if len(self.blocks) == 1:  # not clamped: a target that is no item must be an error
            return local, torch.ones_like(local, dtype=torch.bool)
        size = block.stop - block.start
        return local.clamp(0, size - 1), (local >= 0) & (local < size)
