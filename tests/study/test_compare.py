"""compare: from made run folders to the table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from recsys_lab.cli import main
from recsys_lab.metrics.ranking import ndcg
from recsys_lab.schema import RecsysLabError
from recsys_lab.study.compare import compare
from recsys_lab.study.runs import find_runs
from recsys_lab.study.statistics import holm

USERS = 40
EVALUATION = {
    "dataset": "made",
    "data_hash": "d1",
    "vocabulary_hash": "v1",
    "split": "leave_one_out (leaky)",
    "split_hash": "s1",
    "exclude_seen": "history",
    "ties": "mean",
    "cold_targets": "miss",
    "test_targets": USERS,
}


def make_run(folder: Path, ranks: np.ndarray, variant: str = "a", seed: int = 0, **changes: Any) -> Path:
    """A run folder as RunFolder writes it; `changes` go into the manifest, or into its evaluation."""
    folder.mkdir(parents=True)
    evaluation = EVALUATION | {k: v for k, v in changes.items() if k in EVALUATION}
    manifest = {
        "variant": variant,
        "study": "made",
        "model": "SASRec",
        "loss": "CrossEntropy",
        "seed": seed,
        "parameters": 1234,
        "train_seconds": 10.0 + seed,
        "tokens_per_second": 5000.0,
        "stopped_by": "patience",
        "evaluation": evaluation,
    } | {k: v for k, v in changes.items() if k not in EVALUATION}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text(json.dumps({"test/ndcg@10": float(ndcg(ranks, 10).mean())}))
    pl.DataFrame(
        {
            "user_id": [f"u{i:02d}" for i in range(len(ranks))],
            "target_item_id": list(range(len(ranks))),
            "query_time": [0] * len(ranks),
            "rank": ranks.astype(float),
            "is_cold": [i == 0 for i in range(len(ranks))],
        }
    ).write_parquet(folder / "ranks.parquet")
    return folder


def made_ranks(seed: int, worst: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, worst, USERS).astype(float)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    make_run(root / "a" / "seed0", made_ranks(0, 12), "a", 0)
    make_run(root / "a" / "seed1", made_ranks(1, 12), "a", 1)
    make_run(root / "b" / "seed0", made_ranks(2), "b", 0)
    make_run(root / "c" / "seed0", made_ranks(3), "c", 0)
    return root


def test_numbers(runs: Path) -> None:
    found, problems = find_runs([runs])
    assert not problems and len(found) == 4
    comparison = compare(found)
    best = comparison.rows[0]
    assert best.variant == "a" and len(best.runs) == 2 and not best.against
    per_seed = np.stack([ndcg(made_ranks(0, 12), 10), ndcg(made_ranks(1, 12), 10)])
    mean = per_seed.mean(axis=0)
    assert best.estimates["ndcg"].mean == pytest.approx(mean.mean())
    assert best.seed_deviation["ndcg"] == pytest.approx(per_seed.mean(axis=1).std(ddof=1))
    assert best.mean_of("train_seconds") == 10.5
    b, c = sorted(comparison.rows[1:], key=lambda row: row.variant)
    for row, seed in ((b, 2), (c, 3)):
        assert row.against["ndcg"].p_value == pytest.approx(stats.ttest_rel(ndcg(made_ranks(seed), 10), mean).pvalue)
        assert row.against["ndcg"].difference == pytest.approx(ndcg(made_ranks(seed), 10).mean() - mean.mean())
    # no baseline: three pairs in three metrics
    assert len(comparison.pairs) == 9
    assert [p.p_corrected for p in comparison.pairs] == holm([p.p_value for p in comparison.pairs])


@pytest.mark.parametrize("setting", ["data_hash", "split_hash", "vocabulary_hash", "exclude_seen", "ties"])
def test_what_is_not_comparable_is_refused(setting: str, runs: Path) -> None:
    make_run(runs / "d" / "seed0", made_ranks(4), "d", 0, **{setting: "other"})
    found, _ = find_runs([runs])
    with pytest.raises(RecsysLabError, match=rf"(?s){setting}.*other in .*d/seed0.*--force"):
        compare(found)
    forced = compare(found, force=True)
    assert len(forced.rows) == 4 and setting in forced.notes[0]


def test_different_targets_are_not_tested_against_each_other(runs: Path) -> None:
    make_run(runs / "d" / "seed0", made_ranks(4)[:30], "d", 0, split_hash="other")
    comparison = compare(find_runs([runs])[0], force=True)
    (other,) = (row for row in comparison.rows if row.variant == "d")
    assert not other.against and any("no paired test" in note for note in comparison.notes)


def test_another_loss_is_another_row(runs: Path) -> None:
    make_run(runs / "b" / "seed1", made_ranks(5), "b", 1, loss="BPR")
    assert len(compare(find_runs([runs])[0]).rows) == 4


def test_cold_targets_that_were_dropped_stay_dropped(tmp_path: Path) -> None:
    make_run(tmp_path / "a", made_ranks(0), cold_targets="drop")
    row = compare(find_runs([tmp_path])[0]).rows[0]
    assert row.estimates["ndcg"].users == USERS - 1
    assert row.estimates["ndcg"].mean == pytest.approx(ndcg(made_ranks(0)[1:], 10).mean())


def test_damaged_and_unfinished_runs_are_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(runs / "interrupted", made_ranks(6), "x", stopped_by="interrupted")
    (make_run(runs / "untested", made_ranks(6), "x") / "ranks.parquet").unlink()
    (make_run(runs / "damaged", made_ranks(6), "x") / "ranks.parquet").write_bytes(b"no parquet")
    (make_run(runs / "half", made_ranks(6), "x") / "manifest.json").write_text('{"variant": ')
    assert main(["compare", str(runs)]) == 0
    shown = capsys.readouterr()
    for name, why in (
        ("interrupted", "unfinished"),
        ("untested", "not tested"),
        ("damaged", ""),
        ("half", "unreadable"),
    ):
        assert any(name in line and why in line for line in shown.err.splitlines())
    assert [line.split()[0] for line in shown.out.splitlines()[1:4]] == ["a", *sorted(("b", "c"), key=shown.out.find)]


def test_formats(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs), "--format", "json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["evaluation"]["data_hash"] == "d1" and len(table["rows"]) == 3
    assert main(["compare", str(runs), "--format", "csv"]) == 0
    records = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert float(records[0]["ndcg@10"]) == pytest.approx(table["rows"][0]["ndcg@10"])
    assert main(["compare", str(runs), "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in lines[:5]}) == 1 and "(2 seeds)" in lines[2]
    assert main(["compare", str(runs), "--cutoff", "5"]) == 0
    assert "ndcg@5" in capsys.readouterr().out


def test_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
    make_run(tmp_path / "a", made_ranks(0), stopped_by="running")
    assert main(["compare", str(tmp_path)]) == 2
    assert "no finished run" in capsys.readouterr().err
