"""The encoders against the plainest implementation of their papers' formulas, with the same weights: loops over
positions and heads, explicit masks, explicit softmax, explicit gates."""

from __future__ import annotations

import math

import pytest
import torch
from formulas import LENGTHS, causal_attention, events, gelu, gru, layer_norm, linear, lstm, softmax
from found_models import built, random_batch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.models import GRU4Rec, LSTMAttention, SASRec


def sasrec(weights: dict[str, Tensor], batch: Batch, row: int, heads: int, layers: int, from_end: bool) -> Tensor:
    x = events(weights, batch, row)
    length, dim = x.shape
    positions = weights["positions.weight"][:length]
    x = x * math.sqrt(dim) + (positions.flip(0) if from_end else positions)
    for layer in range(layers):
        block = f"blocks.{layer}"
        query, key, value = linear(
            layer_norm(x, weights, f"{block}.attention_norm"), weights, f"{block}.attention.qkv"
        ).split(dim, 1)
        width = dim // heads
        each = [slice(head * width, (head + 1) * width) for head in range(heads)]
        mixed = torch.cat([causal_attention(query[:, h], key[:, h], value[:, h]) for h in each], dim=1)
        x = x + linear(mixed, weights, f"{block}.attention.out")
        inner = gelu(linear(layer_norm(x, weights, f"{block}.feed_forward_norm"), weights, f"{block}.expand"))
        x = x + linear(inner, weights, f"{block}.contract")
    return layer_norm(x, weights, "norm")


def alphas(weights: dict[str, Tensor], states: Tensor, t: int, attention: str, similarity: str) -> Tensor:
    """(t + 1,) weights of the states 0..t in the context of state t."""

    def w(name: str) -> Tensor:
        return weights[f"attention.{name}.weight"]

    h, logits = states[t], []
    for s in range(t + 1):
        if attention == "narm":
            logits.append(w("v")[0] @ torch.sigmoid(w("query") @ h + w("key") @ states[s]))
        elif similarity == "additive":
            logits.append(w("v")[0] @ torch.tanh(w("query") @ h + w("key") @ states[s]))
        elif similarity == "bilinear":
            logits.append((w("query") @ h) @ states[s])
        else:
            logits.append(h @ states[s] / (math.sqrt(len(h)) if similarity == "scaled_dot" else 1.0))
    return torch.stack(logits) if attention == "narm" else softmax(torch.stack(logits))


def time_features(batch: Batch, row: int, time: str, reference: str, window: float) -> Tensor:
    """(length, 0, 1 or 2), one event at a time."""
    times = batch.timestamps[row, : batch.lengths[row]].tolist()
    assert batch.query_time is not None
    now = int(batch.query_time[row]) if reference == "query" else times[-1]
    rows = []
    for t, moment in enumerate(times):
        gap = math.log1p((moment - times[t - 1]) / window) if t else 0.0
        rows.append([gap, math.log1p((now - moment) / window)][: {"none": 0, "gap": 1, "relative": 2}[time]])
    return torch.tensor(rows, dtype=torch.float32).reshape(len(times), -1)


@pytest.mark.parametrize(("heads", "origin"), [(1, "start"), (2, "start"), (4, "end")])
def test_sasrec(heads: int, origin: str) -> None:
    model = built(SASRec, num_heads=heads, positions=origin)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # biases and norms away from 0 and 1
        batch, weights = random_batch(LENGTHS), dict(model.named_parameters())
        hidden = model.encode(batch)
        for row, length in enumerate(LENGTHS):
            expected = sasrec(weights, batch, row, heads, 2, origin == "end")
            torch.testing.assert_close(hidden[row, :length], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layers", "residual"), [(1, False), (2, False), (2, True)])
def test_gru4rec(layers: int, residual: bool) -> None:
    model = built(GRU4Rec, num_layers=layers, residual=residual)
    batch, weights = random_batch(LENGTHS), dict(model.named_parameters())
    with torch.no_grad():
        hidden = model.encode(batch)
        for row, length in enumerate(LENGTHS):
            states = events(weights, batch, row)
            for layer in range(layers):
                states = gru(weights, states, layer)
            expected = linear(states, weights, "project") + residual * events(weights, batch, row)
            torch.testing.assert_close(hidden[row, :length], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("attention", "similarity", "time", "reference"),
    [
        ("self", "dot", "gap", "last"),
        ("self", "scaled_dot", "relative", "query"),
        ("self", "additive", "relative", "last"),
        ("self", "bilinear", "none", "last"),
        ("narm", "scaled_dot", "gap", "last"),
        ("none", "scaled_dot", "gap", "last"),
    ],
)
def test_lstm_attention(attention: str, similarity: str, time: str, reference: str) -> None:
    settings = {"attention": attention, "similarity": similarity, "time": time, "reference": reference}
    model = built(LSTMAttention, num_layers=1, time_window=60.0, **settings)
    batch, weights = random_batch(LENGTHS), dict(model.named_parameters())
    with torch.no_grad():
        hidden = model.encode(batch)
        for row, length in enumerate(LENGTHS):
            x = torch.cat([events(weights, batch, row), time_features(batch, row, time, reference, 60.0)], dim=1)
            states = lstm(weights, x, 0)
            if attention == "none":
                joined = states
            else:
                each = [alphas(weights, states, t, attention, similarity) @ states[: t + 1] for t in range(length)]
                joined = torch.cat([states, torch.stack(each)], dim=1)
            if attention == "narm":
                expected = linear(joined, weights, "contract")
            else:
                inner = gelu(linear(joined, weights, "expand"))
                expected = linear(inner, weights, "contract") + linear(states, weights, "skip")
            torch.testing.assert_close(hidden[row, :length], expected, rtol=1e-4, atol=1e-5)
