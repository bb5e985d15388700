"""Samplers of negatives: uniform, popularity^alpha and in-batch.

A sampler only draws. Negatives may collide with the target of a position, and each loss says what it does then.
`log_q` is the log of how often an item is expected among the C negatives: C * q(item), q being the probability of one
draw. Sampled softmax subtracts it (Bengio & Senecal 2008, "Adaptive Importance Sampling to Accelerate Training of a
Neural Probabilistic Language Model").

Numbers are drawn on the generator's device where one is given, otherwise on that of the targets from torch's global
generator. A CPU generator hence draws the same negatives for targets on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recsys_lab.arguments import Count, NotNegative
from recsys_lab.schema import Negatives, NegativeSampler, RecsysLabError

_OWN_DRAWS_UP_TO = 16


class _CountedSampler(NegativeSampler):
    """Common to all: keeps log q of one draw for every item (num_items + 1,), on the device it is used on."""

    def __init__(self) -> None:
        self._log_q: Tensor | None = None

    def prepare(self, item_counts: Tensor) -> None:
        """item_counts: (V,) events per item in the training part.

        Raises:
            RecsysLabError: if there are fewer than 2 items, so that nothing could be a negative.
        """
        if item_counts.ndim != 1 or item_counts.shape[0] < 3:
            raise RecsysLabError(
                f"negatives need at least 2 items to draw from; item_counts has the shape {tuple(item_counts.shape)}"
            )
        log_q = torch.log_softmax(self._log_weights(item_counts[1:].double().clamp(min=1)), dim=0)  # (num_items,)
        self._log_q = torch.cat([log_q.new_zeros(1), log_q])

    def _log_weights(self, counts: Tensor) -> Tensor:
        """(num_items,) counts, at least 1 each -> log q up to a constant."""
        raise NotImplementedError

    def _prepared(self, device: torch.device) -> Tensor:
        if self._log_q is None:
            raise RecsysLabError(f"{type(self).__name__}: call prepare(item_counts) before the first sample()")
        self._log_q = self._log_q.to(device)  # moves once, at the first batch on a new device
        return self._log_q

    def _negatives(self, item_ids: Tensor, target_ids: Tensor) -> Negatives:
        log_q = self._prepared(target_ids.device)
        shift = math.log(item_ids.shape[-1])
        return Negatives(item_ids, (log_q[item_ids] + shift).float(), (log_q[target_ids] + shift).float())


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
        return self._negatives(self._draw(shape, device, generator).to(target_ids.device), target_ids)

    def _draw(self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
        """Item ids of the given shape, on `device`."""
        raise NotImplementedError


class UniformNegatives(_DrawingSampler):
    """Every item is as likely.

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
        num_rows = len(self._prepared(device))
        return torch.randint(1, num_rows, shape, generator=generator, device=device)


class PopularityNegatives(_DrawingSampler):
    """q(item) ~ count^alpha, counts being events in the training part; an item without any counts as one event.

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
        self._cumulative: Tensor | None = None  # (num_items,) float64, ends with 1

    def prepare(self, item_counts: Tensor) -> None:
        super().prepare(item_counts)
        assert self._log_q is not None
        cumulative = self._log_q[1:].exp().cumsum(0)
        self._cumulative = cumulative / cumulative[-1]

    def _log_weights(self, counts: Tensor) -> Tensor:
        return self.alpha * counts.log()

    def _draw(self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
        # Not torch.multinomial: it takes at most 2^24 items and a (rows x items) table of weights per call. Doubles,
        # since the 24 bits of a float cannot tell apart the items of a large catalogue.
        self._prepared(device)
        assert self._cumulative is not None
        self._cumulative = self._cumulative.to(device)
        points = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)  # in [0, 1)
        return torch.searchsorted(self._cumulative, points, right=True) + 1


class InBatchNegatives(_CountedSampler):
    """The targets of the batch, so that items come by their popularity and nothing is drawn (Hidasi et al. 2016).

    A position meets its own target among them, which is a collision as any other. `log_q` takes an item's share of the
    training events as its chance to be a target (an item without any counts as one event).

    Args:
        num_negatives: take a random subset of that many targets; None = all N, which makes an (N, N) matrix of scores.
    """

    def __init__(self, num_negatives: Count | None = None) -> None:
        super().__init__()
        self.num_negatives = num_negatives

    def _log_weights(self, counts: Tensor) -> Tensor:
        return counts.log()

    def sample(self, target_ids: Tensor, generator: torch.Generator | None = None) -> Negatives:
        """target_ids (N,) -> item_ids (N,) or (min(N, num_negatives),), shared by all positions."""
        item_ids, num_targets = target_ids, target_ids.shape[0]
        if self.num_negatives is not None and self.num_negatives < num_targets:
            device = target_ids.device if generator is None else generator.device
            chosen = torch.randperm(num_targets, generator=generator, device=device)[: self.num_negatives]
            item_ids = target_ids[chosen.to(target_ids.device)]
        return self._negatives(item_ids, target_ids)
