"""A prototype that packs short windows into full rows, to measure what that would bring. Not a part of the library.

A row of `width` positions holds several windows back to back; attention sees the earlier positions of its own window
only, which needs a mask: (R, 1, width, width) booleans, and with it SDPA's slower way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.data.batch import WindowDataset
from recsys_lab.models import SASRec
from recsys_lab.models.layers import TransformerBlock


def packed_step(model: SASRec, dataset: WindowDataset, width: int) -> Callable[[list[int]], Callable[[], float]]:
    """windows -> a training step on them, packed."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def prepare(rows: list[int]) -> Callable[[], float]:
        batch = packed(dataset, rows, width)
        counted = batch["target_ids"] != 0

        def step() -> float:
            hidden = packed_hidden(model, batch)[counted]
            loss = model.loss(hidden, batch["target_ids"][counted], model.scorer, None)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return float(loss.item())

        return step

    return prepare


def packed(dataset: WindowDataset, windows: list[int], width: int) -> dict[str, Tensor]:
    """`item_ids`, `target_ids`, `position` in the window, `window` (R, width); -1 is no window."""
    rows = first_fit(dataset.windows.lengths[windows], width)
    shape = (len(rows), width)
    names = ("item_ids", "target_ids", "position")
    out = {name: torch.zeros(shape, dtype=torch.int64) for name in names} | {"window": torch.full(shape, -1)}
    for row, members in enumerate(rows):
        start = 0
        for member in members:
            one = dataset[windows[member]]
            place = slice(start, start + int(one.lengths[0]))
            out["item_ids"][row, place], out["target_ids"][row, place] = one.item_ids[0], one.target_ids[0]
            out["position"][row, place] = torch.arange(place.stop - place.start)
            out["window"][row, place] = member
            start = place.stop
    same = out["window"][:, :, None] == out["window"][:, None, :]  # (R, width, width)
    out["mask"] = (same & torch.ones(width, width, dtype=torch.bool).tril()).unsqueeze(1)
    return out


def first_fit(lengths: np.ndarray, width: int) -> list[list[int]]:
    """Which windows share a row: the longest first, each into the first row that has room."""
    rows: list[list[int]] = []
    room = np.zeros(0, dtype=np.int64)
    for window in np.argsort(-lengths, kind="stable").tolist():
        fits = np.flatnonzero(room >= lengths[window])
        if len(fits):
            rows[fits[0]].append(window)
            room[fits[0]] -= lengths[window]
        else:
            rows.append([window])
            room = np.append(room, width - lengths[window])
    return rows


def packed_hidden(model: SASRec, batch: dict[str, Tensor]) -> Tensor:
    """What `model.encode` gives, on packed rows: (R, width, D)."""
    encoder = model.encoder
    x = encoder.embedding.items(batch["item_ids"]) * encoder.scale
    x = encoder.dropout(x + encoder.positions.weight[batch["position"]])
    for block in encoder.blocks:
        assert isinstance(block, TransformerBlock)
        x = block._feed_forward(x + block.dropout(attention(block.attention, block.attention_norm(x), batch["mask"])))
    hidden: Tensor = encoder.norm(x)
    return hidden


def attention(layer: Any, x: Tensor, mask: Tensor) -> Tensor:
    batch, length, dim = x.shape
    qkv = layer.qkv(x).view(batch, length, 3, layer.num_heads, dim // layer.num_heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    out: Tensor = layer.out(mixed.transpose(1, 2).reshape(batch, length, dim))
    return out
