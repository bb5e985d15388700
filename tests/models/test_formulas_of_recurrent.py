"""Recurrent encoders, attention over states and convolutions against loops over their papers' formulas, with the same
weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from formulas import LENGTHS, assert_rows_equal, events, gelu, gru, layer_norm, linear, lstm, shaken
from found_models import built, random_batch
from torch import Tensor

from recsys_lab.models import LSTM, NARM, RNN, STAMP, Caser, LRURec, Mamba4Rec, NextItNet

Weights = dict[str, Tensor]


def elman(weights: Weights, x: Tensor) -> Tensor:
    for layer in range(2):
        w, u, b, c = (weights[f"rnn.{n}_l{layer}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        h, out = torch.zeros(u.shape[1]), []
        for event in x:
            h = torch.tanh(w @ event + b + u @ h + c)
            out.append(h)
        x = torch.stack(out)
    return linear(x, weights, "project")


def two_lstm_layers(weights: Weights, x: Tensor) -> Tensor:
    return linear(lstm(weights, lstm(weights, x, 0, "rnn"), 1, "rnn"), weights, "project")


def narm(weights: Weights, x: Tensor) -> Tensor:
    h = gru(weights, gru(weights, x), 1)
    a1, a2, v = (weights[f"attention.{name}.weight"] for name in ("query", "key", "v"))
    out = []
    for t in range(len(h)):
        local = sum((v[0] @ torch.sigmoid(a1 @ h[t] + a2 @ h[s])) * h[s] for s in range(t + 1))
        out.append(weights["decode.weight"] @ torch.cat([h[t], local]))  # type: ignore[list-item]
    return torch.stack(out)


def stamp(weights: Weights, x: Tensor) -> Tensor:
    out = []
    for t in range(len(x)):
        mean = x[: t + 1].mean(0)
        asks = linear(x[t], weights, "of_last") + linear(mean, weights, "of_mean")
        alpha = [
            weights["w0.weight"][0] @ torch.sigmoid(linear(x[s], weights, "of_event") + asks) for s in range(t + 1)
        ]
        interest = mean + sum(alpha[s] * x[s] for s in range(t + 1))
        out.append(torch.tanh(linear(interest, weights, "from_all")) * torch.tanh(linear(x[t], weights, "from_last")))
    return torch.stack(out)


def caser(weights: Weights, x: Tensor) -> Tensor:
    """Each window as an image, each filter by itself."""
    size, dim = weights["sums.weight"].shape[1], x.shape[1]
    padded, out = torch.cat([torch.zeros(size - 1, dim), x]), []
    for t in range(len(x)):
        image, across = padded[t : t + size], []  # (size, D)
        for height in range(1, size + 1):
            filters, bias = (weights[f"filters.{height - 1}.{n}"] for n in ("weight", "bias"))  # (n_h, D, height)
            places = [image[i : i + height].T for i in range(size - height + 1)]
            found = [[(f * place).sum() + b for place in places] for f, b in zip(filters, bias, strict=True)]
            across += [torch.stack(row).clamp_min(0).max() for row in found]
        down = [(image[:, d] @ weights["sums.weight"].T) + weights["sums.bias"] for d in range(dim)]
        joined = torch.cat([torch.stack(across), torch.cat(down)])
        out.append(linear(linear(joined, weights, "join").clamp_min(0), weights, "project"))
    return torch.stack(out)


def nextitnet(weights: Weights, x: Tensor) -> Tensor:
    for block, dilation in enumerate((1, 4, 1, 4)):
        inner = x
        for number, wide in ((2 * block, dilation), (2 * block + 1, 2 * dilation)):
            kernel, bias = (weights[f"convolutions.{number}.{n}"] for n in ("weight", "bias"))  # (D, D, 3)
            rows = []
            for t in range(len(x)):
                places = [t - (kernel.shape[2] - 1 - k) * wide for k in range(kernel.shape[2])]
                rows.append(bias + sum(kernel[:, :, k] @ inner[p] for k, p in enumerate(places) if p >= 0))
            inner = layer_norm(torch.stack(rows), weights, f"norms.{number}").clamp_min(0)
        x = x + inner
    return linear(x, weights, "project")


def lrurec(weights: Weights, x: Tensor) -> Tensor:
    """With complex numbers, one step after the other."""
    x = layer_norm(x, weights, "norm")
    for block in ("blocks.0", "blocks.1"):
        nu, theta, gamma = (weights[f"{block}.log_{n}"].exp() for n in ("nu", "theta", "gamma"))
        decay = torch.exp(torch.complex(-nu, theta))
        enter = linear(x, weights, f"{block}.enter")
        width = len(decay)
        h, rows = torch.zeros(width, dtype=torch.complex64), []
        real, imaginary = weights[f"{block}.leave.weight"].chunk(2, dim=1)
        c = torch.complex(real, -imaginary)
        for row in enter:
            h = decay * h + gamma * torch.complex(row[:width], row[width:])
            rows.append((c @ h).real + weights[f"{block}.leave.bias"])
        x = layer_norm(torch.stack(rows) + x, weights, f"{block}.norm")
        inner = linear(gelu(linear(x, weights, f"{block}.expand")), weights, f"{block}.contract")
        x = layer_norm(inner + x, weights, f"{block}.feed_forward_norm")
    return x


def mamba4rec(weights: Weights, x: Tensor) -> Tensor:
    """One event after the other, one channel after the other."""
    x = layer_norm(x, weights, "norm")
    for layer in range(2):
        space = f"spaces.{layer}"
        kernel, bias = (weights[f"{space}.convolve.{n}"] for n in ("weight", "bias"))  # (2 D, 1, 4)
        decay, skip = -weights[f"{space}.log_decay"].exp(), weights[f"{space}.skip"]
        channels, gate = linear(x, weights, f"{space}.enter").chunk(2, dim=1)
        reach, states = kernel.shape[2], decay.shape[1]
        h, rows = torch.zeros_like(decay), []
        for t in range(len(x)):
            places = [(k, t - reach + 1 + k) for k in range(reach)]
            mixed = bias + sum(kernel[:, 0, k] * channels[place] for k, place in places if place >= 0)
            mixed = mixed * torch.sigmoid(mixed)
            step, b, c = linear(mixed, weights, f"{space}.choose").split([1, states, states])
            step = torch.log1p(linear(step, weights, f"{space}.step_size").exp())
            y = []
            for n in range(len(mixed)):
                h[n] = torch.exp(step[n] * decay[n]) * h[n] + step[n] * b * mixed[n]
                y.append(c @ h[n] + skip[n] * mixed[n])
            rows.append(torch.stack(y) * gate[t] * torch.sigmoid(gate[t]))
        x = layer_norm(linear(torch.stack(rows), weights, f"{space}.leave") + x, weights, f"norms.{layer}")
        inner = linear(gelu(linear(x, weights, f"expands.{layer}")), weights, f"contracts.{layer}")
        x = layer_norm(inner + x, weights, f"feed_forward_norms.{layer}")
    return x


BY_HAND: dict[Any, Any] = {
    Mamba4Rec: mamba4rec,
    RNN: elman,
    LSTM: two_lstm_layers,
    NARM: narm,
    STAMP: stamp,
    Caser: caser,
    NextItNet: nextitnet,
    LRURec: lrurec,
}


@pytest.mark.parametrize("cls", BY_HAND, ids=lambda cls: cls.__name__)
def test_states_are_those_of_the_formulas(cls: Any) -> None:
    model, batch = built(cls), random_batch(LENGTHS)
    weights = shaken(model)
    with torch.no_grad():
        by_hand = [BY_HAND[cls](weights, events(weights, batch, row)) for row in range(len(batch))]
    assert_rows_equal(model, batch, by_hand)


def test_lambda_starts_in_its_ring() -> None:
    size = torch.exp(-torch.exp(built(LRURec, embedding_dim=64).blocks[0].log_nu)).detach()
    assert 0.8 <= float(size.min()) < 0.85 and 0.96 < float(size.max()) <= 0.99
    assert math.isclose(float((size**2).mean()), (0.8**2 + 0.99**2) / 2, abs_tol=0.04)
