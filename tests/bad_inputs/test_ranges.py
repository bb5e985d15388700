"""Every number that a class of recsys_lab takes has a range: no NaN, no infinity, no text, and nothing outside it."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Annotated, Any

import pytest

import recsys_lab.data
import recsys_lab.losses
import recsys_lab.models
from recsys_lab.arguments import Filled, Range, arguments_of, check_arguments
from recsys_lab.config import Configurable, import_all
from recsys_lab.words import ArgumentError

import_all(recsys_lab.models, recsys_lab.losses, recsys_lab.data)


def below(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield from (sub, *below(sub))


def number_kinds(hint: Any) -> list[Any]:
    """The parts of an annotation that are numbers, with their ranges."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return [hint] if inside[0] in (int, float) else number_kinds(inside[0])
    if hint in (int, float):
        return [hint]
    return [kind for part in inside for kind in number_kinds(part)] if origin is not typing.Literal else []


CLASSES = sorted(
    {c for c in below(Configurable) if c.__module__.startswith("recsys_lab") and c.__name__[0] != "_"},
    key=lambda c: c.__qualname__,
)
NUMBERS = [(cls, name, hint) for cls in CLASSES for name, hint in arguments_of(cls)[0].items() if number_kinds(hint)]


@pytest.mark.parametrize(("cls", "name", "hint"), NUMBERS, ids=[f"{c.__name__}.{n}" for c, n, _ in NUMBERS])
def test_a_number_has_a_range(cls: type, name: str, hint: Any) -> None:
    is_many = typing.get_origin(hint) in (list, tuple) or "Sequence" in str(hint)
    for kind in number_kinds(hint):
        ranges = [part for part in typing.get_args(kind)[1:] if isinstance(part, Range)]
        assert ranges, f"{cls.__name__}.{name} takes any number: {hint}"
        wrong: list[Any] = [float("nan"), "no such word"]
        wrong += [] if ranges[0].infinite else [float("inf"), float("-inf")]
        bounds = ranges[0]
        wrong += [] if bounds.at_least is None else [bounds.at_least - 1]
        wrong += [] if bounds.above is None else [bounds.above]
        wrong += [] if bounds.at_most is None else [bounds.at_most + 1]
        wrong += [] if bounds.below is None else [bounds.below]
        for value in wrong:
            with pytest.raises(ArgumentError, match=name):
                check_arguments(cls, {name: [value] if is_many else value})


def test_there_are_many() -> None:
    assert len(CLASSES) > 30 and len(NUMBERS) > 50


FILLED = [(c, name) for c in CLASSES for name, hint in arguments_of(c)[0].items() if Filled in typing.get_args(hint)]


@pytest.mark.parametrize(("cls", "name"), FILLED)
def test_widths_that_a_network_can_not_do_without_are_not_empty(cls: type, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name} must hold at least one value"):
        check_arguments(cls, {name: []})


def test_the_networks_of_which_each_layer_has_a_width() -> None:
    wanted = {("DeepScorer", "hidden_dims"), ("TargetAttention", "attention_dims"), ("NextItNet", "dilations")}
    assert wanted <= {(cls.__name__, name) for cls, name in FILLED}
