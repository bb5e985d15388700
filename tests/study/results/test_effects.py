"""Effects of axes: by hand, only what the axis varies, seeds and settings, the correction over the study."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from made_study import QUICK, MadeStudy, ranks_of
from scipy import stats
from small_data import ndcg

from recsys_lab.statistics.pairs import ONE_SEED, Difference, Method
from recsys_lab.statistics.rule import holm_factors
from recsys_lab.study.pages.latex import as_latex
from recsys_lab.study.pages.markdown import as_markdown
from recsys_lab.study.results import AxisEffect, StudyResults, read_results
from recsys_lab.study.results.answer import _better_first

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
    over_seeds = sum(
        np.var([by_hand(encoder, n, seed).mean() for seed in (0, 1, 2)], ddof=1) / 3 / 2**2
        for encoder in ("sas", "gru")
        for n in ("20", "50")
    )
    error = np.sqrt(per_user.var(ddof=1) / 200 + over_seeds)
    assert (
        effect.standard_error == pytest.approx(error) and effect.df == 8
    )  # two seeds to spare in each of four systems
    assert effect.difference == pytest.approx(per_user.mean())
    assert effect.p_value == pytest.approx(2 * stats.t.sf(effect.difference / error, 8))
    level = 0.05 * effect.p_value / effect.p_corrected  # of its step in Holm's procedure
    half = stats.t.ppf(1 - level / 2, 8) * error
    assert (effect.low, effect.high) == pytest.approx((effect.difference - half, effect.difference + half))
    assert effect.effect_size == pytest.approx(per_user.mean() / per_user.std(ddof=1))
    by_setting = differences.mean(axis=(0, 2))
    assert effect.settings == pytest.approx({"length=20": by_setting[0], "length=50": by_setting[1]})
    assert effect.setting_deviation == pytest.approx(by_setting.std(ddof=1))
    assert effect.is_significant(0.05) and effect.p_corrected > effect.p_value


def test_a_single_setting_is_the_pair_of_the_comparison(made: MadeStudy) -> None:
    results = read_results(made.plan(), method=QUICK)
    effect = find(results, "length", "100", "20")
    (block,) = results.blocks
    rows = {line.label: i for i, line in enumerate(block.lines)}
    pair = block.pair_of(rows["sas_100"], rows["sas_20"], "ndcg")
    assert pair is not None and list(effect.settings) == ["sas"]
    assert pair.a == rows["sas_100"] and effect.difference == pair.difference > 0
    assert effect.p_value == pair.p_value and effect.setting_deviation is None


def test_effects_are_one_family_over_axes_and_blocks(made: MadeStudy) -> None:
    for seed in (0, 1, 2):
        for encoder, value in (("gru", 0.1), ("sas", 0.12)):
            ranks = ranks_of(value, seed + 50)
            made.add({"encoder": encoder, "length": "20"}, seed, ranks, f"{encoder}_other", data_hash="d2")
    results = read_results(made.plan(), method=QUICK)
    effects = [effect for block in results.blocks for effect in block.effects]
    assert len(results.blocks) == 2 and len(effects) == 3 * (1 + 3 + 1)

    def check(tested: list[Difference], count: int) -> None:
        deciding = [one for one in tested if one.metric == "ndcg"]
        factors = holm_factors([one.p_value for one in deciding])
        expected = [min(1.0, factor * one.p_value) for factor, one in zip(factors, deciding, strict=True)]
        assert [one.p_corrected for one in deciding] == pytest.approx(expected) and len(deciding) == count
        assert all(np.isnan(one.p_corrected) for one in tested if one.metric != "ndcg")
        assert f"All {count} tests" in results.multiplicity

    check([*effects], 5)
    pairs = [pair for block in results.blocks for pair in block.comparison.pairs]
    assert len(pairs) == 3 * (10 + 1)
    check([*pairs], 11)


def test_what_the_axis_does_the_other_way_round_elsewhere_is_named(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, AXES)
    for encoder, length, value in (("gru", "20", 0.0), ("sas", "20", 1.5), ("gru", "50", 0.8), ("sas", "50", 0.1)):
        for seed in (0, 1, 2):
            made.add({"encoder": encoder, "length": length}, seed, ranks_of(value, seed))
    results = read_results(made.plan(), method=QUICK)
    effect = find(results, "encoder", "sas", "gru")
    assert effect.difference > 0 and effect.settings["length=50"] < 0
    assert effect.reversed_settings == ["length=50"]
    assert [caution for caution in results.cautions if caution.kind == "interaction"]


def test_with_one_seed_no_effect_is_tested(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["gru", "sas"]})
    for encoder, value in (("gru", 0.0), ("sas", 2.0)):
        made.add({"encoder": encoder}, 0, ranks_of(value))
    results = read_results(made.plan(), method=QUICK)
    effect = find(results, "encoder", "sas", "gru")
    assert effect.untested == ONE_SEED and effect.difference > 0.1 and not effect.is_significant(0.05)
    assert results.answer.sentence == "The differences were not tested over seeds, because there is one seed."
    (block,) = results.blocks
    assert not any(line.letters for line in block.lines) and not block.comparison.is_significantly_best(0)
    shown = as_markdown(results) + as_latex(results)
    assert not re.search(r"ahead|significantly better|\*\*sas|textbf\{sas", shown)


def test_an_untrained_baseline_has_no_seeds(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["popularity", "sas"]})
    made.add({"encoder": "popularity"}, 0, ranks_of(0.0), stopped_by="counted")
    for seed in (0, 1, 2):
        made.add({"encoder": "sas"}, seed, ranks_of(0.5, seed))
    effect = find(read_results(made.plan(), method=QUICK), "encoder", "sas", "popularity")
    means = [ndcg(ranks_of(0.5, seed), 10).mean() for seed in (0, 1, 2)]
    per_user = np.mean([ndcg(ranks_of(0.5, seed), 10) for seed in (0, 1, 2)], axis=0) - ndcg(ranks_of(0.0), 10)
    assert effect.standard_error == pytest.approx(np.sqrt(per_user.var(ddof=1) / 200 + np.var(means, ddof=1) / 3))
    assert effect.df == 2


@pytest.mark.parametrize(("metric", "best"), [("ndcg", "a"), ("log_loss", "b")])
def test_the_better_one_of_a_difference_is_named_first(metric: str, best: str) -> None:
    of = Difference(metric=metric, difference=0.3, standard_error=0.1, df=9, users=50, effect_size=1.0, p_value=0.01)
    for one in (("a", "b", of), ("b", "a", of.turned())):
        assert _better_first(one)[0] == best
