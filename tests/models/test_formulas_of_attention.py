"""Encoders with attention or filters against loops over their papers' formulas, with the same weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from formulas import (
    LENGTHS,
    assert_rows_equal,
    events,
    gelu,
    layer_norm,
    linear,
    shaken,
    softmax,
)
from found_models import SPEC, built, random_batch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.models import CORE, HSTU, BERT4Rec, BSARec, FMLPRec, LiGR, SASRec, TiSASRec

Weights = dict[str, Tensor]


def bucket(seconds: float, buckets: int) -> int:
    return min(int(math.log(max(seconds, 1.0)) / 0.301), buckets)


def attend(weights: Weights, x: Tensor, name: str, heads: int, sees: Any, bias: Any = lambda h, t, s: 0.0) -> Tensor:
    """Scaled dot products with softmax over the events that `sees(t, s)`."""
    query, key, value = linear(x, weights, f"{name}.qkv").chunk(3, dim=1)
    width, rows = x.shape[1] // heads, []
    for t in range(len(x)):
        row = []
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            seen = [s for s in range(len(x)) if sees(t, s)]
            logits = [query[t, part] @ key[s, part] / math.sqrt(width) + bias(h, t, s) for s in seen]
            alpha = softmax(torch.stack(logits))
            row.append(sum(a * value[s, part] for a, s in zip(alpha, seen, strict=True)))
        rows.append(torch.cat(row))  # type: ignore[arg-type]
    return linear(torch.stack(rows), weights, f"{name}.out")


def earlier(t: int, s: int) -> bool:
    return s <= t


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def feed_forward(weights: Weights, x: Tensor, block: str) -> Tensor:
    return linear(gelu(linear(x, weights, f"{block}.expand")), weights, f"{block}.contract")


def ligr(
    weights: Weights, batch: Batch, row: int, norm: str = "pre", feed_forward: str = "swiglu", gate: bool = True
) -> Tensor:
    x = events(weights, batch, row)
    return ligr_blocks(weights, x + weights["positions.weight"][: len(x)].flip(0), norm, feed_forward, gate)


def sasrec(weights: Weights, batch: Batch, row: int, norm: str) -> Tensor:
    x = events(weights, batch, row)
    return ligr_blocks(weights, x * 4.0 + weights["positions.weight"][: len(x)], norm, "gelu", False)


def ligr_blocks(weights: Weights, x: Tensor, norm: str, kind: str, gate: bool) -> Tensor:
    def normed(x: Tensor, name: str, place: str) -> Tensor:
        return layer_norm(x, weights, name) if norm == place else x

    x = normed(x, "norm", "post")
    for block in ("blocks.0", "blocks.1"):
        name = f"{block}.attention_norm"
        branch = attend(weights, normed(x, name, "pre"), f"{block}.attention", 2, earlier)
        weight = torch.sigmoid(linear(x, weights, f"{block}.attention_gate")) if gate else 1.0
        x = normed(x + weight * branch, name, "post")
        name = f"{block}.feed_forward_norm"
        read = normed(x, name, "pre")
        if kind == "gelu":
            branch = feed_forward(weights, read, block)
        else:
            w1, w2 = weights[f"{block}.expand.weight"].chunk(2)
            branch = (silu(read @ w1.T) * (read @ w2.T)) @ weights[f"{block}.contract.weight"].T
        weight = torch.sigmoid(linear(x, weights, f"{block}.feed_forward_gate")) if gate else 1.0
        x = normed(x + weight * branch, name, "post")
    return normed(x, "norm", "pre")


def tisasrec(weights: Weights, batch: Batch, row: int) -> Tensor:
    times, table = batch.timestamps[row].tolist(), weights["time.weight"]
    x = events(weights, batch, row)
    x = x * 4.0 + weights["positions.weight"][: len(x)]

    def of_time(h: int, t: int, s: int) -> Tensor:
        return table[h, bucket(times[t] - times[s], table.shape[1] - 1)]

    for block in ("blocks.0", "blocks.1"):
        normed = layer_norm(x, weights, f"{block}.attention_norm")
        x = x + attend(weights, normed, f"{block}.attention", 2, earlier, of_time)
        x = x + feed_forward(weights, layer_norm(x, weights, f"{block}.feed_forward_norm"), block)
    return layer_norm(x, weights, "norm")


def hstu(weights: Weights, batch: Batch, row: int, bias: str = "time", query_time: bool = False) -> Tensor:
    times = batch.timestamps[row, : batch.lengths[row]].tolist()
    assert batch.query_time is not None
    now = [*times[1:], int(batch.query_time[row])] if query_time else times
    x = events(weights, batch, row)
    x = x * 4.0 + weights["positions.weight"][: len(x)]
    length, dim, heads = len(x), x.shape[1], 2
    width = dim // heads
    for block in ("blocks.0", "blocks.1"):
        u, v, q, k = silu(layer_norm(x, eps=1e-6) @ weights[f"{block}.uvqk.weight"].T).chunk(4, dim=1)
        mixed = torch.zeros(length, dim)
        for t in range(length):
            for h in range(heads):
                part = slice(h * width, (h + 1) * width)
                for s in range(t + 1):
                    logit = q[t, part] @ k[s, part]
                    if bias != "none":
                        logit = logit + weights[f"{block}.positions.weight"][h, t - s]
                    if bias == "time":
                        table = weights[f"{block}.time.weight"]
                        logit = logit + table[h, bucket(now[t] - times[s], table.shape[1] - 1)]
                    if bias == "decay":
                        gone = math.log1p((now[t] - times[s]) / SPEC.mean_gap_seconds)
                        logit = logit - weights[f"{block}.time.weight"][h] * gone
                    mixed[t, part] += silu(logit) / SPEC.max_length * v[s, part]
        x = x + linear(u * layer_norm(mixed, eps=1e-6), weights, f"{block}.out")
    return x / x.norm(dim=1, keepdim=True)


def bert4rec(weights: Weights, batch: Batch, row: int) -> Tensor:
    x = events(weights, batch, row)
    x = x + (batch.item_ids[row, : len(x)] == 0)[:, None] * weights["mask_vector"]
    x = x + weights["positions.weight"][: len(x)]
    for block in ("blocks.0", "blocks.1"):
        normed = layer_norm(x, weights, f"{block}.attention_norm")
        x = x + attend(weights, normed, f"{block}.attention", 2, lambda t, s: True)
        x = x + feed_forward(weights, layer_norm(x, weights, f"{block}.feed_forward_norm"), block)
    x = layer_norm(x, weights, "norm")
    return layer_norm(gelu(linear(x, weights, "head")), weights, "head_norm")


def at_the_end(weights: Weights, batch: Batch, row: int) -> tuple[Tensor, int]:
    """The whole window (size, D) after the input norm, and where its first event stands."""
    x = events(weights, batch, row)
    first = SPEC.max_length - len(x)
    x = torch.cat([torch.zeros(first, x.shape[1]), x]) + weights["positions"]
    return layer_norm(x, weights, "norm", 1e-12), first


def fmlprec(weights: Weights, batch: Batch, row: int) -> Tensor:
    x, first = at_the_end(weights, batch, row)
    for block in ("blocks.0", "blocks.1"):
        spectrum = torch.fft.rfft(x, dim=0, norm="ortho") * torch.complex(*weights[f"{block}.mix.weight"])
        mixed = torch.fft.irfft(spectrum, n=len(x), dim=0, norm="ortho")
        x = layer_norm(x + mixed, weights, f"{block}.mix_norm", 1e-12)
        x = layer_norm(x + feed_forward(weights, x, block), weights, f"{block}.norm", 1e-12)
    return x[first:]


def bsarec(weights: Weights, batch: Batch, row: int) -> Tensor:
    x, first = at_the_end(weights, batch, row)
    for block in ("blocks.0", "blocks.1"):
        spectrum = torch.fft.rfft(x, dim=0, norm="ortho")
        spectrum[3:] = 0  # cutoff 5: the constant and two more
        low = torch.fft.irfft(spectrum, n=len(x), dim=0, norm="ortho")
        filtered = low + weights[f"{block}.beta"] ** 2 * (x - low)
        filtered = layer_norm(x + filtered, weights, f"{block}.mix_norm", 1e-12)
        sees = lambda t, s: s == t or first <= s <= t  # noqa: E731
        attended = x + attend(weights, x, f"{block}.attention", 2, sees)
        x = 0.7 * filtered + 0.3 * layer_norm(attended, weights, f"{block}.attention_norm", 1e-12)
        x = layer_norm(x + feed_forward(weights, x, block), weights, f"{block}.norm", 1e-12)
    return x[first:]


def core(weights: Weights, batch: Batch, row: int, weights_of: str = "transformer") -> Tensor:
    x = events(weights, batch, row)
    logits = torch.zeros(len(x))
    if weights_of == "transformer":
        states = layer_norm(x + weights["positions.weight"][: len(x)], weights, "input_norm")
        for block in ("blocks.0", "blocks.1"):
            normed = layer_norm(states, weights, f"{block}.attention_norm")
            states = states + attend(weights, normed, f"{block}.attention", 2, earlier)
            normed = layer_norm(states, weights, f"{block}.feed_forward_norm")
            states = states + feed_forward(weights, normed, block)
        logits = layer_norm(states, weights, "norm") @ weights["weigh.weight"][0]
    rows = []
    for t in range(len(x)):
        mean = (softmax(logits[: t + 1])[:, None] * x[: t + 1]).sum(0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


def core_ave(held: Weights, batch: Batch, row: int, weights: str) -> Tensor:
    return core(held, batch, row, weights)


CASES: list[Any] = [
    (CORE, core, {}),
    (CORE, core_ave, {"weights": "mean"}),
    (LiGR, ligr, {}),
    (LiGR, ligr, {"gate": False}),
    (LiGR, ligr, {"feed_forward": "gelu"}),
    (LiGR, ligr, {"norm": "post"}),
    (SASRec, sasrec, {"norm": "pre"}),
    (SASRec, sasrec, {"norm": "post"}),
    (TiSASRec, tisasrec, {}),
    (BERT4Rec, bert4rec, {}),
    (FMLPRec, fmlprec, {}),
    (BSARec, bsarec, {}),
    *((HSTU, hstu, {"bias": bias}) for bias in ("none", "position", "time", "decay")),
    *((HSTU, hstu, {"bias": bias, "query_time": True}) for bias in ("time", "decay")),
]


@pytest.mark.parametrize(("cls", "formula", "settings"), CASES)
def test_states_are_those_of_the_formulas(cls: Any, formula: Any, settings: dict[str, Any]) -> None:
    model, batch = built(cls, **settings), random_batch(LENGTHS)
    if cls is BERT4Rec:
        batch.item_ids[1, 3] = 0  # a masked event
    weights = shaken(model)
    with torch.no_grad():
        by_hand = [formula(weights, batch, row, **settings) for row in range(len(batch))]
    assert_rows_equal(model, batch, by_hand)


@pytest.mark.parametrize(("cls", "temperature"), [(HSTU, 0.05), (CORE, 0.07)])
def test_scores_are_cosines_over_a_temperature(cls: Any, temperature: float) -> None:
    model = built(cls)
    state = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    state = state / state.norm(dim=1, keepdim=True)
    table = model.embedding.items.weight[1:]
    by_hand = torch.stack([state @ vector / vector.norm() / temperature for vector in table], dim=1)
    torch.testing.assert_close(model.scorer.all_scores(state)[:, 1:], by_hand)
    block, (same,) = model.scorer.one_block(), model.scorer.linear_blocks()
    torch.testing.assert_close(state @ block.weight[1:].T, by_hand)
    assert torch.equal(block.weight, same.weight)
    ids = torch.tensor([[4, 1], [7, 7], [40, 2]])
    torch.testing.assert_close(model.scorer.scores(state, ids), by_hand.gather(1, ids - 1))
    torch.testing.assert_close(model.scorer.scores(state, ids[0]), by_hand[:, ids[0] - 1])
