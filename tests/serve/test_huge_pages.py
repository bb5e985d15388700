"""Tables move to huge pages with every number as it was; whoever shares a table still does."""

from __future__ import annotations

import mmap
import os
import sys

import pytest
import torch
from torch import nn

from recsys_lab import cli
from recsys_lab.serve.huge_pages import HUGE_PAGE, use_huge_pages


def test_large_tables_move_as_they_are() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(10_007, 64), "small": nn.Linear(4, 4), "same": nn.Embedding(1, 64)})
    model["same"].weight = model["table"].weight
    model.register_buffer("counts", torch.arange(HUGE_PAGE // 8 + 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = model["small"].weight.data_ptr()
    use_huge_pages(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model["same"].weight is model["table"].weight and model["small"].weight.data_ptr() == small
    if hasattr(mmap, "MADV_HUGEPAGE"):
        assert model["table"].weight.data_ptr() % HUGE_PAGE == 0 == model.counts.data_ptr() % HUGE_PAGE
    with torch.no_grad():
        model["table"].weight[5] += 1  # it can still be written
    assert torch.equal(model["same"].weight[5], before["table.weight"][5] + 1)


@pytest.mark.parametrize(("command", "value"), [("predict", "1"), ("serve", "1"), ("fit", None)])
def test_commands_that_make_lists_ask_torch_for_huge_pages(
    command: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")  # so that it is as it was afterwards
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    monkeypatch.setattr(sys, "argv", ["recsys-lab", command])
    monkeypatch.setattr(cli, "main", lambda: 0)
    kept: list[bool] = []
    monkeypatch.setattr(cli, "_keep_freed_memory", lambda: kept.append(True))
    with pytest.raises(SystemExit):
        cli.run()
    assert os.environ.get("THP_MEM_ALLOC_ENABLE") == value and bool(kept) == (value is not None)
