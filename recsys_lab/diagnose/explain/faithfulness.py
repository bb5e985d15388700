"""Are explanations faithful to the model? Events are taken out, or put in, in the order of an explanation and in random
order: what matters must be missed first (Petsiuk et al. 2018, "RISE", on pixels). And an explanation of other weights
must be another one (Adebayo et al. 2018, "Sanity Checks for Saliency Maps").
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from recsys_lab.contracts import Batch
from recsys_lab.diagnose.explain.asked_model import AskedModel
from recsys_lab.diagnose.explain.attribution import Method, attribute
from recsys_lab.models.lightning import NextItemModule

CURVES = ("deletion", "insertion")
POINTS = 10
"""Of a curve at most: after how many events it is looked at."""
RANDOM_ORDERS = 5
FEWEST_EVENTS = 3
CURVE_SEED = 1
"""The stand-ins of the curves are not those by which an explanation was made."""


@dataclass
class Faithfulness:
    """Of N explained lists.

    curves: method -> (N, 2) of `CURVES`, in nats, less the mean of `RANDOM_ORDERS` random orders. nan where the model
        has nothing to say.
    random: (N, 2) of these themselves.
    likeness: method -> (N,) rank correlation with the explanation of the same list by shuffled weights; nan where one
        of both says the same of all events.
    gap: (N,) of integrated gradients. notes: of the methods.
    """

    random: np.ndarray
    curves: dict[Method, np.ndarray] = field(default_factory=dict)
    likeness: dict[Method, np.ndarray] = field(default_factory=dict)
    gap: np.ndarray | None = None
    notes: dict[Method, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One row of a batch and the item to explain."""

    batch: Batch
    item: int


def measure(
    model: NextItemModule,
    cases: Sequence[Case],
    item_counts: Tensor,
    methods: Sequence[Method],
    advance: Callable[[], object] = lambda: None,
    seed: int = 0,
) -> Faithfulness:
    """Explains each case by each method and measures it.

    Args:
        model: in evaluation mode. cases: of `FEWEST_EVENTS` events at least.
        advance: called after each case.
        seed: of the random orders and of the shuffle of the weights.
    """
    draw = np.random.default_rng(seed)
    other = shuffled_weights(model, seed)
    found = Faithfulness(np.full((len(cases), 2), np.nan))
    gaps = np.full(len(cases), np.nan)
    for name in methods:
        found.curves[name] = np.full((len(cases), 2), np.nan)
        found.likeness[name] = np.full(len(cases), np.nan)
    for number, case in enumerate(cases):
        asked = AskedModel(model, case.batch, case.item, item_counts)
        of_other = AskedModel(other, case.batch, case.item, item_counts)
        own = {name: attribute(asked, name) for name in methods}
        orders = [draw.permutation(asked.length) for _ in range(RANDOM_ORDERS)]
        said = [name for name in methods if own[name].events is not None]
        by_order = curves(asked, [*orders, *(own[name].order for name in said)])
        found.random[number] = by_order[:RANDOM_ORDERS].mean(axis=0)
        for name, values in zip(said, by_order[RANDOM_ORDERS:], strict=True):
            found.curves[name][number] = values - found.random[number]
            found.likeness[name][number] = likeness(own[name].events, attribute(of_other, name).events)
        for name, one in own.items():
            found.notes.setdefault(name, one.note if one.events is None else "")
            gaps[number] = one.gap if one.gap is not None else gaps[number]
        advance()
    found.gap = None if np.isnan(gaps).all() else gaps
    return found


def curves(asked: AskedModel, orders: Sequence[np.ndarray]) -> np.ndarray:
    """Orders of the events (L,) -> (orders, 2): what is lost on the mean over the points of a curve where events go in
    this order (deletion), and what is gained where they come to a history of stand-ins (insertion)."""
    asked = AskedModel(
        asked.model, asked.batch, asked.item, asked.item_counts, asked.is_candidate, asked.draws, CURVE_SEED
    )
    points = np.unique(np.linspace(1, asked.length - 1, POINTS).round().astype(int))
    kept = np.ones((len(orders), 2, len(points), asked.length), dtype=bool)
    for row, order in enumerate(orders):
        for place, point in enumerate(points):
            kept[row, 0, place, order[:point]] = False
            kept[row, 1, place, order[point:]] = False
    values = asked.keeping(torch.from_numpy(kept.reshape(-1, asked.length))).numpy().reshape(kept.shape[:3])
    means: np.ndarray = values.mean(axis=2)
    return np.stack([asked.whole - means[:, 0], means[:, 1] - asked.nothing], axis=1)


def likeness(a: np.ndarray | None, b: np.ndarray | None) -> float:
    """Spearman's rank correlation; nan where one is the same everywhere."""
    if a is None or b is None or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)


def shuffled_weights(model: NextItemModule, seed: int = 0) -> NextItemModule:
    """A copy whose weights are shuffled within each tensor: as large as before, and nothing of what was learned. Row 0
    of a table, which is padding, stays."""
    draw = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    padded = {id(m.weight) for m in other.modules() if isinstance(m, nn.Embedding) and m.padding_idx is not None}
    with torch.no_grad():
        for parameter in other.parameters():
            rows = parameter[1:] if id(parameter) in padded else parameter[:]
            order = torch.randperm(rows.numel(), generator=draw).to(rows.device)
            rows.copy_(rows.reshape(-1)[order].view(rows.shape))
    return other.eval()


def chosen(number: int, most: int, seed: int = 0) -> np.ndarray:
    """Which of `number` are looked at: at most `most`, drawn, ascending."""
    draw = np.random.default_rng(seed)
    return np.arange(number) if number <= most else np.sort(draw.choice(number, most, replace=False))
