from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

from recsys_lab.config import from_config, to_config
from recsys_lab.contracts import NegativeSampler
from recsys_lab.losses import negatives
from recsys_lab.losses.negatives import InBatchNegatives, PopularityNegatives, UniformNegatives
from recsys_lab.words import RecsysLabError

COUNTS = torch.tensor([0, 50, 1, 0, 8, 200, 3])  # items 1..6; item 3 has no event
TARGETS = torch.tensor([1, 5, 5, 4])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prepared(sampler: NegativeSampler) -> NegativeSampler:
    sampler.prepare(COUNTS)
    return sampler


def samplers() -> list[type[NegativeSampler]]:
    found = [c for _, c in inspect.getmembers(negatives, inspect.isclass) if issubclass(c, NegativeSampler)]
    return [c for c in found if not c.__name__.startswith("_") and c is not NegativeSampler]


def chi_square(item_ids: Tensor, probabilities: Tensor) -> float:
    """Standard deviations by which the statistic lies above its mean."""
    observed = torch.bincount(item_ids.flatten(), minlength=len(probabilities) + 1)[1:].double()
    expected = probabilities * observed.sum()
    possible = probabilities > 0
    assert not observed[~possible].any()
    observed, expected, degrees = observed[possible], expected[possible], int(possible.sum()) - 1
    return float(((observed - expected).square() / expected).sum() - degrees) / math.sqrt(2 * degrees)


def popularity(alpha: float) -> Tensor:
    weights = torch.where(COUNTS[1:] > 0, COUNTS[1:].double().pow(alpha), 0.0)
    return weights / weights.sum()


@pytest.mark.parametrize("per_position", [False, True])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.75, 1.0])
def test_draws_follow_q_and_log_q_is_the_expected_number_of_draws(alpha: float | None, per_position: bool) -> None:
    if alpha is None:
        sampler: NegativeSampler = UniformNegatives(20_000, per_position)
    else:
        sampler = PopularityNegatives(20_000, alpha, per_position)
    sample = prepared(sampler).sample(TARGETS, generator())
    probabilities = popularity(alpha or 0.0)
    assert sample.item_ids.shape == sample.log_q.shape == ((4, 20_000) if per_position else (20_000,))
    assert sample.item_ids.dtype == torch.int64 and sample.log_q.dtype == torch.float32
    assert abs(chi_square(sample.item_ids, probabilities)) < 5
    log_q = (20_000 * probabilities).log().float()
    torch.testing.assert_close(sample.log_q, log_q[sample.item_ids - 1])
    torch.testing.assert_close(sample.target_log_q, log_q[TARGETS - 1])


def test_a_wrong_distribution_would_be_noticed() -> None:
    sample = prepared(PopularityNegatives(20_000, 0.75)).sample(TARGETS, generator())
    assert chi_square(sample.item_ids, popularity(0.7)) > 5


def test_a_large_catalogue_is_drawn_evenly_to_its_end() -> None:
    num_items = 1_000_000
    sampler = PopularityNegatives(500_000, 0.5)
    sampler.prepare(torch.ones(num_items + 1, dtype=torch.int64))
    item_ids = sampler.sample(TARGETS, generator()).item_ids
    assert item_ids.min() >= 1 and num_items * 0.9999 < item_ids.max() <= num_items
    thousands = (item_ids - 1) // 1000
    assert abs(chi_square(thousands + 1, torch.full((1000,), 1e-3, dtype=torch.float64))) < 5


def test_few_negatives_are_own_and_many_are_shared() -> None:
    assert prepared(UniformNegatives(1)).sample(TARGETS, None).item_ids.shape == (4, 1)
    assert prepared(UniformNegatives(256)).sample(TARGETS, None).item_ids.shape == (256,)
    assert prepared(PopularityNegatives(1)).sample(TARGETS, None).item_ids.shape == (4, 1)
    assert prepared(PopularityNegatives(256)).sample(TARGETS, None).item_ids.shape == (256,)


def test_in_batch_takes_the_targets() -> None:
    sample = prepared(InBatchNegatives()).sample(TARGETS, generator())
    assert sample.item_ids.tolist() == TARGETS.tolist()
    log_q = (4 * popularity(1.0)).log().float()
    torch.testing.assert_close(sample.log_q, log_q[TARGETS - 1])
    torch.testing.assert_close(sample.target_log_q, log_q[TARGETS - 1])


def test_in_batch_subset_is_drawn_without_replacement() -> None:
    targets = torch.tensor([1, 2, 4, 5, 6])
    sampler = prepared(InBatchNegatives(3))
    draws = [sampler.sample(targets, generator(seed)).item_ids for seed in range(200)]
    assert all(len(draw.unique()) == 3 for draw in draws)
    assert set(torch.cat(draws).tolist()) == set(targets.tolist())
    torch.testing.assert_close(
        sampler.sample(targets, generator()).target_log_q, (3 * popularity(1.0)).log().float()[targets - 1]
    )
    assert prepared(InBatchNegatives(99)).sample(targets, generator()).item_ids.tolist() == targets.tolist()


@pytest.mark.parametrize("cls", samplers())
def test_same_seed_same_negatives(cls: type[NegativeSampler]) -> None:
    sampler, targets = cls(num_negatives=8), torch.arange(1, 7).repeat(5)
    prepared(sampler)
    first, again, other = (sampler.sample(targets, generator(seed)).item_ids for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.manual_seed(3)
    implicit = sampler.sample(targets, None).item_ids
    torch.manual_seed(3)
    assert torch.equal(sampler.sample(targets, None).item_ids, implicit)


@pytest.mark.parametrize("cls", samplers())
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_gpu(cls: type[NegativeSampler]) -> None:
    sampler = prepared(cls(num_negatives=8))
    with_cpu_generator = sampler.sample(TARGETS.cuda(), generator())
    assert with_cpu_generator.item_ids.is_cuda and with_cpu_generator.log_q.is_cuda
    assert torch.equal(with_cpu_generator.item_ids.cpu(), sampler.sample(TARGETS, generator()).item_ids)
    assert sampler.sample(TARGETS.cuda(), torch.Generator("cuda").manual_seed(0)).item_ids.is_cuda
    assert sampler.sample(TARGETS.cuda(), None).target_log_q.is_cuda


@pytest.mark.parametrize("cls", samplers())
def test_round_trip_of_the_configuration(cls: type[NegativeSampler]) -> None:
    sampler = cls(num_negatives=7)
    config = to_config(sampler)
    assert config == {"class_path": f"recsys_lab.losses.negatives.{cls.__name__}", "init_args": {"num_negatives": 7}}
    again = from_config(config)
    assert type(again) is cls and again.num_negatives == 7 and to_config(again) == config


@pytest.mark.parametrize("cls", samplers())
def test_bad_use_is_named(cls: type[NegativeSampler]) -> None:
    with pytest.raises(RecsysLabError, match="num_negatives must be at least 1"):
        cls(num_negatives=0)
    with pytest.raises(RecsysLabError, match=f"{cls.__name__}: call prepare"):
        cls(num_negatives=1).sample(TARGETS, None)
    with pytest.raises(RecsysLabError, match="at least 2 items"):
        cls(num_negatives=1).prepare(torch.tensor([0, 5]))


def test_bad_alpha_is_named() -> None:
    for alpha in (-0.1, math.nan, math.inf):
        with pytest.raises(RecsysLabError, match="alpha"):
            PopularityNegatives(alpha=alpha)


def test_a_steep_alpha_stays_finite() -> None:
    sampler = PopularityNegatives(64, alpha=200.0)
    sampler.prepare(COUNTS)
    sample = sampler.sample(TARGETS, generator())
    assert torch.isfinite(sample.log_q).all() and torch.isfinite(sample.target_log_q).all()
    assert (sample.item_ids == 5).all()
