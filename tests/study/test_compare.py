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
from small_data import ndcg, outranked

from recsys_lab.cli import main
from recsys_lab.runs.comparison import compare
from recsys_lab.runs.finished import find_runs
from recsys_lab.statistics.pairs import ONE_SEED
from recsys_lab.statistics.rule import holm_factors
from recsys_lab.words import RecsysLabError

USERS = 40
EVALUATION = {
    "dataset": "made",
    "data_hash": "d1",
    "vocabulary_hash": "v1",
    "split": "leave_one_out (leaky)",
    "split_hash": "s1",
    "exclude_seen": "history",
    "ties": "expected",
    "cold_targets": "miss",
    "test_targets": USERS,
}


def make_run(folder: Path, ranks: np.ndarray, variant: str = "a", seed: int = 0, **changes: Any) -> Path:
    """A run folder as RunFolder writes it; `changes` go into the manifest, or into its evaluation."""
    folder.mkdir(parents=True)
    evaluation = EVALUATION | {"test_targets": len(ranks)} | {k: v for k, v in changes.items() if k in EVALUATION}
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
    counted = ranks[1:] if evaluation["cold_targets"] == "drop" else ranks
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "metrics.json").write_text(json.dumps({"test/ndcg@10": float(ndcg(counted, 10).mean())}))
    pl.DataFrame(
        {
            "user_id": [f"u{i:02d}" for i in range(len(ranks))],
            "target_item_id": list(range(len(ranks))),
            "query_time": [0] * len(ranks),
            "rank": ranks.astype(float),
            **dict(zip(("num_greater", "num_ties"), outranked(ranks), strict=True)),
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
    make_run(root / "b" / "seed0", made_ranks(2), "b", 0, stopped_by="counted", model="Markov")
    make_run(root / "c" / "seed0", made_ranks(3), "c", 0, stopped_by="counted", model="Popularity")
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
    over_seeds = per_seed.mean(axis=1).var(ddof=1) / 2
    for row, seed in ((b, 2), (c, 3)):
        difference = ndcg(made_ranks(seed), 10) - mean
        t = difference.mean() / np.sqrt(difference.var(ddof=1) / USERS + over_seeds)
        assert row.against["ndcg"].difference == pytest.approx(difference.mean())
        assert row.against["ndcg"].p_value == pytest.approx(2 * stats.t.sf(abs(t), 1))  # two seeds of one system
    untrained = next(pair for pair in comparison.pairs if {pair.a, pair.b} == {1, 2} and pair.metric == "ndcg")
    assert untrained.p_value == pytest.approx(
        stats.ttest_rel(*(ndcg(made_ranks({"b": 2, "c": 3}[row.variant]), 10) for row in comparison.rows[1:])).pvalue
    )
    # no baseline: three pairs in three metrics, of which the deciding one is corrected
    assert len(comparison.pairs) == 9
    tested = [p for p in comparison.pairs if p.metric == "ndcg"]
    factors = holm_factors([p.p_value for p in tested])
    assert [p.p_corrected for p in tested] == pytest.approx(
        [min(1, f * p.p_value) for f, p in zip(factors, tested, strict=True)]
    )
    assert all(np.isnan(p.p_corrected) for p in comparison.pairs if p.metric != "ndcg")


def test_one_seed_names_no_winner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A perfect and a useless model, each trained once: shown, and not tested."""
    make_run(tmp_path / "a", np.ones(USERS), "perfect", 0)
    make_run(tmp_path / "b", made_ranks(2) + 20, "useless", 0)
    comparison = compare(find_runs([tmp_path])[0])
    assert {pair.untested for pair in comparison.pairs} == {ONE_SEED}
    assert not comparison.is_significantly_best(0)
    for format in ("text", "markdown", "latex"):
        assert main(["compare", str(tmp_path), "--no-baselines", "--pairs", "--format", format]) == 0
        shown = " ".join(capsys.readouterr().out.split())  # lines fit the terminal
        assert "one seed each: not tested over seeds" in shown and "corrected over" not in shown
        assert "**" not in shown and "textbf" not in shown and "significantly better" not in shown
        assert "not tested over seeds, because they have one seed: perfect, useless" in shown


def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own(tmp_path: Path) -> None:
    """Two widths, and two versions of the numbers, under one name."""

    def run(name: str, seed: int, width: int, version: int = 2) -> None:
        config = {"class_path": "SASRec", "init_args": {"embedding_dim": width}}
        make_run(tmp_path / name, made_ranks(seed), "same", seed, model_config=config, numbers_version=version)

    run("a0", 0, 8)
    run("a1", 1, 8)
    run("b0", 2, 64)
    comparison = compare(find_runs([tmp_path])[0])
    assert sorted((row.variant, len(row.runs)) for row in comparison.rows) == [
        ("same (embedding_dim=64)", 1),
        ("same (embedding_dim=8)", 2),
    ]
    (note,) = (note for note in comparison.notes if "no seeds of each other" in note)
    assert "model.embedding_dim: 8, 64" in note
    run("c0", 3, 8, version=1)
    comparison = compare(find_runs([tmp_path])[0])
    assert len(comparison.rows) == 3 and any("numbers_version" in note for note in comparison.notes)


def test_the_settings_of_an_older_run_are_those_of_its_config(tmp_path: Path) -> None:
    for seed, epochs in enumerate((5, 5, 9)):
        folder = make_run(tmp_path / str(seed), made_ranks(seed), "same", seed)
        config = (
            f"seed_everything: {seed}\ntrainer: {{max_epochs: {epochs}, logger: {seed}}}\ndata: {{data_dir: d{seed}}}\n"
        )
        (folder / "config.yaml").write_text(config)
    rows = compare(find_runs([tmp_path])[0]).rows
    assert sorted((row.variant, len(row.runs)) for row in rows) == [
        ("same (max_epochs=5)", 2),
        ("same (max_epochs=9)", 1),
    ]


def test_a_model_that_saw_the_targets_is_in_no_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saw = {"description": "leave_one_out", "training_hash": "t", "sees_targets": True}
    older = {"description": "an older cut", "training_hash": "u", "sees_targets": False}
    for seed in (0, 1, 2):
        make_run(tmp_path / f"a{seed}", made_ranks(seed, 12), "leak", seed, trained_on=saw)
        make_run(tmp_path / f"b{seed}", made_ranks(seed + 10), "older", seed, trained_on=older)
        make_run(tmp_path / f"c{seed}", made_ranks(seed + 20), "own", seed)
    comparison = compare(find_runs([tmp_path])[0])
    assert comparison.rows[0].variant == "leak" and comparison.rows[comparison.reference].variant != "leak"
    for pair in comparison.pairs:
        assert bool(pair.untested) == (0 in (pair.a, pair.b))
    assert any("leak: trained on events at or after the test targets" in note for note in comparison.notes)
    assert main(["compare", str(tmp_path), "--no-baselines"]) == 0
    assert "an older cut" in capsys.readouterr().out


def test_few_users_are_a_caution(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"a{seed}", made_ranks(seed)[:19], "a", seed)
    assert any("19 users" in note for note in compare(find_runs([tmp_path])[0]).notes)
    assert not any("users" in note for note in compare(find_runs([make_run(tmp_path / "x", made_ranks(0))])[0]).notes)


@pytest.mark.parametrize("setting", ["data_hash", "split_hash", "vocabulary_hash", "exclude_seen", "ties"])
def test_what_is_not_comparable_is_refused(setting: str, runs: Path) -> None:
    make_run(runs / "d" / "seed0", made_ranks(4), "d", 0, **{setting: "other"})
    found, _ = find_runs([runs])
    with pytest.raises(RecsysLabError, match=rf"(?s){setting}.*other in .*d/seed0.*--force"):
        compare(found)
    forced = compare(found, force=True)
    assert len(forced.rows) == 4 and setting in forced.notes[0]


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        (
            {"exclude_seen": "window"},
            "test .*d/seed0 --data.exclude_seen history, and compare .*d/seed0/test",
        ),
        ({"ties": "optimistic"}, "recsys-lab test .*d/seed0 --evaluation.ties expected"),
        ({"split": "other", "split_hash": "other"}, "Train one of them again on the other's data and split"),
    ],
)
def test_how_to_make_runs_comparable_comes_before_force(settings: dict[str, str], first: str, runs: Path) -> None:
    make_run(runs / "d" / "seed0", made_ranks(4), "d", 0, **settings)
    with pytest.raises(RecsysLabError, match=f"(?s){first}.*--force"):
        compare(find_runs([runs])[0])


def test_different_targets_are_not_tested_against_each_other(runs: Path) -> None:
    make_run(runs / "d" / "seed0", made_ranks(4)[:30], "d", 0, split_hash="other", ranked_targets=30)
    comparison = compare(find_runs([runs])[0], force=True)
    (other,) = (row for row in comparison.rows if row.variant == "d")
    assert not other.against and any("so no test" in note for note in comparison.notes)


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
        ("half", "is not JSON"),
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
