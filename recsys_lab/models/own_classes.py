"""What a class of the user's own promises, looked at once, on the first batch of a fit: a broken promise is named.

The package's own classes are held to the same by its tests, and are not looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import Batch, Loss, Negatives, NegativeSampler, State
from recsys_lab.words import PAD_ID, RecsysLabError


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


def check_task(model: Any, batch: Batch) -> None:
    """The task of `model` on the first windows that it trains on: the weights of a task of the user's own, how its own
    loss is called, and what its own negatives are; raises as `check_encoder`."""
    task = model.task
    loss, sampler = getattr(task, "loss_function", None), getattr(task, "negatives", None)
    if isinstance(loss, Loss) and is_own(loss):
        _check_call(loss)
    if isinstance(sampler, NegativeSampler) and is_own(sampler) and batch.target_ids is not None:
        target_ids = batch.target_ids[batch.target_ids != PAD_ID]
        drawn = sampler.sample(target_ids, torch.Generator(target_ids.device).manual_seed(0))
        _check_negatives(f"{type(sampler).__name__}.sample", drawn, len(target_ids), model.spec.num_items)
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
        model.scorer.scores(hidden[:, 0].float(), torch.arange(2, device=hidden.device))
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


def _check_call(loss: Loss) -> None:
    try:
        inspect.signature(loss.forward).bind(*"four", weights=None)
    except TypeError as error:
        raise RecsysLabError(
            f"{type(loss).__name__}.forward can't be called ({error}): it must take hidden, target_ids, scorer, "
            "negatives=None, weights=None"
        ) from error


def _check_negatives(name: str, drawn: Any, targets: int, num_items: int) -> None:
    if not isinstance(drawn, Negatives):
        raise RecsysLabError(f"{name} gives {_what(drawn)}, and not Negatives(item_ids, log_q, target_log_q)")
    ids, log_q, of_targets = drawn.item_ids, drawn.log_q, drawn.target_log_q
    if ids.ndim not in (1, 2) or (ids.ndim == 2 and len(ids) != targets):
        raise RecsysLabError(f"{name} gives item_ids of shape {tuple(ids.shape)}, and not (C,) or ({targets}, C)")
    if log_q.shape != ids.shape or of_targets.shape != (targets,):
        raise RecsysLabError(
            f"{name} gives log_q of shape {tuple(log_q.shape)} and target_log_q of shape {tuple(of_targets.shape)}, "
            f"and not {tuple(ids.shape)}, as item_ids have, and ({targets},)"
        )
    if ids.numel() and (int(ids.min()) < 1 or int(ids.max()) > num_items):
        raise RecsysLabError(f"{name} gives items {int(ids.min())} to {int(ids.max())}: ids are 1 to {num_items}")


def check_loss(loss: Any, giver: Any, model: Any, state: State) -> None:
    """What was given as a loss of the first batch; names the class that gave it.

    Args:
        giver: an auxiliary loss, or a task, which may have a loss.
        state: that it was given.
    """
    giver = getattr(giver, "loss_function", None) or giver
    name = type(giver).__name__
    if not isinstance(loss, Tensor) or loss.ndim:
        raise RecsysLabError(f"the loss {name} gives {_what(loss)}, and not a scalar: the mean over its targets")
    states = state.history if state.history is not None else state.query
    if loss.requires_grad or states is None:
        return
    if states.requires_grad and is_own(giver):
        raise RecsysLabError(
            f"the loss {name} gives a value without a gradient, so nothing can be learned from it: compute it from the "
            "states that it is given, without detach(), item(), numpy() or a new tensor"
        )
    if not states.requires_grad and is_own(model):
        raise RecsysLabError(
            f"{type(model).__name__}.encode gives states without a gradient, so nothing of it can be trained: compute "
            "them by modules that build(spec) makes, without detach(), numpy() or torch.no_grad()"
        )


def check_auxiliary(loss: Any, giver: Any, model: Any, state: State) -> None:
    """As `check_loss`, of an auxiliary loss."""
    check_loss(loss, giver, model, state)
    if not isinstance(getattr(giver, "share", None), int | float):
        raise RecsysLabError(f"{type(giver).__name__} has no share: set self.share in its __init__, such as 0.1")


def _what(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
