"""Linear recurrences h_t = a_t h_{t-1} + x_t over a window, in log2(L) steps instead of L.

After the step with offset o each state holds the last 2 o terms of its sum (Hillis & Steele 1986). Complex numbers are
pairs of real ones, so that the scan exports. Sums are formed in another order than by a loop: equal in float32 up to
rounding.
"""

from __future__ import annotations

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
    length, offset = x_real.shape[1], 1
    while offset < length:
        before_real, before_imaginary = _later(x_real, offset), _later(x_imaginary, offset)
        x_real = x_real + real * before_real - imaginary * before_imaginary
        x_imaginary = x_imaginary + real * before_imaginary + imaginary * before_real
        real, imaginary = real * real - imaginary * imaginary, 2 * real * imaginary  # lambda ** (2 offset)
        offset *= 2
    return x_real, x_imaginary


def _later(x: Tensor, offset: int) -> Tensor:
    """(B, L, ...) moved `offset` positions to the right, zeros in front."""
    return F.pad(x[:, :-offset], (0, 0) * (x.ndim - 2) + (offset, 0))
