"""Samplers of negatives: uniform, popularity^alpha and in-batch.

A sampler only draws, and only candidates: items with a training event. Negatives may collide with the target of a
position, and each loss says what it does then. `log_q` is the log of how often an item is expected among the C
negatives: C * q(item), q being the probability of one draw. Sampled softmax subtracts it (Bengio & Senecal 2008,
"Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model").

Numbers are drawn on the generator's device where one is given, otherwise on that of the targets from torch's global
generator. A CPU generator hence draws the same negatives for targets on any device. Nothing on that device is float64:
not every one has it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recsys_lab.arguments import Count, NotNegative
from recsys_lab.contracts import Negatives, NegativeSampler, candidate_ids
from recsys_lab.ops.processes import gather_rows
from recsys_lab.words import RecsysLabError

_OWN_DRAWS_UP_TO = 16


class _CountedSampler(NegativeSampler):
    """Common to all: keeps the candidates, and log q of one draw for every item, on the device it is used on."""

    def __init__(self) -> None:
        self._log_q: Tensor | None = None  # (V,) float32; -inf for items that are no candidates
        self._candidates: Tensor | None = None  # (C,) int64; None = all items
        self._num_candidates = 0

    def prepare(self, item_counts: Tensor) -> None:
        """item_counts: (V,) events per item in the training part.

        Raises:
            RecsysLabError: if fewer than 2 items have any, so that nothing could be a negative.
        """
        ids = candidate_ids(item_counts)
        if len(ids) < 2:
            raise RecsysLabError(
                f"negatives need at least 2 items with training events to draw from; there are {len(ids)}"
            )
        log_q = torch.log_softmax(self._log_weights(item_counts[ids].cpu().double()), dim=0)  # (C,)
        self._log_q = torch.full(item_counts.shape, -math.inf, device=ids.device)
        self._log_q[ids] = log_q.float().to(ids.device)
        self._candidates = ids if len(ids) < len(item_counts) - 1 else None
        self._num_candidates = len(ids)
        self._prepare_draws(log_q)

    def _log_weights(self, counts: Tensor) -> Tensor:
        """(C,) float64 counts of the candidates, at least 1 each -> log q up to a constant."""
        raise NotImplementedError

    def _prepare_draws(self, log_q: Tensor) -> None:
        """log_q: (C,) float64 on the CPU, of the candidates."""

    def _prepared(self, device: torch.device) -> Tensor:
        if self._log_q is None:
            raise RecsysLabError(f"{type(self).__name__}: call prepare(item_counts) before the first sample()")
        if self._log_q.device != device:  # moves once, at the first batch on a new device
            self._log_q = self._log_q.to(device)
        return self._log_q

    def _negatives(self, item_ids: Tensor, target_ids: Tensor) -> Negatives:
        log_q = self._prepared(target_ids.device)
        shift = math.log(item_ids.shape[-1])
        return Negatives(item_ids, log_q[item_ids] + shift, log_q[target_ids] + shift)


class _DrawingSampler(_CountedSampler):
    """`num_negatives` independent draws, with replacement, for each position or shared by the batch."""

    def __init__(self, num_negatives: int, per_position: bool | None) -> None:
        super().__init__()
        self.num_negatives = num_negatives
        self.per_position = num_negatives <= _OWN_DRAWS_UP_TO if per_position is None else per_position

    def sample(self, target_ids: Tensor, generator: torch.Generator | None = None) -> Negatives:
        """target_ids (N,) -> item_ids (num_negatives,) shared, or (N, num_negatives)."""
        shape = (target_ids.shape[0], self.num_negatives) if self.per_position else (self.num_negatives,)
        device = target_ids.device if generator is None else generator.device
        self._prepared(device)
        places = self._draw(shape, device, generator)
        if self._candidates is None:
            return self._negatives((places + 1).to(target_ids.device), target_ids)
        self._candidates = self._candidates.to(device)
        return self._negatives(self._candidates[places].to(target_ids.device), target_ids)

    def _draw(self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
        """Places 0..C-1 among the candidates, of the given shape, on `device`."""
        raise NotImplementedError


class UniformNegatives(_DrawingSampler):
    """Every candidate is as likely.

    Args:
        num_negatives: C.
        per_position: True = each position has negatives of its own, as in SASRec and BPR. False = one draw shared by
            the batch: scoring them is one matrix product, which allows many more. None = own up to 16, shared above.
    """

    def __init__(self, num_negatives: Count = 256, per_position: bool | None = None) -> None:
        super().__init__(num_negatives, per_position)

    def _log_weights(self, counts: Tensor) -> Tensor:
        return torch.zeros_like(counts)

    def _draw(self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
        return torch.randint(self._num_candidates, shape, generator=generator, device=device)


class PopularityNegatives(_DrawingSampler):
    """q(item) ~ count^alpha, counts being events in the training part.

    alpha = 0 is uniform, 1 is the items' own frequency, 0.75 as in Mikolov et al. 2013, "Distributed Representations
    of Words and Phrases and their Compositionality".

    Args:
        num_negatives: C.
        alpha: at least 0.
        per_position: as in `UniformNegatives`.
    """

    def __init__(self, num_negatives: Count = 256, alpha: NotNegative = 0.75, per_position: bool | None = None) -> None:
        super().__init__(num_negatives, per_position)
        self.alpha = alpha
        self._cumulative: Tensor | None = None  # (C,) int64, ends with 2^62

    def _prepare_draws(self, log_q: Tensor) -> None:
        cumulative = log_q.exp().cumsum(0)
        self._cumulative = (cumulative / cumulative[-1] * 2.0**62).round().long()

    def _log_weights(self, counts: Tensor) -> Tensor:
        return self.alpha * counts.log()

    def _draw(self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
        # Not torch.multinomial: it takes at most 2^24 items and a (rows x items) table of weights per call. Whole
        # numbers of 62 bits, since the 24 of a float cannot tell apart the items of a large catalogue; in two draws,
        # since not every device draws beyond 2^31.
        assert self._cumulative is not None
        self._cumulative = self._cumulative.to(device)
        high, low = torch.randint(1 << 31, (2, *shape), generator=generator, device=device)
        return torch.searchsorted(self._cumulative, (high << 31) | low, right=True)


class InBatchNegatives(_CountedSampler):
    """The targets of the batch, so that items come by their popularity and nothing is drawn (Hidasi et al. 2016).

    A position meets its own target among them, which is a collision as any other. `log_q` takes an item's share of the
    training events as its chance to be a target.

    Args:
        num_negatives: take a random subset of that many targets; None = all N, which makes an (N, N) matrix of scores.
        across_processes: where several processes train together, the targets of all their batches. Then N processes
            take the step of one with N times the batch. Otherwise each has those of its own batch only.
    """

    def __init__(self, num_negatives: Count | None = None, across_processes: bool = False) -> None:
        super().__init__()
        self.num_negatives = num_negatives
        self.across_processes = across_processes

    def _log_weights(self, counts: Tensor) -> Tensor:
        return counts.log()

    def sample(self, target_ids: Tensor, generator: torch.Generator | None = None) -> Negatives:
        """target_ids (N,) -> item_ids (N,) or (min(N, num_negatives),), shared by all positions. N is that of all
        processes with `across_processes`."""
        item_ids = target_ids
        if self.across_processes:
            item_ids = gather_rows(target_ids[:, None]).squeeze(1).to(target_ids.device)
        num_targets = item_ids.shape[0]
        if self.num_negatives is not None and self.num_negatives < num_targets:
            device = target_ids.device if generator is None else generator.device
            chosen = torch.randperm(num_targets, generator=generator, device=device)[: self.num_negatives]
            item_ids = item_ids[chosen.to(target_ids.device)]
        return self._negatives(item_ids, target_ids)
