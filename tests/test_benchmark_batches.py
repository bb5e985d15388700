"""scripts/benchmark_batches.py: the packing prototype computes what the model does, and one small run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import made_events, prepared

from recsys_lab.data.batch import WindowDataset
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import SASRec

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_packed_rows_give_the_hidden_states_of_padded_ones(small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import _bench_packing as packing

    assert packing.first_fit(np.array([3, 9, 2, 6]), 10) == [[1], [3, 0], [2]]
    data = SequenceDataModule(str(small_folder), max_length=6)
    model = SASRec(embedding_dim=8)
    model.build(data.spec)
    model.eval()
    model.encoder.embedding.event_types = None  # the prototype looks at items only
    dataset, windows = WindowDataset(data.events, data.train_windows), list(range(len(data.train_windows)))
    batch = packing.packed(dataset, windows, 6)
    assert batch["item_ids"].shape[0] < len(windows)
    whole = dataset[windows]
    with torch.no_grad():
        expected, hidden = model.encode(whole), packing.packed_hidden(model, batch)
    for window in windows:
        place = batch["window"] == window
        length = int(whole.lengths[window])
        assert batch["target_ids"][place].tolist() == whole.target_ids[window, :length].tolist()
        torch.testing.assert_close(hidden[place], expected[window, :length], rtol=1e-5, atol=1e-6)


def test_a_small_run(tmp_path: Path) -> None:
    prepared(tmp_path / "data" / "mine", made_events(num_users=40, shortest=6, event_types=1), name="mine")
    command = [sys.executable, SCRIPTS / "benchmark_batches.py", "--data", "mine:8", "--data-dir", tmp_path / "data"]
    options = ["--batch-size", "16", "--batch-tokens", "64", "--steps", "2", "--rounds", "1", "--threads", "1"]
    done = subprocess.run(
        [*command, *options, "--packing", "--recurrent", "--out", "out.jsonl"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    windows, tokens = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert windows["batches_of"] == "16 windows" and tokens["batches_of"] == "64 tokens"
    for row in (windows, tokens):
        assert 0 <= row["padding"] <= row["padding_without_buckets"] < 1
        assert all(row[name] > 0 for name in ("step_ms", "dropout_share", "sdpa_share", "packed_ratio", "lstm_ratio"))
    assert "| mine | 8 | 16 windows |" in done.stdout and "compiled/eager" not in done.stdout
