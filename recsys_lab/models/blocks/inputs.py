"""Inputs: how what is known of an event, its item and its user becomes one vector, whatever the encoder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from recsys_lab.arguments import check_fields, defaults_of
from recsys_lab.contracts import DataSpec
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.joining import Fusion
from recsys_lab.models.blocks.time_features import TimeFeature
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class Inputs:
    """How an event becomes a vector.

    Args:
        fields: `sum` of the vectors of item, fields and time; or `concat`: side by side through one linear map, which
            starts as the sum.
        user: fields of the user are added `everywhere`, or stand in a token of their own before the `first` event.
        items: how fields of the items join, in the input and in the scores: `sum`; `gate`: each is weighed, number by
            number, by what all of them say; `concat`: the item's own vector and theirs through one linear map. Gate and
            concat start as the sum.
        time: what an event's vector says of its time: a list of classes (`blocks/time_features.py`).
    """

    fields: Literal["sum", "concat"] = "sum"
    user: Literal["everywhere", "first"] = "everywhere"
    items: Fusion = "sum"
    time: list[TimeFeature] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_fields(self)
        found: list[Any] = []
        for feature in self.time:
            settings = (type(feature), {**defaults_of(type(feature)), **feature._init_args})
            if settings in found:
                name = type(feature).__name__
                raise RecsysLabError(
                    f"--model.inputs.time: {name} stands there twice with equal settings: one is enough"
                )
            found.append(settings)

    def spec_to_build(self, spec: DataSpec) -> DataSpec:
        """What an encoder is built for: windows are one longer where they begin with a token of the user."""
        return replace(spec, max_length=spec.max_length + 1) if self.user == "first" else spec

    def add_to(self, model: Any, spec: DataSpec) -> None:
        """Changes a model that was just built, and what it says of itself.

        Raises:
            RecsysLabError: where it has no `EventEmbedding`, the data has no times, or the user no field.
        """
        found = [module for module in model.modules() if isinstance(module, EventEmbedding)]
        if not found:
            raise RecsysLabError(
                f"--model.inputs: {type(model).__name__} has no EventEmbedding to apply it to "
                "(recsys_lab.models.blocks.embedding)"
            )
        if self.user == "first":
            if not found[0].user_fields:
                raise RecsysLabError(
                    "--model.inputs.user first needs a field of the users: --data.fields '[user.NAME]', as "
                    f"{spec.dataset} has them"
                )
            model.begins_with_user = True
        for embedding in found:
            embedding.extend(spec, self.fields, self.user == "first", self.items, self.time)
        if self.user == "first" or any(not feature.of_one_event for feature in self.time):
            model.start = no_state
        if any(not feature.causal for feature in self.time):
            model.causal = False
        if any(feature.uses_query_time for feature in self.time):
            model.query_time_of_each_target |= not model.uses_query_time  # else as the encoder itself reads it
            model.uses_query_time = True


def no_state(rows: int) -> None:
    """`SequenceModel.start` of a model whose inputs depend on more than one event."""
    return None
