"""Formulas of papers as plainly as they can be written: loops over positions, explicit softmax, explicit gates. The
encoders are held against them with the same weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recsys_lab.contracts import Batch

LENGTHS = [4, 9, 1, 7]


def events(weights: dict[str, Tensor], batch: Batch, row: int) -> Tensor:
    """(length, D): item + event type of each real event."""
    length = int(batch.lengths[row])
    items = weights["embedding.items.weight"][batch.item_ids[row, :length]]
    return items + weights["embedding.fields.0.weight"][batch.event["event_type"][row, :length]]


def softmax(row: Tensor) -> Tensor:
    powers = (row - row.max()).exp()
    return powers / powers.sum()


def layer_norm(x: Tensor, weights: dict[str, Tensor] | None = None, name: str = "", eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled if weights is None else scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    out = x @ weights[f"{name}.weight"].T
    return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(length, width) each: one head, one query at a time."""
    out = []
    for t in range(len(query)):
        alpha = softmax(torch.stack([query[t] @ key[s] / math.sqrt(query.shape[1]) for s in range(t + 1)]))
        out.append(sum(alpha[s] * value[s] for s in range(t + 1)))
    return torch.stack(out)  # type: ignore[arg-type]


def gru(weights: dict[str, Tensor], x: Tensor, layer: int = 0) -> Tensor:
    """Cho et al. 2014, with the reset gate behind the product, as cuDNN has it."""
    w, u, b, c = (weights[f"gru.{n}_l{layer}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h, out = torch.zeros(u.shape[1]), []
    for event in x:
        from_input, from_state = (w @ event + b).chunk(3), (u @ h + c).chunk(3)
        reset = torch.sigmoid(from_input[0] + from_state[0])
        update = torch.sigmoid(from_input[1] + from_state[1])
        new = torch.tanh(from_input[2] + reset * from_state[2])
        h = (1 - update) * new + update * h
        out.append(h)
    return torch.stack(out)


def lstm(weights: dict[str, Tensor], x: Tensor, layer: int, name: str = "lstm") -> Tensor:
    w, u, b, c = (weights[f"{name}.{n}_l{layer}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = memory = torch.zeros(u.shape[1])
    out = []
    for event in x:
        enter, forget, new, leave = (w @ event + b + u @ h + c).chunk(4)
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(new)
        h = torch.sigmoid(leave) * torch.tanh(memory)
        out.append(h)
    return torch.stack(out)


def shaken(model: torch.nn.Module, size: float = 0.1) -> dict[str, Tensor]:
    """The parameters of a model, moved away from where biases and norms start (0 and 1), which would hide a forgotten
    one."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        parameter.data += size * torch.randn_like(parameter)
    model.embedding.items.weight.data[0] = 0.0  # type: ignore[index, union-attr]
    for table in model.embedding.fields:  # type: ignore[union-attr]
        table.weight.data[0] = 0.0  # type: ignore[union-attr]
    return dict(model.named_parameters())


def assert_rows_equal(model: torch.nn.Module, batch: Batch, by_hand: list[Tensor]) -> None:
    """Each row's states at its real events, against those of the formulas."""
    with torch.no_grad():
        hidden = model.encode(batch)  # type: ignore[operator]
    for row, expected in enumerate(by_hand):
        torch.testing.assert_close(hidden[row, : len(expected)], expected, rtol=1e-4, atol=1e-5)
