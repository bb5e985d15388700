"""The examples of docs/data.md run, in an empty folder with a log in it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from test_cli_prepare import log_of
from test_cli_runs import QUIET

from recsys_lab.cli import main
from recsys_lab.cli.prepare import make_parser

TEXT = (Path(__file__).parent.parent / "docs" / "data.md").read_text()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    names = {"user_id": "customer", "item_id": "article", "timestamp": "bought_at"}
    log_of(30, 12).rename(names).write_csv("logs.csv")
    return tmp_path


def test_the_commands_run(shop: Path) -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.splitlines():
        command = shlex.split(line)[1:]
        assert main([*command, *(QUIET if command[0] == "fit" else [])]) == 0, line
    assert list(shop.glob("runs/shop/*/seed0/ranks.parquet"))


def test_the_notebook_lines_run(shop: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    known: dict[str, Any] = {}
    exec(block, known)
    assert known["data"].spec.num_items == 9
    assert known["data"].processed.item_table["price"].drop_nulls().to_list() == [9.5, 3.0, 7.2]


def test_the_options_exist() -> None:
    known = {option for action in make_parser()._actions for option in action.option_strings}
    named = set(re.findall(r"`?(--[a-z_]+)", TEXT)) - {"--model", "--data", "--trainer"}
    assert named and named <= known, named - known
