"""Linear recurrences: one event after the other and in log2(L) steps, against a plain loop, with their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from recsys_lab.models.blocks import scan
from recsys_lab.models.blocks.scan import linear_scan, rotating_scan

LENGTHS = [1, 2, 3, 8, 13]
each_way = pytest.mark.parametrize("one_by_one", [True, False])


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw).requires_grad_() for shape in shapes]


def gradients(out: Tensor, of: list[Tensor]) -> list[Tensor]:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return list(torch.autograd.grad((out * weights).sum(), of, allow_unused=True, materialize_grads=True))


def check(found: Tensor, expected: Tensor, of: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(gradients(found, of), gradients(expected, of), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@each_way
@pytest.mark.parametrize("length", LENGTHS)
def test_a_decay_of_each_position(length: int, one_by_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_one_by_one", lambda x: one_by_one)
    decay, x = drawn((2, length, 3, 4), (2, length, 3, 4))
    h, rows = torch.zeros(2, 3, 4), []
    for t in range(length):
        h = decay[:, t] * h + x[:, t]
        rows.append(h)
    check(linear_scan(decay, x), torch.stack(rows, dim=1), [decay, x])


@each_way
@pytest.mark.parametrize("length", LENGTHS)
def test_one_complex_number_for_each_channel(length: int, one_by_one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_one_by_one", lambda x: one_by_one)
    inputs = drawn((3,), (3,), (2, length, 3), (2, length, 3))
    real, imaginary, x, y = inputs
    h, rows = torch.zeros(2, 3, dtype=torch.complex64), []
    for t in range(length):
        h = torch.complex(real, imaginary) * h + torch.complex(x[:, t], y[:, t])
        rows.append(h)
    by_hand = torch.stack(rows, dim=1)
    check(torch.cat(rotating_scan(*inputs), dim=2), torch.cat([by_hand.real, by_hand.imag], dim=2), inputs)


def test_what_is_compiled_takes_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    x: Any = torch.zeros(1, 2, 3)
    assert scan._one_by_one(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not scan._one_by_one(x) and not scan._one_by_one(x.to("meta"))
