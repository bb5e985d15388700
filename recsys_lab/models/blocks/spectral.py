"""Filters of frequencies over a whole window. They look ahead: what a filter gives at one position depends on all.

The discrete Fourier transform is a product with two real matrices here (cosines and sines): windows are short, it
costs less than an FFT there, and it exports.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recsys_lab.words import RecsysLabError


def to_the_end(x: Tensor, lengths: Tensor, size: int) -> Tensor:
    """(B, L, D) padded on the right -> (B, size, D) padded on the left with zeros: the newest event stands last.

    Raises:
        RecsysLabError: for windows of more than `size` events.
    """
    if x.shape[1] > size:
        raise RecsysLabError(
            f"the model was trained on windows of {size} events, and a window holds {x.shape[1]}: "
            f"--data.max_length {size}"
        )
    source = torch.arange(size, device=x.device) - (size - lengths[:, None])  # (B, size), negative at padding
    rows = x.gather(1, source.clamp_min(0).unsqueeze(2).expand(-1, -1, x.shape[2]))
    return rows * (source >= 0).unsqueeze(2)


def from_the_end(x: Tensor, lengths: Tensor, length: int) -> Tensor:
    """(B, size, D) padded on the left -> (B, length, D) padded on the right."""
    source = torch.arange(length, device=x.device) + (x.shape[1] - lengths[:, None])  # (B, length)
    return x.gather(1, source.clamp_max(x.shape[1] - 1).unsqueeze(2).expand(-1, -1, x.shape[2]))


def fourier_matrices(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Real and imaginary part of the orthonormal real transform, (F, size) each with F = size // 2 + 1, and of its
    inverse, (size, F) each: x = back_real @ (real @ x) + back_imaginary @ (imaginary @ x). Computed in float64."""
    frequency, place = torch.arange(size // 2 + 1, dtype=torch.float64), torch.arange(size, dtype=torch.float64)
    angle = 2 * math.pi * frequency[:, None] * place / size
    real, imaginary = torch.cos(angle) / math.sqrt(size), -torch.sin(angle) / math.sqrt(size)
    twice = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)  # a frequency and its mirror image
    twice[0] = 1.0
    if size % 2 == 0:
        twice[-1] = 1.0
    return real.float(), imaginary.float(), (real.T * twice).float(), (imaginary.T * twice).float()


class LowPass(nn.Module):
    """Keeps the lowest frequencies of each dimension: one (size, size) matrix.

    Args:
        size: events of a window.
        frequencies: how many stay, the constant one among them.
    """

    matrix: Tensor

    def __init__(self, size: int, frequencies: int) -> None:
        super().__init__()
        real, imaginary, back_real, back_imaginary = (m.double() for m in fourier_matrices(size))
        kept = slice(0, frequencies)
        matrix = back_real[:, kept] @ real[kept] + back_imaginary[:, kept] @ imaginary[kept]
        self.register_buffer("matrix", matrix.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size, D) -> (B, size, D)."""
        return self.matrix @ x


class LearnedFilter(nn.Module):
    """A complex weight for each frequency and dimension.

    Args:
        size: events of a window.
        dim: D.
    """

    real: Tensor
    imaginary: Tensor
    back_real: Tensor
    back_imaginary: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        for name, matrix in zip(
            ("real", "imaginary", "back_real", "back_imaginary"), fourier_matrices(size), strict=True
        ):
            self.register_buffer(name, matrix, persistent=False)
        self.weight = nn.Parameter(0.02 * torch.randn(2, size // 2 + 1, dim))  # real and imaginary parts

    def forward(self, x: Tensor) -> Tensor:
        """(B, size, D) -> (B, size, D)."""
        real, imaginary = self.real @ x, self.imaginary @ x  # (B, F, D)
        of_real = real * self.weight[0] - imaginary * self.weight[1]
        of_imaginary = real * self.weight[1] + imaginary * self.weight[0]
        return self.back_real @ of_real + self.back_imaginary @ of_imaginary
