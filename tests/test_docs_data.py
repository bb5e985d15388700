"""The examples of docs/data.md run, in an empty folder with a log in it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_cli_prepare import log_of
from test_cli_runs import QUIET

from recsys_lab.cli import main
from recsys_lab.cli.prepare import prepare
from recsys_lab.cli.typed import parser_of
from recsys_lab.data.prepare.processed import ProcessedDataset

TEXT = (Path(__file__).parent.parent / "docs" / "data.md").read_text()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    names = {"user_id": "customer", "item_id": "article", "timestamp": "bought_at"}
    log_of(30, 12).rename(names).write_csv("logs.csv")
    number = pl.int_range(pl.len())
    rich = (
        log_of(30, 12)
        .sort("timestamp")
        .with_columns(price=number % 120, device=pl.lit("web"), brand=(pl.col("item_id") % 3).cast(pl.String))
    )
    rich[:200].write_csv("old.csv")
    rich[200:].write_csv("new.csv")
    pl.DataFrame({"item_id": range(9), "colour": ["red", "blue", "red"] * 3}).write_csv("items.csv")
    shown = rich[:60].select("item_id", "timestamp", user_id=number // 3, impression_id=number // 3, label=number % 2)
    shown.write_csv("shown.csv")
    return tmp_path


def test_the_commands_run(shop: Path) -> None:
    blocks = "".join(re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL))
    for line in blocks.replace("\\\n", "").splitlines():
        command = shlex.split(line)[1:]
        assert main([*command, *(QUIET if command[0] == "fit" else [])]) == 0, line
    assert list(shop.glob("runs/shop/*/seed0/ranks.parquet"))
    store = ProcessedDataset.open("data/store")
    assert store.num_impressions == 20 and {"device", "item.brand", "item.colour"} <= set(store.fields)
    assert store.field("device").known_at == "query" and len(store.manifest["appended"]) == 1


def test_the_notebook_lines_run(shop: Path) -> None:
    frames, files = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    known: dict[str, Any] = {}
    exec(frames, known)
    exec(files, known)
    assert known["store"].num_users == 30 and known["store"].path == shop / "data" / "boutique"
    assert known["data"].spec.num_items == 9
    assert known["data"].processed.item_table["price"].drop_nulls().to_list() == [9.5, 3.0, 7.2]


def test_the_options_exist() -> None:
    known = {option for action in parser_of(prepare, "recsys-lab prepare")._actions for option in action.option_strings}
    named = set(re.findall(r"`?(--[a-z_]+)", TEXT)) - {"--model", "--data", "--trainer"}
    assert named and named <= known, named - known
