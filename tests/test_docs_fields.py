"""The example of docs/fields.md gives what its comments say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

TEXT = (Path(__file__).parent.parent / "docs" / "fields.md").read_text()


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    known: dict[str, Any] = {}
    exec(block, known)
    data, batch = known["data"], known["batch"]
    rows, length = batch.item_ids.shape
    assert batch.event["price"].shape == (rows, length, 2) and batch.event["price"].dtype == torch.float32
    assert set(batch.event["channel"][batch.valid_mask].tolist()) == {2, 3}
    assert data.item_fields["brand"].shape == (8,)
    assert data.fitted_fields["channel"].values.to_list() == ["app", "web"]
    assert data.fitted_fields["price"].tensor(known["pl"].Series([None, 4.0])).tolist()[0] == [0.0, 1.0]
    assert known["read_vocabulary"](known["held"]).item_ids.to_list() == list(range(7))
