"""The audit of fields: sizes, missing shares, and the drift from the training to the test part."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_lab.audit import audit
from recsys_lab.audit.audit_page import audit_page
from recsys_lab.audit.audit_text import as_markdown, as_text
from recsys_lab.audit.field_facts import mean_difference, total_variation
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.reading.frames import FrameSource
from recsys_lab.data.split.leave_one_out import LeaveOneOut

USERS, LENGTH = 6, 5


def test_drift_is_of_training_events_and_test_targets(tmp_path: Path) -> None:
    """Each user has five events; leave-one-out trains on three and tests on the last."""
    position = np.tile(np.arange(LENGTH), USERS)
    events = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), LENGTH),
            "item_id": position % 4,  # the items of the tests are 0: the first of each history, too
            "timestamp": 1_600_000_000 + np.arange(len(position)),
            "device": np.where(position == LENGTH - 1, "app", np.where(position == 0, "app", "web")),
            "price": np.where(position == LENGTH - 1, 3.0, position).astype(float),
            "tags": [["new"] if p == LENGTH - 1 else ["old", "older"] for p in position],
            "vector": [[float(p), 0.0] for p in position],
            "note": [f"note {n}" for n in range(len(position))],
            "kept": [None if p == 1 else 1 for p in position],
        }
    )
    items = pl.DataFrame({"item_id": [0, 1, 2, 3], "size": [4.0, 1.0, 1.0, 1.0]})
    users = pl.DataFrame({"user_id": list(range(USERS)), "sex": ["F", "M"] * 3})
    settings = PrepareSettings(fields=["device=categorical@query", "note=text"], keep=["price<9"])
    data = prepare(FrameSource(events, items, users, name="shop"), settings, tmp_path / "shop", tmp_path)
    found = audit(data, LeaveOneOut())
    by_key = {row["key"]: row for row in found["fields"]}
    assert by_key["device"]["drift"] == pytest.approx(2 / 3)  # trained: a third app; tested: app only
    assert by_key["tags"]["drift"] == 1.0
    assert by_key["price"]["drift"] == pytest.approx((3 - 1) / np.sqrt((2 / 3 + 0) / 2))
    assert by_key["vector"]["drift"] == pytest.approx((4 - 1) / np.sqrt((2 / 3 + 0) / 2))
    assert by_key["item.size"]["drift"] == pytest.approx((4 - 2) / np.sqrt((2 + 0) / 2))
    assert by_key["user.sex"]["drift"] == 0.0 and by_key["note"]["drift"] is None
    assert by_key["kept"]["missing"] == 0.2 and by_key["kept"]["drift"] == pytest.approx(1 / 3)
    assert by_key["device"]["drift_of"] == "total variation distance" and by_key["tags"]["values"] == 3
    assert by_key["price"]["drift_of"] == "standardised mean difference" and by_key["price"]["values"] is None
    assert found["card"]["steps"][1]["name"] == "keep price<9"
    for shown in (as_text(found), as_markdown(found), audit_page(found).html):
        assert "vector of 2" in shown and "multi, up to 2" in shown and "known when asked" in shown
        assert "0.667" in shown and "events after keep price" in shown and "20.00 %" in shown


def test_drift_that_can_not_be_known() -> None:
    nothing, some = np.zeros(3), np.ones(3)
    assert total_variation(nothing, some) is None
    assert mean_difference(np.array([1.0, 1.0, 1.0]), some, some) is None  # nothing varies
    assert mean_difference(np.array([np.nan, np.nan, 1.0]), np.array([1.0, 1.0, 0.0]), some) is None


def test_cold_items_and_those_with_a_field(tmp_path: Path) -> None:
    rows = [(u, u % 3 if step < 4 else 10 + u, step) for u in range(6) for step in range(5)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [0, 10, 11, 12], "genre": ["a", "b", None, "a"], "title": ["x", "y", "z", "w"]})
    data = SequenceDataModule.from_frames(events, items, data_dir=tmp_path, name="cold").processed
    found = audit(data, LeaveOneOut())
    assert found["cold_items"] == {"items": 6, "with_fields": 2}
    assert re.search(r"items without, which are cold +6, 2 of them with a field", as_text(found))
