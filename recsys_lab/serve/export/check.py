"""An exported file against the model that it was made of: the same histories in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor

from recsys_lab.contracts import State
from recsys_lab.ops.top_items import top_items
from recsys_lab.serve.export.graph_files import Run
from recsys_lab.serve.export.graphs import Input, StepScores, WindowScores, batch_of
from recsys_lab.serve.predictor import Predictor
from recsys_lab.words import RecsysLabError

TOLERANCE, HISTORIES, TOP = 1e-4, 100, 10
BATCHES = (1, 2, 7, 64)
"""Sizes of the batches, one after the other, until all histories are replayed."""


@dataclass(frozen=True)
class Checked:
    """largest: difference of a score, beside the largest score. lists: of so many replayed, `same` have the same items;
    in the others places differ where scores are within the tolerance of each other."""

    histories: int
    largest: float
    same: int

    def as_dict(self) -> dict[str, Any]:
        return {"histories": self.histories, "largest_difference": self.largest, "same_lists": self.same}


def check_window(predictor: Predictor, graph: WindowScores, run: Run, seed: int = 0) -> Checked:
    """Replays histories of every length from 1 to L, in batches of several sizes.

    Raises:
        RecsysLabError: when a score differs by more than 1e-4 of the largest, or a list by more than ties within that.
    """
    lengths = np.resize(np.arange(1, predictor.spec.max_length + 1), max(HISTORIES, predictor.spec.max_length))
    draw, found, start = torch.Generator().manual_seed(seed), [], 0
    for rows in (size for _ in lengths for size in BATCHES):
        some = torch.from_numpy(lengths[start : start + rows])
        start += rows
        if not len(some):
            break
        given = _made(predictor, graph.inputs, some, draw)
        with torch.inference_mode():
            batch = batch_of({one.of: tensor for one, tensor in zip(graph.inputs, given, strict=True)})
            expected = predictor.model.score(predictor.query(batch))
        (scores,) = run([tensor.numpy() for tensor in given])
        found.append(_compared(predictor, expected, torch.from_numpy(scores)))
    return _joined(found)


def check_step(predictor: Predictor, graph: StepScores, run: Run, seed: int = 0) -> Checked:
    """Replays histories event by event, two windows long, against `model.step`. Raises as `check_window`."""
    rows, draw, found, model = 7, torch.Generator().manual_seed(seed), [], predictor.model
    state = model.start(rows)
    assert state is not None
    memory = [leaf.numpy() for leaf in pytree.tree_leaves(state.memory)]
    own = [one for one in graph.inputs if not one.of.startswith("memory ")]
    for place in range(2 * predictor.spec.max_length):
        given = _made(predictor, own, torch.ones(rows, dtype=torch.int64), draw, place)
        named = {one.of: tensor for one, tensor in zip(own, given, strict=True)}
        with torch.inference_mode():
            after = model.step(state, batch_of(named | {"lengths": torch.ones(rows, dtype=torch.int64)}))
            assert after is not None and after.query is not None
            expected = model.score(after.query)
        scores, *memory = run([*(tensor.numpy() for tensor in given), *memory])
        found.append(_compared(predictor, expected, torch.from_numpy(scores)))
        state = State(None, memory=after.memory)
    return _joined(found)


def _made(
    predictor: Predictor, inputs: Sequence[Input], lengths: Tensor, draw: torch.Generator, place: int = 0
) -> list[Tensor]:
    """Inputs of made histories. place: of the first event, for its time."""
    rows, made = len(lengths), []
    sizes = {f"{f.scope}.{f.name}": f.size for f in predictor.spec.fields}
    items = predictor.is_trained.nonzero()[:, 0].cpu()
    gap = max(2, round(2 * predictor.spec.mean_gap_seconds))
    for one in inputs:
        shape = (*one.shape[: one.batch_dim], rows, *one.shape[one.batch_dim :])
        if one.of == "lengths":
            values = lengths
        elif one.of == "item_ids":
            values = items[torch.randint(len(items), shape, generator=draw)]
        elif one.of == "timestamps":
            values = 10**9 + gap * place + torch.randint(1, gap, shape, generator=draw).cumsum(1)
        elif one.of == "query_time":
            values = torch.full(shape, 2 * 10**9)
        elif one.dtype == "int64":
            values = torch.randint(sizes[one.of.replace("target.", "event.")], shape, generator=draw)
        else:
            values = torch.randn(shape, generator=draw)
        if len(shape) > 1 and one.of.partition(".")[0] in ("item_ids", "timestamps", "event"):  # 0 at padding
            valid = torch.arange(shape[1]) < lengths[:, None]
            values = values * valid.reshape(*valid.shape, *[1] * (values.ndim - 2))
        made.append(values)
    return made


def _compared(predictor: Predictor, expected: Tensor, scores: Tensor) -> Checked:
    candidates = predictor.is_trained.cpu()
    before, now = expected.cpu()[:, candidates], scores[:, candidates]
    scale = max(1.0, float(before.abs().max()))
    largest = float((before - now).abs().max()) / scale
    if not largest <= TOLERANCE:
        raise RecsysLabError(f"the exported scores differ by {largest:.1e} of the largest, more than {TOLERANCE:.0e}")
    nothing, offsets = torch.zeros(0, dtype=torch.int64), torch.zeros(len(scores) + 1, dtype=torch.int64)
    (mine, best), (theirs, _) = (top_items(s, candidates, nothing, offsets, TOP) for s in (expected.cpu(), scores))
    filled = best > float("-inf")
    worth = expected.cpu().gather(1, theirs)  # what the model itself says of the items of the other list
    if not bool((((worth - best).abs() <= 2 * TOLERANCE * scale) | ~filled).all()):
        raise RecsysLabError("the exported lists hold other items than the model's, beyond near-ties")
    return Checked(len(scores), largest, int((mine == theirs).all(dim=1).sum()))


def _joined(found: Sequence[Checked]) -> Checked:
    return Checked(
        sum(one.histories for one in found), max(one.largest for one in found), sum(one.same for one in found)
    )
