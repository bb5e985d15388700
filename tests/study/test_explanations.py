"""scripts/explanations.py: its table from made values."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys_lab.report.table import markdown

SCRIPT = Path(__file__).parents[2] / "scripts" / "explanations.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("explanations", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def values(seed: int, script: Any) -> pl.DataFrame:
    """Leaving out is faithful, attention is not there, the others are noise."""
    draw, frames = np.random.default_rng(seed), []
    for name in script.METHODS:
        columns: dict[str, Any] = {"list": np.arange(30), "user": np.arange(30), "method": [name] * 30}
        for curve in script.CURVES:
            noise = draw.normal(size=30)
            columns[curve] = np.full(30, np.nan) if name == "attention" else noise + 2 * (name == "leave_one_out")
            columns[f"random_{curve}"] = np.ones(30)
        frames.append(pl.DataFrame(columns | {"likeness": draw.normal(size=30) / 9, "gap": np.zeros(30)}))
    whole = pl.concat(frames).with_columns(first=pl.lit(None, pl.Boolean))
    first = [{"list": -1, "user": n, "method": "leave_one_out", "first": n > 0} for n in range(10)]
    return pl.concat([whole, pl.DataFrame(first, schema=whole.schema)]).with_columns(
        pl.col(pl.Float64).cast(pl.Float32)
    )


def test_the_table(script: Any, tmp_path: Path) -> None:
    (tmp_path / "faithfulness").mkdir()
    for seed in (0, 1):
        values(seed, script).write_parquet(tmp_path / "faithfulness" / f"copy_sasrec-seed{seed}.parquet")
    rows = {row["method"]: row for row in script.rows()}
    assert list(rows) == list(script.METHODS) and {row["seeds"] for row in rows.values()} == {2}
    found = rows["leave_one_out"]
    assert found["causes"] == 20 and found["first"] == pytest.approx(0.9)
    assert found["deletion"][0] == pytest.approx(2, abs=0.4) and found["deletion_p"] < rows["removal"]["deletion_p"]
    assert "deletion" not in rows["attention"] and rows["removal"]["first"] is None
    (line,) = [line for line in markdown(script.table(script.rows())).splitlines() if "| left out |" in line]
    assert line.startswith("| copy, sasrec | 2 |") and line.endswith("| 90.0 % | 20 |")


def test_the_cells_of_a_study_have_the_names_of_its_variants(script: Any, tmp_path: Path) -> None:
    folder = tmp_path / "explanations" / "ml-100k_sasrec-0a1b2c3d" / "seed1"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").touch()
    assert list(script.cells(tmp_path)) == [("ml-100k_sasrec-seed1", folder)]
