"""What docs/design.md names is what is there: the files that run in a step, in `prepare` and in `compare`, and the keys
of a manifest."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import pytest
from small_data import made_events, prepared, quiet_trainer
from test_cli_runs import fit

import recsys_lab.models
from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import SASRec

PAGE = (Path(__file__).parent.parent / "docs" / "design.md").read_text()
ELSEWHERE = {"evaluation/row_blocks.py", "ops/target_ranks.py", "models/module.py", "scorer.py"}
"""Run in an evaluation step instead of `ops/linear_ranks.py`, where that can't: the page says so."""
COMMAND = {"cli/__init__.py", "cli/typed.py", "cli/class_option.py", "arguments.py", "config.py"}
COMMAND |= {"data/reading/spelling.py"}
"""Run in every command."""
PACKAGE = Path(recsys_lab.models.__file__).parent.parent


def listed(title: str) -> list[str]:
    """The files of the list below `**title**`."""
    _, _, below = PAGE.partition(f"**{title}**")
    return re.findall(r"^\d+\. `([\w/]+\.py)`", below.partition("\n**")[0], flags=re.MULTILINE)


class Files:
    """The package's files whose functions run while it looks."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def look(self) -> None:
        sys.setprofile(self._trace)

    def stop(self) -> None:
        sys.setprofile(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE) and frame.f_code.co_name != "<module>":
            self.seen.add(file.relative_to(PACKAGE).as_posix())


class Steps(L.Callback):
    """Looks at the second training batch and at the test, loading left out."""

    def __init__(self) -> None:
        self.training, self.evaluation = Files(), Files()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            self.training.look()

    def on_train_batch_end(self, *_: Any) -> None:
        self.training.stop()

    def on_test_batch_start(self, *_: Any) -> None:
        self.evaluation.look()

    def on_test_epoch_end(self, *_: Any) -> None:
        self.evaluation.stop()


@contextmanager
def looking() -> Iterator[set[str]]:
    files = Files()
    files.look()
    try:
        yield files.seen
    finally:
        files.stop()


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    folder = tmp_path_factory.mktemp("steps")
    path = prepared(folder / "untyped", made_events(num_users=100, event_types=1)).path
    data = SequenceDataModule(str(path), batch_size=16, eval_batch_size=40)
    steps, model = Steps(), SASRec(embedding_dim=8)
    trainer = quiet_trainer(folder, callbacks=[steps], limit_val_batches=0)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return steps


@pytest.mark.parametrize(("title", "stage"), [("One training step", "training"), ("One evaluation step", "evaluation")])
def test_the_files_of_a_step(steps: Steps, title: str, stage: str) -> None:
    ran = {file for file in getattr(steps, stage).seen if not file.startswith("data/")}
    ran -= ELSEWHERE if stage == "evaluation" else set()
    assert set(listed(title)) == ran, "docs/design.md, What to read"


def test_the_main_line_of_prepare_and_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made_events(event_types=1).write_csv("log.csv")
    with looking() as seen:
        assert main(["prepare", "--input", "log.csv", "--name", "shop"]) == 0
    assert set(listed("One prepare")) <= seen, "docs/design.md, What to read"
    assert fit(Path("shop"), tmp_path / "runs", "--trainer.max_epochs", "1") == 0
    with looking() as seen:
        assert main(["compare", str(tmp_path / "runs"), "--no-baselines"]) == 0
    assert set(listed("One compare")) == seen - COMMAND, "docs/design.md, What to read"
    (manifest,) = (tmp_path / "runs").rglob("seed0/manifest.json")
    unnamed = [key for key in json.loads(manifest.read_text()) if f"`{key}`" not in PAGE]
    assert not unnamed, "docs/design.md, keys of the manifest"
