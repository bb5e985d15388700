"""What a class of the user's own promises, looked at once, on the first batch of a fit: a broken promise is named.

The package's own classes are held to the same by its tests, and are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.words import RecsysLabError


def is_own(thing: object) -> bool:
    """Its class is not one of the package."""
    return not type(thing).__module__.startswith("recsys_lab.")


def check_encoder(model: Any, batch: Batch) -> None:
    """An encoder of the user's own, on the first windows that a fit meets. Draws no random number.

    Raises:
        RecsysLabError: naming the class, what it gave, and what it should give.
    """
    if is_own(model) and model.task.samples.windows:
        with torch.no_grad(), _evaluating(model):
            _check_states(model, batch)


def check_task(task: Any, batch: Batch) -> None:
    """The weights of a task of the user's own, on the first windows that it trains on; raises as `check_encoder`."""
    weights = getattr(task, "weights", None)
    if is_own(task) and task.samples.windows and weights is not None:
        positions = batch.target_ids.flatten().nonzero()[:, 0]
        _check_weights(type(task).__name__, weights(batch, positions), len(positions))


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout; afterwards each module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _check_states(model: Any, batch: Batch) -> None:
    name, (rows, length) = type(model).__name__, batch.item_ids.shape
    hidden = model.hidden(batch)
    if not isinstance(hidden, Tensor) or hidden.ndim != 3 or hidden.shape[:2] != (rows, length):
        raise RecsysLabError(
            f"{name}.encode gives {_what(hidden)}, and not (B, L, D), a state for each of the {length} events of "
            f"{rows} windows: ({rows}, {length}, D)"
        )
    try:
        model.scorer.scores(hidden[:, 0].float(), slice(0, 2))
    except RuntimeError as error:
        raise RecsysLabError(
            f"{name}.encode gives states of width {hidden.shape[2]}, which {type(model.scorer).__name__} can't score: "
            "make both as wide as the item table"
        ) from error
    if model.last_positions_only:
        return
    last = (torch.arange(rows, device=hidden.device), batch.lengths - 1)
    other = batch.item_ids.clone()
    other[last] = other[last] % model.spec.num_items + 1
    changed = model.hidden(replace(batch, item_ids=other, prefix_of=None))
    earlier = batch.valid_mask.clone()
    earlier[last] = False
    if earlier.any() and not torch.allclose(hidden[earlier], changed[earlier], rtol=1e-3, atol=1e-5, equal_nan=True):
        raise RecsysLabError(
            f"{name}.encode lets a state depend on later events: states before the last event of a window change with "
            "that event, which they are trained to predict. Let position t see events 0..t only; or say causal = False "
            "in the class, and fit with --data.training_mode last_position"
        )


def _check_weights(name: str, weights: Any, targets: int) -> None:
    if weights is None:
        return
    if not isinstance(weights, Tensor) or weights.shape != (targets,):
        raise RecsysLabError(f"{name}.weights gives {_what(weights)}, and not one for each of the {targets} targets")
    if not bool((weights >= 0).all()) or not bool(weights.sum() > 0):
        raise RecsysLabError(f"{name}.weights gives weights that are negative, or that are all zero")


def no_scalar(loss: Any, task: Any) -> RecsysLabError:
    """For a loss of a batch that is no scalar tensor: names the class that gave it."""
    name = type(getattr(task, "loss_function", None) or task).__name__
    return RecsysLabError(f"the loss {name} gives {_what(loss)}, and not a scalar: the mean over its targets")


def _what(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
