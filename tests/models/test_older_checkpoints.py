"""Checkpoints of versions whose weights can't be read: one line that says what to run again."""

from __future__ import annotations

from typing import Any

import pytest
from found_models import EVERY_MODEL, SPEC, built

from recsys_lab.arguments import defaults_of
from recsys_lab.models.checkpoint import spec_of
from recsys_lab.models.encoders.sasrec import SASRec
from recsys_lab.models.system import LATER
from recsys_lab.words import RecsysLabError

FROM_THE_BEGINNING = """
    alpha attention attention_dropout backoff bias compile_model count_weight cutoff dilations dropout
    embedding_dim expand feed_forward_dim field hidden_dim history horizontal inverse_penalty item_bias
    item_vectors_width kernel last last_share loss mask_share max_items max_iter negatives num_buckets
    num_heads num_layers num_neighbours optimization positions prior query_time recency_decay reference
    regularization repeats residual sample_size scale_embedding second_last seed share shrinkage similarity
    similarity_decay smoothing state_dropout states temperature time time_window vectors vertical weights
    window window_seconds
"""
"""Arguments that models have had since the first release of today's `numbers_version`, and those of models that came
with them."""


def test_an_argument_that_came_later_says_by_which_value_nothing_changes() -> None:
    """Else a checkpoint from before is refused (`trained with None, asked pre`), and its run is no seed of the same
    system: put the argument in `system.LATER`, or below where only a new model has it."""
    names = {name for cls in EVERY_MODEL for name in defaults_of(cls)}
    assert names - set(LATER) <= set(FROM_THE_BEGINNING.split())
    defaults = [defaults_of(cls) for cls in EVERY_MODEL]
    for name, unused in LATER.items():
        assert all(of[name] == unused for of in defaults if name in of), name


def test_weights_of_another_version() -> None:
    model = built(SASRec, embedding_dim=8)
    held = {"norm.gain" if name == "norm.weight" else name: value for name, value in model.state_dict().items()}
    held["norm.bias"] = held["norm.bias"][:2]
    told = "it has no norm.weight; what this version does not know is norm.gain; of another shape is norm.bias"
    with pytest.raises(RecsysLabError, match=f"SASRec as this version builds it: {told}.*train the model again"):
        model.load_state_dict(held)


@pytest.mark.parametrize("change", [{"num_event_types": 3}, {"training": {"data_hash": "0"}}], ids=str)
def test_values_with_other_numbers(change: dict[str, Any]) -> None:
    assert spec_of({"data_spec": SPEC.as_dict()}).fields == SPEC.fields
    with pytest.raises(RecsysLabError, match="as earlier versions did, which this version can't read: train the model"):
        spec_of({"data_spec": SPEC.as_dict() | change})
