"""The measurements of benchmark_batches.py: one dict per data set and way of making batches."""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _bench_packing import packed_step
from torch import Tensor, nn

from recsys_lab.data.batch import TrainBatches, WindowDataset
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import SASRec
from recsys_lab.models.compilation import clock, compiled
from recsys_lab.models.layers import CausalSelfAttention, Dropout
from recsys_lab.schema import Batch

DIM, HEADS, LAYERS = 64, 2, 2


def measure(args: Namespace, name: str, max_length: int, batch_tokens: int | None) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data = SequenceDataModule(
        name,
        data_dir=args.data_dir,
        max_length=max_length,
        batch_size=args.batch_size,
        batch_tokens=batch_tokens,
        seed=0,
    )
    lengths = data.train_windows.lengths
    batches = list(TrainBatches(lengths, args.batch_size, True, 0, batch_tokens, args.bucket_batches))
    row: dict[str, Any] = {
        "data": name,
        "max_length": max_length,
        "batches_of": f"{batch_tokens:,} tokens" if batch_tokens else f"{args.batch_size} windows",
        "windows": len(lengths),
        "events": int(lengths.sum()),
        "batches": len(batches),
        "padding": padding(lengths, batches),
        "padding_without_buckets": padding(lengths, list(TrainBatches(lengths, args.batch_size, False, 0))),
    }
    if not args.steps:
        return row
    chosen = [batches[i] for i in np.unique(np.linspace(0, len(batches) - 1, args.steps).astype(int))]
    dataset = WindowDataset(data.events, data.train_windows)
    made = [dataset[rows] for rows in chosen]
    model = SASRec(embedding_dim=DIM, num_layers=LAYERS, num_heads=HEADS, dropout=0.2).train()
    model.build(data.spec)
    step = training_step(model, model.training_loss)
    things: dict[str, Callable[[int], object]] = {
        "assembly_ms": lambda i: dataset[chosen[i]],
        "step_ms": lambda i: step(made[i]),
        **parts_alone(made),
    }
    if args.recurrent:
        things |= recurrent_alone(made)
    if args.packing:
        pack = packed_step(model, dataset, max_length)
        everyone = [pack(rows) for rows in chosen]
        things["packed_ms"] = lambda i: everyone[i]()
    row |= in_turn(things, len(made), args.rounds)
    row["assembly_share"] = row["assembly_ms"] / (row["assembly_ms"] + row["step_ms"])
    row |= {f"{part}_share": row[f"{part}_ms"] / row["step_ms"] for part in ("dropout", "qkv", "sdpa")}
    if args.packing:
        row["packed_ratio"] = row["packed_ms"] / row["step_ms"]
    if args.recurrent:
        row["lstm_ratio"] = row["lstm_ms"] / row["gru_ms"]
    if args.compile:
        row |= compiling(model, made, args.rounds)
    return row


def padding(lengths: np.ndarray, batches: list[list[int]]) -> float:
    return float(1 - lengths.sum() / sum(len(batch) * int(lengths[batch].max()) for batch in batches))


def training_step(model: SASRec, loss_of: Callable[..., Tensor]) -> Callable[[Batch], float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step(batch: Batch) -> float:
        assert batch.target_positions is not None
        loss = loss_of(batch, batch.target_positions, batch.target_ids.flatten()[batch.target_positions], None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def in_turn(things: dict[str, Callable[[int], object]], count: int, rounds: int) -> dict[str, float]:
    """Mean milliseconds per batch of each thing: medians over the rounds (a first one warms up), mean over batches."""
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in range(count)] for name in things}
    for turn in range(rounds + 1):
        for i in range(count):
            for name, thing in things.items():
                started = time.perf_counter()
                thing(i)
                if turn:
                    seconds[name][i].append(time.perf_counter() - started)
    return {name: 1e3 * statistics.mean(map(statistics.median, times)) for name, times in seconds.items()}


def parts_alone(made: list[Batch]) -> dict[str, Callable[[int], object]]:
    """Dropout and the two halves of attention, as often as a step of SASRec has them, forward and backward."""
    inputs = [torch.randn(*batch.item_ids.shape, DIM, requires_grad=True) for batch in made]
    dropout, attention = Dropout(0.2).train(), CausalSelfAttention(DIM, HEADS)

    def times(count: int, forward: Callable[[Tensor], Tensor]) -> Callable[[int], object]:
        def run(i: int) -> None:
            for _ in range(count):
                out = forward(inputs[i])
                out.backward(out.detach())

        return run

    def sdpa(x: Tensor) -> Tensor:
        heads = x.view(*x.shape[:2], HEADS, DIM // HEADS).transpose(1, 2)  # (B, H, L, D/H)
        return nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)

    return {
        "dropout_ms": times(1 + 2 * LAYERS, dropout),
        "qkv_ms": times(LAYERS, attention.qkv),
        "sdpa_ms": times(LAYERS, sdpa),
    }


def recurrent_alone(made: list[Batch]) -> dict[str, Callable[[int], object]]:
    inputs = [torch.randn(*batch.item_ids.shape, DIM, requires_grad=True) for batch in made]
    layers = {
        "gru_ms": nn.GRU(DIM, DIM, batch_first=True),
        "lstm_ms": nn.LSTM(DIM, DIM, batch_first=True),
    }

    def times(layer: nn.Module) -> Callable[[int], object]:
        def run(i: int) -> None:
            states, _ = layer(inputs[i])
            states.backward(states.detach())

        return run

    return {name: times(layer) for name, layer in layers.items()}


def compiling(model: SASRec, made: list[Batch], rounds: int) -> dict[str, Any]:
    """Two passes over the batches, the first of which compiles; then in turn with the eager step."""
    seconds, graphs = clock.seconds, clock.graphs
    eager = training_step(model, model.training_loss)
    hidden_at = model.hidden_at
    fast = compiled(hidden_at, torch.device("cpu"))

    def loss_of(batch: Batch, positions: Tensor, target_ids: Tensor, negatives: None) -> Tensor:
        loss: Tensor = model.loss(fast(batch, positions), target_ids, model.scorer, negatives)
        return loss

    quick = training_step(model, loss_of)
    for batch in made:
        quick(batch)
    first = clock.graphs - graphs
    for batch in reversed(made):
        quick(batch)
    result: dict[str, Any] = {
        "compile_seconds": clock.seconds - seconds,
        "graphs": first,
        "graphs_later": clock.graphs - graphs - first,
    }
    times = in_turn({"eager": lambda i: eager(made[i]), "fast": lambda i: quick(made[i])}, len(made), rounds)
    return {**result, "compiled_ratio": times["fast"] / times["eager"], "compiled_step_ms": times["fast"]}
