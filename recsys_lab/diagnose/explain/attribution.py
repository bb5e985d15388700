"""What each event of a history adds to the log-probability of an item, by four methods.

`attention`             the model's own weights (`SequenceModel.event_weights`), where it has any
`integrated_gradients`  of the vectors, from those of stand-ins to those of the events, mean over the draws; by captum
                        (Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks")
`leave_one_out`         what is lost with a stand-in for the event
`removal`               what is lost when it is taken away, and those before it move up
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from recsys_lab.diagnose.explain.asked_model import AskedModel, without_events
from recsys_lab.models.blocks.user_token import with_token
from recsys_lab.words import RecsysLabError

Method = Literal["attention", "integrated_gradients", "leave_one_out", "removal"]
METHODS: tuple[Method, ...] = get_args(Method)
STEPS = (16, 32, 64, 128, 256)
"""Of the integral: as many as it takes for the attributions to sum to the difference."""
TOLERANCE = 0.01
"""Of that sum: this share of the difference, and as much in nats where the difference is small."""
CAPTUM = "integrated gradients need captum: pip install 'recsys-lab[explain]'"


@dataclass(frozen=True)
class Attribution:
    """events: (L,) float64, oldest first; None where the model has nothing to say by this method, and `note` says why.

    In nats, what the event adds to the log-probability; of `attention` a share of 1.
    parts: name -> (L,): the same of the item and of each field, where events have fields. They sum to `events`.
    gap: of integrated gradients: the sum less the difference that it stands for, in nats. steps: of the integral.
    """

    method: Method
    events: np.ndarray | None
    note: str = ""
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    gap: float | None = None
    steps: int | None = None

    @property
    def order(self) -> np.ndarray:
        """(L,) places of the events, the one that adds most first; of equal ones the newest first."""
        assert self.events is not None
        return np.lexsort((-np.arange(len(self.events)), -self.events))


def attribute(asked: AskedModel, method: Method) -> Attribution:
    """One method's answer.

    Raises:
        RecsysLabError: for integrated gradients without captum.
    """
    how: dict[Method, Callable[[AskedModel], Attribution]] = {
        "attention": attention,
        "integrated_gradients": integrated_gradients,
        "leave_one_out": leave_one_out,
        "removal": removal,
    }
    return how[method](asked)


def attention(asked: AskedModel) -> Attribution:
    model = asked.model
    with torch.no_grad():
        found = model.event_weights(with_token(asked.batch) if model.begins_with_user else asked.batch)
    if found is None:
        return Attribution("attention", None, f"{type(model).__name__} has no attention and no gates to read")
    values = found.values[0, int(model.begins_with_user) :][: asked.length]
    return Attribution("attention", _numpy(values), found.what)


def integrated_gradients(asked: AskedModel) -> Attribution:
    if not has_captum():
        raise RecsysLabError(CAPTUM)
    from captum.attr import IntegratedGradients

    names = asked.names
    inputs = tuple(asked.parts[name].expand(asked.draws, -1, -1) for name in names)
    others = tuple(asked.stand_ins[name] for name in names)  # (K, L, D) each
    difference, at_once = asked.whole - asked.nothing, max(asked.draws, asked.rows_at_once)
    method = IntegratedGradients(lambda *given: asked.of_parts(dict(zip(names, given, strict=True))))
    # cuDNN has no gradient of a recurrent network in evaluation mode
    with torch.backends.cudnn.flags(enabled=False):
        for steps in STEPS:
            found = method.attribute(inputs, others, n_steps=steps, method="gausslegendre", internal_batch_size=at_once)
            parts = {
                name: _numpy(values.double().mean(dim=0).sum(dim=1)) for name, values in zip(names, found, strict=True)
            }
            events = np.sum(list(parts.values()), axis=0)
            gap = float(events.sum()) - difference
            if abs(gap) <= TOLERANCE * max(1.0, abs(difference)):
                break
    note = "" if abs(gap) <= TOLERANCE * max(1.0, abs(difference)) else "the sum is far from the difference"
    return Attribution("integrated_gradients", events, note, parts if len(names) > 1 else {}, gap, steps)


def leave_one_out(asked: AskedModel) -> Attribution:
    others = ~torch.eye(asked.length, dtype=torch.bool)
    return Attribution("leave_one_out", _numpy(asked.whole - asked.keeping(others)))


def removal(asked: AskedModel) -> Attribution:
    if asked.length == 1:
        return Attribution("removal", None, "the history has one event, and nothing is left without it")
    others = ~torch.eye(asked.length, dtype=torch.bool)
    return Attribution("removal", _numpy(asked.whole - asked.of_batch(without_events(asked.batch, others))))


def fields_left_out(asked: AskedModel) -> dict[str, float]:
    """What is lost, in nats, when all events have one part of stand-ins: the item's own vector (`item`), one of its
    fields (`item.NAME`) or of the events'; and when a field of the user or of the event to predict is not known."""
    found = {}
    if len(asked.names) > 1:
        nowhere = torch.zeros(1, asked.length, dtype=torch.bool)
        found = {name: asked.whole - float(asked.keeping(nowhere, of=name)[0]) for name in asked.names}
    for read in asked.embedding.user_fields:
        without = {**asked.batch.user, read.name: torch.zeros_like(asked.batch.user[read.name])}
        found[f"user.{read.name}"] = asked.whole - float(asked.of_batch(replace(asked.batch, user=without))[0])
    for read in asked.embedding.target_fields:
        without = {**asked.batch.target, read.name: torch.zeros_like(asked.batch.target[read.name])}
        found[f"target.{read.name}"] = asked.whole - float(asked.of_batch(replace(asked.batch, target=without))[0])
    return found


def has_captum() -> bool:
    return importlib.util.find_spec("captum") is not None


def _numpy(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.detach().double().numpy(force=True)
    return found
