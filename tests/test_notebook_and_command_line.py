"""The lines of README's notebook and the command line with the same settings reach the same numbers, bit for bit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from test_cli_runs import QUIET
from test_readme import blocks

from recsys_lab.cli import main

EPOCHS = 2


def run_notebook(data: Path, folder: Path) -> dict[str, Any]:
    """The block of README's "In a notebook", with a small data set and few epochs."""
    (code,) = (block for block in blocks("python") if "trainer.test(model, data)" in block)
    code, found = re.subn(r'"ml-100k"', repr(str(data)), code)
    assert found == 1
    code, found = re.subn(r"Trainer\(max_epochs=20\)", f"Trainer(max_epochs={EPOCHS}, **quiet)", code)
    assert found == 1
    quiet = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder, "logger": False}
    quiet |= {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    names: dict[str, Any] = {"quiet": quiet}
    code, test = code.split("trainer.test(")
    exec(code, names)
    metrics = {name: float(value) for name, value in names["trainer"].callback_metrics.items()}
    (tested,) = eval(f"trainer.test({test.strip()}", names)
    return names | {"metrics": metrics | tested}


@pytest.mark.parametrize("seed", [None, 7])
def test_the_same_numbers(
    seed: int | None, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.manual_seed(12345)  # whatever was drawn before
    if seed is not None:
        L.seed_everything(seed, verbose=False)
    notebook = run_notebook(small_folder, tmp_path)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    command = ["fit", "--model", "SASRec", "--data.dataset", str(small_folder), "--run.root", str(tmp_path), *QUIET]
    command += ["--trainer.max_epochs", str(EPOCHS), "--run.test_after_fit", "false"]
    assert main([*command, *([] if seed is None else ["--seed_everything", str(seed)])]) == 0
    folder = tmp_path / "small" / "sasrec" / f"seed{seed or 0}"
    last = folder / "checkpoints" / "last.ckpt"
    for name, value in torch.load(last, weights_only=True)["state_dict"].items():
        assert torch.equal(value, notebook["model"].state_dict()[name]), name
    for command_name in ("validate", "test"):
        assert main([command_name, str(folder), "--ckpt_path", str(last)]) == 0
    found = json.loads((folder / "validate" / "metrics.json").read_text())
    found |= json.loads((folder / "test" / "metrics.json").read_text())
    both = {name for name in notebook["metrics"] if name.startswith(("val/", "test/"))}
    assert {"val/ndcg@10", "test/ndcg@10", "test/auc"} <= both
    # Lightning keeps float32; the files hold the doubles that those were made of
    assert {name: float(np.float32(found[name])) for name in both} == {name: notebook["metrics"][name] for name in both}
