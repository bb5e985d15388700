"""Effects of axes: by hand, only what the axis varies, seeds and settings, the correction over the study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_study import QUICK, MadeStudy, ranks_of
from scipy import stats

from recsys_lab.metrics.ranking import ndcg
from recsys_lab.study.pairs import Method
from recsys_lab.study.results import AxisEffect, StudyResults, read_results
from recsys_lab.study.results.effects import correct_effects
from recsys_lab.study.statistics import holm

AXES = {"encoder": ["gru", "sas"], "length": ["20", "50", "100"]}


def skill(encoder: str, length: str) -> float:
    return {"gru": 0.0, "sas": 0.5}[encoder] + {"20": 0.0, "50": 0.1, "100": 0.25}[length]


@pytest.fixture
def made(tmp_path: Path) -> MadeStudy:
    made = MadeStudy(tmp_path, AXES)
    for encoder in AXES["encoder"]:
        for length in AXES["length"]:
            if (encoder, length) != ("gru", "100"):  # excluded
                for seed in (0, 1, 2):
                    ranks = ranks_of(skill(encoder, length), seed)
                    made.add({"encoder": encoder, "length": length}, seed, ranks)
    return made


def find(results: StudyResults, axis: str, a: str, b: str, metric: str = "ndcg") -> AxisEffect:
    (block,) = results.blocks
    (found,) = [e for e in block.effects if (e.axis, e.a, e.b, e.metric) == (axis, a, b, metric)]
    return found


def by_hand(encoder: str, length: str, seed: int) -> np.ndarray:
    return ndcg(ranks_of(skill(encoder, length), seed), 10)


def test_an_effect_by_hand(made: MadeStudy) -> None:
    results = read_results(made.plan(), method=Method(interval="t"))
    effect = find(results, "encoder", "sas", "gru")
    # length 100 has no gru, so sas with length 100 is not looked at either
    differences = np.array(
        [[by_hand("sas", n, seed) - by_hand("gru", n, seed) for n in ("20", "50")] for seed in (0, 1, 2)]
    )  # (S, settings, N)
    per_user = differences.mean(axis=(0, 1))
    expected = stats.ttest_1samp(per_user, 0.0)
    interval = expected.confidence_interval(0.95)
    assert effect.difference == pytest.approx(per_user.mean())
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
    assert effect.p_value == pytest.approx(expected.pvalue)
    assert effect.effect_size == pytest.approx(per_user.mean() / per_user.std(ddof=1))
    by_setting = differences.mean(axis=(0, 2))
    assert effect.settings == pytest.approx({"length=20": by_setting[0], "length=50": by_setting[1]})
    assert effect.setting_deviation == pytest.approx(by_setting.std(ddof=1))
    assert effect.seed_deviation == pytest.approx(differences.mean(axis=(1, 2)).std(ddof=1))
    assert effect.holds(0.05) and effect.p_corrected > effect.p_value


def test_a_single_setting_is_the_pair_of_the_comparison(made: MadeStudy) -> None:
    results = read_results(made.plan(), method=QUICK)
    effect = find(results, "length", "100", "20")
    (block,) = results.blocks
    rows = {line.label: i for i, line in enumerate(block.lines)}
    pair = block.pair_of(rows["sas_100"], rows["sas_20"], "ndcg")
    assert pair is not None and list(effect.settings) == ["sas"]
    sign = 1 if pair.a == rows["sas_100"] else -1
    assert effect.difference == pytest.approx(sign * pair.difference) and effect.difference > 0
    assert (effect.low, effect.high) == pytest.approx(sorted((sign * pair.low, sign * pair.high)))
    assert effect.p_value == pair.p_value and effect.setting_deviation is None


def test_effects_are_one_family_over_axes_metrics_and_blocks(made: MadeStudy) -> None:
    for seed in (0, 1, 2):
        for encoder, value in (("gru", 0.1), ("sas", 0.12)):
            ranks = ranks_of(value, seed + 50)
            made.add({"encoder": encoder, "length": "20"}, seed, ranks, f"{encoder}_other", data_hash="d2")
    results = read_results(made.plan(), method=QUICK)
    effects = [effect for block in results.blocks for effect in block.effects]
    assert len(results.blocks) == 2 and len(effects) == 3 * (1 + 3 + 1)
    assert [e.p_corrected for e in effects] == pytest.approx(holm([e.p_value for e in effects]))
    pairs = [pair for block in results.blocks for pair in block.comparison.pairs]
    assert len(pairs) == 3 * (10 + 1)
    assert [p.p_corrected for p in pairs] == pytest.approx(holm([p.p_value for p in pairs]))
    assert f"All {len(pairs)} tests" in results.multiplicity and f"All {len(effects)} tests" in results.multiplicity


def test_what_the_axis_does_the_other_way_round_elsewhere_is_named(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, AXES)
    for encoder, length, value in (("gru", "20", 0.0), ("sas", "20", 1.5), ("gru", "50", 0.8), ("sas", "50", 0.1)):
        for seed in (0, 1):
            made.add({"encoder": encoder, "length": length}, seed, ranks_of(value, seed))
    results = read_results(made.plan(), method=QUICK)
    effect = find(results, "encoder", "sas", "gru")
    assert effect.difference > 0 and effect.settings["length=50"] < 0
    assert effect.reversed_settings == ["length=50"]
    assert [caution for caution in results.cautions if caution.kind == "interaction"]


def test_a_difference_within_a_seed_sd_does_not_hold() -> None:
    effect = AxisEffect("x", "a", "b", "ndcg", 0.01, 0.005, 0.015, 1e-6, 0.5, 0.002, 100, seed_deviation=0.02)
    correct_effects([effect], 0.05)
    assert effect.p_corrected == 1e-6 and not effect.holds(0.05)
    effect.seed_deviation = 0.001
    assert effect.holds(0.05)


def test_a_model_that_counts_has_the_same_in_every_seed(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["popularity", "sas"]})
    made.add({"encoder": "popularity"}, 0, ranks_of(0.0), stopped_by="counted")
    for seed in (0, 1, 2):
        made.add({"encoder": "sas"}, seed, ranks_of(0.5, seed))
    effect = find(read_results(made.plan(), method=QUICK), "encoder", "sas", "popularity")
    means = [ndcg(ranks_of(0.5, seed), 10).mean() for seed in (0, 1, 2)]
    assert effect.seed_deviation == pytest.approx(np.std(means, ddof=1))
