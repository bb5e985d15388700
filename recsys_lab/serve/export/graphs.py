"""What is exported: a window of events -> the scores of all items; of recurrent models also one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
from torch import Tensor, nn

from recsys_lab.contracts import Batch, Field, State
from recsys_lab.models.blocks.field_vectors import FED
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.serve.predictor import Predictor
from recsys_lab.words import RecsysLabError

FLOAT, WHOLE = "float32", "int64"


@dataclass(frozen=True)
class Input:
    """One input of a graph.

    name: in the graph. of: what it is in a `Batch`: `item_ids`, `lengths`, `timestamps`, `query_time`, or
    `event.price`, `user.age`, `target.price`.
    dtype: `int64` or `float32`. shape: without the batch, whose dimension is `batch_dim`.
    """

    name: str
    of: str
    dtype: str
    shape: tuple[int, ...]
    batch_dim: int = 0

    def made(self, rows: int) -> Tensor:
        """Ones of that form, to trace with."""
        shape = (*self.shape[: self.batch_dim], rows, *self.shape[self.batch_dim :])
        return torch.ones(shape, dtype=getattr(torch, self.dtype))


def window_inputs(predictor: Predictor, length: int) -> list[Input]:
    """What the model reads of a window of `length` events; nothing else is an input."""
    model, spec = predictor.model, predictor.spec
    found = [Input("item_ids", "item_ids", WHOLE, (length,)), Input("lengths", "lengths", WHOLE, ())]
    if predictor.reads_times:
        found.append(Input("timestamps", "timestamps", WHOLE, (length,)))
    if model.uses_query_time:
        found.append(Input("query_time", "query_time", WHOLE, ()))
    of_events = spec.fields_of("event", *FED)
    found += [_of_field(field, "event", (length,)) for field in of_events]
    found += [_of_field(field, "user", ()) for field in spec.fields_of("user", *FED)]
    found += [_of_field(field, "target", ()) for field in of_events if field.name in model.uses_target_fields]
    return found


def _of_field(field: Field, scope: str, shape: tuple[int, ...]) -> Input:
    inner = {"multi": (field.width,), "vector": (field.size,), "numeric": (2,)}.get(field.kind, ())
    dtype = WHOLE if field.kind in ("categorical", "multi") else FLOAT
    plain = "".join(letter if letter.isalnum() else "_" for letter in field.name)
    return Input(f"{scope}_{plain}", f"{scope}.{field.name}", dtype, (*shape, *inner))


def batch_of(given: Mapping[str, Tensor]) -> Batch:
    """The batch that inputs are of, keyed by `Input.of`: what is no input is zeros."""
    item_ids, lengths = given["item_ids"], given["lengths"]
    zeros = torch.zeros_like(lengths)
    scopes: dict[str, dict[str, Tensor]] = {"event": {}, "user": {}, "target": {}}
    for name, tensor in given.items():
        scope, dot, field = name.partition(".")
        if dot:
            scopes[scope][field] = tensor
    return Batch(
        item_ids=item_ids,
        target_ids=zeros,
        valid_mask=torch.arange(item_ids.shape[1], device=item_ids.device) < lengths[:, None],
        timestamps=given.get("timestamps", torch.zeros_like(item_ids)),
        lengths=lengths,
        user_index=zeros - 1,
        query_time=given.get("query_time", zeros),
        event=scopes["event"],
        user=scopes["user"],
        target=scopes["target"],
    )


class Scores(nn.Module):
    """Inputs -> scores (B, V) float32: -inf for padding and for items without training events."""

    hidden: Tensor
    table: Tensor | None
    bias: Tensor | None

    def __init__(self, predictor: Predictor, inputs: list[Input]) -> None:
        super().__init__()
        self.model, self.inputs = predictor.model, inputs
        candidates = predictor.is_trained.cpu()
        self.register_buffer("hidden", torch.zeros(len(candidates)).masked_fill(~candidates, float("-inf")))
        table, bias = _made_table(predictor.model)
        self.register_buffer("table", table)
        self.register_buffer("bias", bias)

    def scores(self, query: Tensor) -> Tensor:
        if self.table is None:
            return self.model.scorer.all_scores(query) + self.hidden
        return F.linear(query, self.table, self.bias) + self.hidden


@torch.no_grad()
def _made_table(model: NextItemModule) -> tuple[Tensor | None, Tensor | None]:
    """(V, D) and (V,) where the rows of a linear scorer have to be made, of fields: once, and not in each call. None
    where they lie in the model as they are, and where scores are no product."""
    blocks = list(model.scorer.linear_blocks() or ())
    if not blocks or all(items.is_plain for items in model.modules() if isinstance(items, ItemTable)):
        return None, None
    bias = None if blocks[0].bias is None else torch.cat([block.bias for block in blocks if block.bias is not None])
    return torch.cat([block.weight for block in blocks]).clone(), bias


class WindowScores(Scores):
    """The scores after a window of L events, padded on the right."""

    def forward(self, *given: Tensor) -> Tensor:
        batch = batch_of({one.of: tensor for one, tensor in zip(self.inputs, given, strict=True)})
        return self.scores(self.model.query(batch))


class StepScores(Scores):
    """The scores after one more event, and what the next step goes on from.

    Args:
        form: of the memory, as `torch.utils._pytree` has it.
    """

    def __init__(self, predictor: Predictor, inputs: list[Input], form: Any) -> None:
        super().__init__(predictor, inputs)
        self.form = form

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        named = {one.of: tensor for one, tensor in zip(self.inputs, given, strict=True)}
        memory = [named.pop(one.of) for one in self.inputs if one.of.startswith("memory ")]
        named["lengths"] = torch.ones_like(named["item_ids"][:, 0])
        after = self.model.step(State(None, memory=pytree.tree_unflatten(memory, self.form)), batch_of(named))
        assert after is not None and after.query is not None
        return (self.scores(after.query), *pytree.tree_leaves(after.memory))


def window_graph(predictor: Predictor) -> WindowScores:
    """Raises RecsysLabError for a model that counts."""
    if predictor.model.scores_whole_rows:
        name = type(predictor.model).__name__
        raise RecsysLabError(
            f"{name} counts, and is no graph of tensors: use its checkpoint with `recsys-lab recommend`"
        )
    return WindowScores(predictor, window_inputs(predictor, predictor.spec.max_length)).eval()


def step_graph(predictor: Predictor) -> StepScores | None:
    """None where the model does not go on from a state of one size that begins with zeros."""
    model = predictor.model
    if model.uses_query_time or model.uses_target_fields:
        return None
    two, three = model.start(2), model.start(3)
    if two is None or three is None:
        return None
    leaves, form = pytree.tree_flatten(two.memory)
    if not leaves or not all(isinstance(leaf, Tensor) and not leaf.any() for leaf in leaves):
        return None
    inputs = [one for one in window_inputs(predictor, 1) if one.of != "lengths"]
    for number, (leaf, other) in enumerate(zip(leaves, pytree.tree_leaves(three.memory), strict=True)):
        differs = [dim for dim, sizes in enumerate(zip(leaf.shape, other.shape, strict=True)) if sizes[0] != sizes[1]]
        if len(differs) != 1 or leaf.dtype not in (torch.float32, torch.int64):
            return None
        shape = tuple(size for dim, size in enumerate(leaf.shape) if dim != differs[0])
        dtype = str(leaf.dtype).removeprefix("torch.")
        inputs.append(Input(f"memory_{number}", f"memory {number}", dtype, shape, differs[0]))
    return StepScores(predictor, inputs, form).eval()
