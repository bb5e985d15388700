"""`settings`: every argument of a model by name, whether it was given or left at its default."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from found_models import ENCODERS, MODELS, small

from recsys_lab.models import GRU4Rec, NextItemModule, SASRec
from recsys_lab.words import ArgumentError


@pytest.mark.parametrize("cls", MODELS)
def test_settings_are_the_arguments_and_the_defaults(cls: type[NextItemModule]) -> None:
    for model in (cls(), small(cls)):
        named = {name: p.default for name, p in inspect.signature(cls).parameters.items() if name != "base"}
        assert named.keys() <= vars(model.settings).keys()
        for name, value in (named | model._init_args).items():
            assert getattr(model.settings, name) is value
        if cls in ENCODERS:  # what the base of all models takes
            assert model.settings.target_fields == () and model.settings.loss is None


def test_a_class_below_an_encoder_has_its_own_defaults_and_those_of_its_base() -> None:
    class Wide(GRU4Rec):
        def __init__(self, embedding_dim: int = 96, gate: str = "none", **base: Any) -> None:
            super().__init__(**base)

    s = Wide(num_layers=3).settings
    assert (s.embedding_dim, s.gate, s.num_layers, s.dropout) == (96, "none", 3, 0.2)


def test_heads_divide_the_width_that_a_class_below_says() -> None:
    class Narrow(SASRec):
        def __init__(self, embedding_dim: int = 6, **base: Any) -> None:
            super().__init__(**base)

    assert Narrow(num_heads=3).settings.embedding_dim == 6
    with pytest.raises(ArgumentError, match="num_heads.*must divide embedding_dim 6, not 4"):
        Narrow(num_heads=4)
