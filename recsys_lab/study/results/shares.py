"""How much of the best possible score each row of a block reaches, where the data is a world of which that is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import special

from recsys_lab.data.sources import get_source, source_names
from recsys_lab.data.sources.worlds.known_world import KnownWorld
from recsys_lab.diagnose.shuffle_effect import ratio_of_means
from recsys_lab.ops.query_metrics import metric_values
from recsys_lab.statistics.rule import degrees_of_freedom
from recsys_lab.study.results.block import Block, Share
from recsys_lab.words import titled


def share_of(values: np.ndarray, best: np.ndarray, seed_means: list[float], level: float) -> Share:
    """The ratio of two means over the same users, linearised; between seeds it varies as the row's mean does.

    Args:
        values: (U,) of each user's target, mean over seeds.
        best: (U,) the same of the model that knows the world.
        seed_means: of `values` before, one for each seed; those of a row that counts are all the same.
        level: of the interval, e.g. 0.95.
    """
    ratio = ratio_of_means(values, best, np.arange(len(values)))
    share, over_users = ratio.mean, np.array([ratio.standard_error**2])
    seeds, means = len(seed_means), np.array(seed_means) / best.mean()
    spread = means.var(ddof=1) / seeds if seeds > 1 else 0.0
    over_seeds = [np.array([spread])] if spread > 0 else []
    df = degrees_of_freedom(over_users, len(values), over_seeds, [seeds] * len(over_seeds))
    half = float(special.stdtrit(df, 0.5 + level / 2)[0] * np.sqrt(over_users + spread)[0])
    return Share(share, share - half, share + half)


def find_shares(block: Block) -> list[Share]:
    """One for each of `block.comparison.rows`, in the deciding metric; none where no best score is known."""
    comparison = block.comparison
    metric, cutoff = comparison.deciding, comparison.cutoff
    said = block.evaluation.get("best_possible")
    if not said or titled(metric, cutoff) not in said:
        return []
    values = [row.values[metric] for row in comparison.rows]
    best = _best_values(block.dataset, said, metric, cutoff, len(values[0]))
    level = 1 - comparison.method.alpha
    seed_means = [list(means.values()) for means in block.seed_means]
    return [share_of(of_row, best, means, level) for of_row, means in zip(values, seed_means, strict=True)]


def _best_values(dataset: str, said: Mapping[str, float], metric: str, cutoff: int, targets: int) -> np.ndarray:
    """(U,) what the best model reaches on each test target; where the world is not one of ours, its mean."""
    source = get_source(dataset) if dataset in source_names() else None
    if isinstance(source, KnownWorld) and source.num_users == targets and source.best_scores()["test"] == dict(said):
        return metric_values(metric, cutoff, *source.best_counts(), query=None)
    return np.full(targets, said[titled(metric, cutoff)])
