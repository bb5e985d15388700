"""slices: every target in one slice of each dimension, means that add up, intervals, tests, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_data import ndcg, value_of
from test_compare import make_run

from recsys_lab.cli import main
from recsys_lab.diagnose.slice_values import (
    DIMENSIONS,
    OF_ALL_DATA,
    Slice,
    Sliced,
    gap,
    history_length,
    popularity,
    slices,
)
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.runs.finished import find_runs
from recsys_lab.statistics.pairs import Method
from recsys_lab.statistics.rule import estimate, holm_factors
from recsys_lab.words import RecsysLabError

TARGETS = 400
FACTS = pl.DataFrame(
    {
        "user_id": [f"u{n // 2:03d}" for n in range(TARGETS)],  # two targets each
        "history_length": np.random.default_rng(1).geometric(0.02, TARGETS),
        "popularity_decile": pl.Series(np.random.default_rng(2).integers(0, 11, TARGETS)).replace(0, None),
        "gap_seconds": pl.Series([None if n % 7 == 0 else (n % 5) ** 9 for n in range(TARGETS)], dtype=pl.Int64),
        "is_repeat": [n % 3 == 0 for n in range(TARGETS)],
    }
).with_columns(
    is_cold=pl.col("popularity_decile").is_null(),
    target_count=pl.col("popularity_decile").fill_null(0),
    event_type=pl.Series(["buy" if n % 5 == 0 else "view" for n in range(TARGETS)]),
)


def sliced_run(folder: Path, seed: int, worst: int = 25, variant: str = "a", facts: pl.DataFrame = FACTS) -> Path:
    """A run whose ranks.parquet holds what slices need."""
    ranks = np.random.default_rng(seed).integers(1, worst, TARGETS).astype(float)
    make_run(folder, ranks, variant, seed)
    frame = pl.read_parquet(folder / "ranks.parquet").drop("user_id", "is_cold").hstack(facts)
    frame.write_parquet(folder / "ranks.parquet")
    return folder


def ranks_of(folder: Path) -> np.ndarray:
    return pl.read_parquet(folder / "ranks.parquet")["rank"].to_numpy()


def of(sliced: Sliced, dimension: str) -> dict[str, Slice]:
    return {one.name: one for one in sliced.slices if one.dimension == dimension}


@pytest.mark.parametrize("metric", sorted(RANKING_METRICS))
def test_weighted_slice_means_are_the_overall_metric(metric: str, tmp_path: Path) -> None:
    folder = sliced_run(tmp_path / "a", 0)
    sliced = slices(find_runs([tmp_path])[0], metric=metric, cutoff=5)
    overall = value_of(metric, ranks_of(folder), 5).mean()
    assert sliced.overall.parts[0].mean == pytest.approx(overall, abs=1e-15)
    assert {one.dimension for one in sliced.slices} == set(OF_ALL_DATA)
    for dimension in OF_ALL_DATA:
        found = list(of(sliced, dimension).values())
        assert sum(one.targets for one in found) == TARGETS
        assert sum(one.share_of_targets for one in found) == pytest.approx(1, abs=1e-12)
        weighted = sum(one.share_of_targets * one.parts[0].mean for one in found)
        assert weighted == pytest.approx(overall, abs=1e-12)
        assert sum(one.parts[0].share_of_metric for one in found) == pytest.approx(1, abs=1e-12)
        assert all(one.parts[0].low <= one.parts[0].mean <= one.parts[0].high for one in found if one.users > 1)


@pytest.mark.parametrize("name", sorted(DIMENSIONS))
def test_slices_are_those_of_a_slow_count(name: str, tmp_path: Path) -> None:
    def slow(row: dict[str, object]) -> str:
        length, seconds = row["history_length"], row["gap_seconds"]
        if name == "history_length":
            lows = [1, 5, 10, 20, 50, 100, 200]
            low = max(edge for edge in lows if edge <= length)
            return "200+" if low == 200 else f"{low}-{lows[lows.index(low) + 1] - 1}"
        if name == "popularity":
            return str(row["popularity_decile"] or "cold")
        if name == "gap":
            limits = {"same time": 0, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}
            return "no time" if seconds is None else next((k for k, v in limits.items() if seconds <= v), "longer")
        if name == "repeat":
            return "repeat" if row["is_repeat"] else "explore"
        if name == "event_type":
            return str(row["event_type"])
        return "cold" if row["is_cold"] else "warm"

    folder = sliced_run(tmp_path / "a", 0)
    where = np.array([slow(row) for row in FACTS.iter_rows(named=True)])
    user, value = FACTS["user_id"].rank("dense").to_numpy(), ndcg(ranks_of(folder), 10)
    found = of(slices(find_runs([tmp_path])[0], [name], method=Method(interval="t")), name)
    assert set(found) == set(where)
    for label, one in found.items():
        inside = where == label
        expected = estimate(value[inside], user[inside])
        assert (one.targets, one.users) == (inside.sum(), len(set(user[inside])))
        assert one.parts[0].mean == pytest.approx(expected.mean, abs=1e-15)
        assert one.parts[0].high - one.parts[0].mean == pytest.approx(expected.half_width())
        assert one.is_small == (one.users < 30)


def test_edges_of_the_slices() -> None:
    lengths, code = history_length(pl.DataFrame({"history_length": [0, 1, 4, 5, 199, 200, 9999]}))
    assert [lengths[c] for c in code] == ["0", "1-4", "1-4", "5-9", "100-199", "200+", "200+"]
    lengths, code = history_length(pl.DataFrame({"history_length": [1, 2, 3, 7]}), [7, 3, 2])
    assert [lengths[c] for c in code] == ["1", "2", "3-6", "7+"]
    names, code = gap(pl.DataFrame({"gap_seconds": [0, 1, 60, 61, 3600, 86400, 86401, 2592000, 2592001, None]}))
    assert [names[c] for c in code] == [
        *("same time", "minute", "minute", "hour", "hour", "day", "week", "month", "longer", "no time")
    ]
    names, code = popularity(pl.DataFrame({"popularity_decile": [1, 10, None]}))
    assert [names[c] for c in code] == ["1", "10", "cold"]


def test_seeds_are_averaged_and_two_variants_tested(tmp_path: Path) -> None:
    one_each = FACTS.with_columns(pl.Series("is_repeat", [n % 2 == 0 for n in range(TARGETS)]))  # of every user
    a = [sliced_run(tmp_path / "a" / f"seed{seed}", seed, 30, facts=one_each) for seed in (0, 1, 2)]
    b = [sliced_run(tmp_path / "b" / f"seed{seed}", seed + 5, 12, "b", one_each) for seed in (0, 1, 2)]
    sliced = slices(find_runs([tmp_path])[0], ["repeat", "popularity"])
    assert sliced.variants == ["a", "b"]
    of_a, of_b = (np.stack([ndcg(ranks_of(folder), 10)[::2] for folder in of]) for of in (a, b))  # (S, N) each
    mean, other = of_a.mean(axis=0), of_b.mean(axis=0)
    one = of(sliced, "repeat")["repeat"]
    assert one.parts[0].mean == pytest.approx(mean.mean()) and one.parts[1].mean == pytest.approx(other.mean())
    assert one.pair is not None and one.pair.difference == pytest.approx((other - mean).mean())
    over_seeds = [of.mean(axis=1).var(ddof=1) / 3 for of in (of_a, of_b)]  # of the slice, not of all targets
    error = np.sqrt((other - mean).var(ddof=1) / len(mean) + sum(over_seeds))
    assert one.pair.standard_error == pytest.approx(error) and one.pair.df <= 4
    factors = holm_factors([s.pair.p_value for s in sliced.slices])
    assert [s.pair.p_corrected for s in sliced.slices] == pytest.approx(
        [min(1.0, f * s.pair.p_value) for f, s in zip(factors, sliced.slices, strict=True)]
    )
    assert of(sliced, "repeat")["repeat"].pair.p_corrected < 0.01  # a planted difference
    sliced_run(tmp_path / "c" / "seed0", 6, 12, "c", one_each)
    three = slices(find_runs([tmp_path])[0], ["repeat"])
    assert len(three.variants) == 3 and all(one.pair is None for one in three.slices)


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sliced_run(tmp_path / "a", 0)
    make_run(tmp_path / "old", np.ones(40), "old")
    assert main(["slices", str(tmp_path / "old")]) == 2
    error = capsys.readouterr().err
    assert "history_length" in error and f"recsys-lab test {tmp_path / 'old'}" in error
    with pytest.raises(RecsysLabError, match=r"(?s)targets: .*a; .*old"):
        slices(find_runs([tmp_path])[0])
    for wrong in ({"by": ["age"]}, {"metric": "recall"}, {"cutoff": 0}, {"bins": []}, {"bins": [0]}):
        with pytest.raises(RecsysLabError):
            slices(find_runs([tmp_path / "a"])[0], **wrong)
    with pytest.raises(RecsysLabError, match="no finished run"):
        slices([])


def test_other_facts_are_noted(tmp_path: Path) -> None:
    sliced_run(tmp_path / "a", 0)
    sliced_run(tmp_path / "b", 0, variant="b", facts=FACTS.with_columns(pl.lit(3).alias("popularity_decile")))
    (note,) = (note for note in slices(find_runs([tmp_path])[0]).notes if "not tested" not in note)
    assert "popularity_decile" in note and "gap" not in note


def test_formats_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sliced_run(tmp_path / "a", 0)
    sliced_run(tmp_path / "b", 1, variant="b")
    shown = {}
    for name in ("text", "markdown", "latex", "csv", "json"):
        assert main(["slices", str(tmp_path), "--by", "repeat", "gap", "--cutoff", "5", "--format", name]) == 0
        shown[name] = capsys.readouterr().out
    found = json.loads(shown["json"])
    records = list(csv.DictReader(io.StringIO(shown["csv"])))
    assert len(records) == 2 * (1 + len(found["slices"]))
    for record in records[2:]:
        (one,) = (s for s in found["slices"] if (s["dimension"], s["name"]) == (record["by"], record["slice"]))
        (part,) = (p for p in one["parts"] if p["variant"] == record["variant"])
        assert float(record["ndcg@5"]) == part["mean"]
        for name in ("text", "markdown", "latex"):
            assert f"{part['mean']:.4f} [{part['low']:.4f}, {part['high']:.4f}]" in shown[name]
    assert "explore" in shown["latex"] and r"\toprule" in shown["latex"] and "no time" in shown["text"]


def test_small_slices_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = FACTS.with_columns(pl.Series("is_repeat", [n < 6 for n in range(TARGETS)]))
    sliced_run(tmp_path / "a", 0, facts=few)
    assert main(["slices", str(tmp_path / "a"), "--by", "repeat"]) == 0
    shown = capsys.readouterr().out
    assert "repeat*" in shown and "explore " in shown and "fewer than 30 users" in shown
