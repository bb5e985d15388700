"""Ranking metrics of queries with several targets, such as baskets and the next k events.

Each target is ranked among all candidates of its query, the query's other targets among them. As in `rank_metrics.py`
all orders of items with equal scores are equally likely, and each metric is its exact expectation over them (McSherry &
Najork 2008); two targets of a query have the same score where as many candidates are above them. A target that is no
candidate counts among the T targets of its query and is never found.

With settled ties (`conservative`, `optimistic`) each target has one place, found for it alone.

Args of each function: greater, ties: (N,) int64 as in `rank_metrics.py`, the targets of a query one after the other;
first: (Q,) int64, where the targets of each query begin, ascending from 0; k: the cutoff. Each returns (Q,) float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from recsys_lab.config import allowing, find_class
from recsys_lab.ops import rank_metrics
from recsys_lab.ops.rank_metrics import RANKING_METRICS, RankMetric, ranking_values
from recsys_lab.words import RecsysLabError, resolve_names

QueryMetric = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def recall(greater: np.ndarray, ties: np.ndarray, first: np.ndarray, k: int) -> np.ndarray:
    """Share of the T targets among the first k (Manning, Raghavan & Schütze 2008, section 8.3): at most k / T."""
    return _sums(rank_metrics.hit_rate(greater, ties, k), first) / _counts(greater, first)


def hit_rate(greater: np.ndarray, ties: np.ndarray, first: np.ndarray, k: int) -> np.ndarray:
    """Chance that any of the targets is among the first k."""
    best = _Best(greater, ties, first)
    found = np.zeros(len(first))
    for _, chance in best.places(k):
        found += chance
    return found


def mrr(greater: np.ndarray, ties: np.ndarray, first: np.ndarray, k: int) -> np.ndarray:
    """Expected 1 / place of the first target in the list, within the first k (Voorhees 1999)."""
    best = _Best(greater, ties, first)
    found = np.zeros(len(first))
    for place, chance in best.places(k):
        found += chance / place
    return found


def ndcg(greater: np.ndarray, ties: np.ndarray, first: np.ndarray, k: int) -> np.ndarray:
    """Expected sum of 1 / log2(place + 1) over the targets within the first k, divided by that of the best list: all T
    targets first, or k of them (Järvelin & Kekäläinen 2002)."""
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))  # (k,)
    return _sums(rank_metrics.ndcg(greater, ties, k), first) / ideal[np.minimum(_counts(greater, first), k) - 1]


def average_precision(greater: np.ndarray, ties: np.ndarray, first: np.ndarray, k: int) -> np.ndarray:
    """`map`: sum of the precision at the place of each target within the first k, divided by min(T, k): the best list
    has 1 (Manning, Raghavan & Schütze 2008, section 8.4; cut at k as in McFee et al. 2012, "The Million Song Dataset
    Challenge").

    The precision at a target's place counts the targets above it and those of its own score that happen to stand before
    it: of m such among its g tied items, it has on average (m - 1) (j - 1) / (g - 1) before it when it is the j-th.
    """
    above, own = _targets_above(greater, first)  # (N,), (N,)
    group = ties + 1
    own = np.where(own > group, 1, own)  # settled ties
    shown = np.clip(k - np.minimum(greater, k), 0, group)  # places of the group within the first k
    start = np.minimum(greater, k)
    harmonic = np.append(0.0, np.cumsum(1.0 / np.arange(1, k + 1)))  # (k + 1,)
    inverse = harmonic[start + shown] - harmonic[start]  # (N,) sum of 1 / place
    before = shown - (start + 1) * inverse  # sum of (j - 1) / place
    share = (own - 1) / np.maximum(group - 1, 1)
    precision = ((above + 1) * inverse + share * before) / group
    return _sums(precision, first) / np.minimum(_counts(greater, first), k)


QUERY_METRICS: dict[str, QueryMetric] = {
    "hit_rate": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
    "recall": recall,
    "map": average_precision,
}


ONLY_OF_SEVERAL = ("recall", "map")
"""With one target they are hit_rate and mrr."""


OWN: dict[str, RankMetric] = {}
"""Metrics of other packages that `metric_names` was given, by their names."""


def metric_names(asked: Sequence[str]) -> list[str]:
    """Names of metrics as they are; of a class, such as `my_package.MyMetric`, the name of its metric, which is known
    from then on.

    Args:
        asked: as the user typed them, so that a class is trusted.

    Raises:
        RecsysLabError: for an unknown name; for what is no `RankMetric`; where two have one name.
    """
    names = []
    for text in asked:
        if "." in text:
            with allowing([text]):
                metric = find_class(text, (RankMetric,), "--metrics")()
            others = [one for one in OWN.values() if _called(one) != _called(metric)]  # a module may be loaded again
            check_own_names([*others, metric])
            OWN[metric.name] = metric
            names.append(metric.name)
        else:
            names += resolve_names([text], [*QUERY_METRICS, *OWN], "metric")
    return names


def _called(metric: RankMetric) -> str:
    return f"{type(metric).__module__}.{type(metric).__name__}"


def check_own_names(metrics: Sequence[RankMetric]) -> None:
    """Raises RecsysLabError where one has the name of another, or of a metric that is always there."""
    taken = {**dict.fromkeys([*QUERY_METRICS, "auc", "mean_rank"], "recsys_lab")}
    for metric in metrics:
        own = _called(metric)
        if metric.name in taken:
            raise RecsysLabError(
                f"{own}: its name {metric.name!r} is that of a metric of {taken[metric.name]}: define another `name`"
            )
        taken[metric.name] = own


def own_values(
    metric: RankMetric, greater: np.ndarray, ties: np.ndarray, query: np.ndarray | None, k: int
) -> np.ndarray:
    """(N,) of single targets, where `query` is None, else (Q,) means over the targets of each query."""
    values = metric(greater, ties, k)
    if query is None:
        return values
    first = first_of(query)
    return _sums(values, first) / _counts(values, first)


def first_of(query: np.ndarray) -> np.ndarray:
    """(N,) which query each target is of, those of a query together -> (Q,) where each begins."""
    return np.flatnonzero(np.diff(query, prepend=query[:1] - 1))


def metric_values(metric: str, k: int, greater: np.ndarray, ties: np.ndarray, query: np.ndarray | None) -> np.ndarray:
    """One metric of each unit: (N,) of single targets, where `query` is None, else (Q,) of queries.

    Raises:
        RecsysLabError: for recall or map of single targets.
    """
    if metric in OWN:
        return own_values(OWN[metric], greater, ties, query, k)
    if query is not None:
        return QUERY_METRICS[metric](greater, ties, first_of(query), k)
    if metric in ONLY_OF_SEVERAL:
        same = {"recall": "hit_rate", "map": "mrr"}[metric]
        raise RecsysLabError(f"{metric} is of queries with several targets; with one target it is {same}: ask for that")
    return RANKING_METRICS[metric](greater, ties, k)


def unit_metrics(
    greater: np.ndarray,
    ties: np.ndarray,
    num_candidates: np.ndarray,
    query: np.ndarray | None,
    cutoffs: Sequence[int],
    own: Sequence[RankMetric] = (),
) -> dict[str, np.ndarray]:
    """All metrics of each unit, as `ranking_values` or `query_values` gives them, and those of one's own."""
    if query is not None and not len(query):
        return {}
    more = {f"{one.name}@{k}": own_values(one, greater, ties, query, k) for one in own for k in cutoffs}
    if query is None:
        return ranking_values(greater, ties, num_candidates, cutoffs) | more
    return query_values(greater, ties, num_candidates, first_of(query), cutoffs) | more


def query_values(
    greater: np.ndarray, ties: np.ndarray, num_candidates: np.ndarray, first: np.ndarray, cutoffs: Sequence[int]
) -> dict[str, np.ndarray]:
    """(Q,) each: all `QUERY_METRICS` at each cutoff; `auc` and `mean_rank`, means over the targets of a query.

    Args:
        num_candidates: (N,) items that were ranked, the target included.
    """
    values = {f"{name}@{k}": f(greater, ties, first, k) for name, f in QUERY_METRICS.items() for k in cutoffs}
    for name, of_targets in ranking_values(greater, ties, num_candidates, ()).items():
        values[name] = _sums(of_targets, first) / _counts(greater, first)
    return values


class _Best:
    """Of each query the targets of the best score: m of the g items that have it, below `start` candidates."""

    def __init__(self, greater: np.ndarray, ties: np.ndarray, first: np.ndarray) -> None:
        self.start = np.minimum.reduceat(greater, first)
        is_best = greater == np.repeat(self.start, _counts(greater, first))
        self.group = np.maximum.reduceat(np.where(is_best, ties, 0), first) + 1
        self.targets = np.minimum(np.add.reduceat(is_best.astype(np.int64), first), self.group)

    def places(self, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(Q,) a place in the list, and the chance that the first target stands there; 0 beyond the first k."""
        none_before = np.ones(len(self.start))
        for j in range(1, k + 1):
            none_here = np.clip((self.group - self.targets - (j - 1)) / np.maximum(self.group - (j - 1), 1), 0, 1)
            yield self.start + j, np.where(self.start + j <= k, none_before * (1 - none_here), 0.0)
            none_before = none_before * none_here


def _targets_above(greater: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) targets of the same query with a better score, and those with the same one, itself included."""
    query = np.repeat(np.arange(len(first)), _counts(greater, first))
    order = np.lexsort((greater, query))
    query, ordered = query[order], greater[order]
    is_new = (np.diff(query, prepend=-1) != 0) | (np.diff(ordered, prepend=-1) != 0)
    begin = np.flatnonzero(is_new)
    size = np.diff(np.append(begin, len(order)))
    above, own = np.empty(len(order), dtype=np.int64), np.empty(len(order), dtype=np.int64)
    above[order] = np.repeat(begin - first[query[begin]], size)
    own[order] = np.repeat(size, size)
    return above, own


def _counts(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(Q,) T of each query."""
    found: np.ndarray = np.diff(np.append(first, len(values)))
    return found


def _sums(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.add.reduceat(values, first)
    return found
