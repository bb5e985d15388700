"""The example of docs/fields.md gives what its comments say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys_lab.cli import main
from recsys_lab.models import NextItemModule

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


def test_from_a_csv_file_to_a_model_with_price_and_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands and the configuration as they stand on the page, on made files with its columns."""
    monkeypatch.chdir(tmp_path)
    lines = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()]
    (config,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    (heads,) = re.findall(r"```text\n(.*?)\n", TEXT)
    of_events, of_items = heads.split()
    events = [
        f"u{user},{(user + step) % 9},{1_600_000_000 + 700 * step + user},{['view', 'buy'][step % 2]},{step + 0.5}"
        for user in range(30)
        for step in range(8)
    ]
    items = [f"{item},{['shoes', 'coats', 'hats'][item % 3]},{'red|summer' if item % 2 else ''}" for item in range(9)]
    Path("log.csv").write_text("\n".join([of_events, *events]))
    Path("items.csv").write_text("\n".join([of_items, *items]))
    Path("shop.yaml").write_text(config)
    prepare, fit = (shlex.split(line)[1:] for line in lines if line.startswith("recsys-lab"))
    assert main(prepare) == 0
    assert main([*fit, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]) == 0
    model = NextItemModule.load_from_checkpoint("runs/all_fields/checkpoints/best.ckpt")
    assert {f"{f.scope}.{f.name}" for f in model.spec.fields} == {
        "event.event_type", "event.price", "item.category", "item.tags",
    }  # fmt: skip
    assert len(model.embedding.times) == 2 and len(model.embedding.items.parts) == 2
