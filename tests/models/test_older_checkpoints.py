"""Checkpoints of versions whose weights can't be read: one line that says what to run again."""

from __future__ import annotations

from typing import Any

import pytest
from found_models import SPEC, built

from recsys_lab.models.checkpoint import spec_of
from recsys_lab.models.encoders.sasrec import SASRec
from recsys_lab.words import RecsysLabError


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
