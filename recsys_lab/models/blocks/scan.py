"""Linear recurrences h_t = a_t h_{t-1} + x_t over a window, for models that train without a loop of autograd.

On a CPU one event after the other costs least: L products, and the gradient is the same recurrence from the window's
end. Elsewhere, and in what is compiled or exported, all states are there after log2(L) steps: after the step with
offset o each state holds the last 2 o terms of its sum (Hillis & Steele 1986). Sums are then formed in another order:
equal in float32 up to rounding. Complex numbers are pairs of real ones, so that the scan exports.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_scan(decay: Tensor, x: Tensor) -> Tensor:
    """h_t = decay_t h_{t-1} + x_t along dimension 1, from h = 0.

    Args:
        decay: (B, L, ...) real, of each position.
        x: (B, L, ...).

    Returns:
        (B, L, ...) of all h_t.
    """
    if _one_by_one(x):
        states: Tensor = _Scan.apply(decay, x)
        return states
    length, offset = x.shape[1], 1
    while offset < length:
        x = x + decay * _later(x, offset)
        if 2 * offset < length:
            decay = decay * _later(decay, offset)  # zeros before the first event: nothing comes from there
        offset *= 2
    return x


def rotating_scan(real: Tensor, imaginary: Tensor, x_real: Tensor, x_imaginary: Tensor) -> tuple[Tensor, Tensor]:
    """h_t = lambda h_{t-1} + x_t along dimension 1, from h = 0, with one complex lambda for each channel.

    Args:
        real, imaginary: (C,) of lambda.
        x_real, x_imaginary: (B, L, C).

    Returns:
        Real and imaginary part of all h_t, (B, L, C) each.
    """
    if _one_by_one(x_real):
        states: tuple[Tensor, Tensor] = _RotatingScan.apply(real, imaginary, x_real, x_imaginary)
        return states
    length, offset = x_real.shape[1], 1
    while offset < length:
        before_real, before_imaginary = _later(x_real, offset), _later(x_imaginary, offset)
        x_real = x_real + real * before_real - imaginary * before_imaginary
        x_imaginary = x_imaginary + real * before_imaginary + imaginary * before_real
        real, imaginary = real * real - imaginary * imaginary, 2 * real * imaginary  # lambda ** (2 offset)
        offset *= 2
    return x_real, x_imaginary


def _one_by_one(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _later(x: Tensor, offset: int) -> Tensor:
    """(B, L, ...) moved `offset` positions to the right, zeros in front."""
    return F.pad(x[:, :-offset], (0, 0) * (x.ndim - 2) + (offset, 0))


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, x: Tensor) -> Tensor:
        states = x.clone()
        for before, now in pairwise(range(x.shape[1])):
            states[:, now].addcmul_(decay[:, now], states[:, before])
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        of_x = grad.clone()
        for after, now in pairwise(reversed(range(grad.shape[1]))):
            of_x[:, now].addcmul_(decay[:, after], of_x[:, after])
        of_decay = torch.zeros_like(decay)
        torch.mul(of_x[:, 1:], states[:, :-1], out=of_decay[:, 1:])
        return of_decay, of_x


class _RotatingScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, real: Tensor, imaginary: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        states = _rotated(real, imaginary, x, y, range(x.shape[1]))
        ctx.save_for_backward(real, imaginary, *states)
        return states

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        real, imaginary, x, y = ctx.saved_tensors
        of_x, of_y = _rotated(real, -imaginary, grad_x, grad_y, reversed(range(x.shape[1])))  # by the conjugate
        x, y, later_x, later_y = x[:, :-1], y[:, :-1], of_x[:, 1:], of_y[:, 1:]
        of_real = (later_x * x).sum((0, 1)) + (later_y * y).sum((0, 1))
        of_imaginary = (later_y * x).sum((0, 1)) - (later_x * y).sum((0, 1))
        return of_real, of_imaginary, of_x, of_y


def _rotated(real: Tensor, imaginary: Tensor, x: Tensor, y: Tensor, order: Iterable[int]) -> tuple[Tensor, Tensor]:
    """The recurrence over the positions in this order; x and y are real and imaginary parts."""
    x, y = x.clone(), y.clone()
    for before, now in pairwise(order):
        x[:, now].addcmul_(real, x[:, before]).addcmul_(imaginary, y[:, before], value=-1)
        y[:, now].addcmul_(real, y[:, before]).addcmul_(imaginary, x[:, before])
    return x, y
