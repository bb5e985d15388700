"""What ranking among sampled items would have said: the expectation of a sampled metric, from the full ranks of runs.

    python scripts/sampled_metrics.py runs/ml-100k runs/ml-100k/baselines

With m negatives drawn uniformly without replacement from the n - 1 other candidates of a target of full rank r, the
number that outranks it is hypergeometric; its expectation needs no drawing. Prints each model's place under both, and
Kendall's tau between the two orders (Krichene & Rendle 2020, "On Sampled Metrics for Item Recommendation").
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy import stats

from recsys_lab.runs.finished import find_runs


def expected_sampled_ndcg(rank: np.ndarray, num_candidates: np.ndarray, k: int, negatives: int) -> np.ndarray:
    """(N,) mean places among all candidates (inf = miss), (N,) candidates -> (N,) expected ndcg@k.

    A mean place of .5 is the mean of both sides. Where many items are tied this is an approximation."""
    values = np.zeros(len(rank))
    hit = np.isfinite(rank)
    others = num_candidates[hit].astype(np.int64) - 1
    place = np.arange(min(k, negatives + 1))[:, None]
    for round_tie in (np.floor, np.ceil):
        better = round_tie(rank[hit]).astype(np.int64) - 1
        drawn = stats.hypergeom.pmf(place, others, better, np.minimum(negatives, others))  # (k, N)
        values[hit] += 0.5 * (drawn / np.log2(place + 2)).sum(axis=0)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--negatives", type=int, default=100)
    parser.add_argument("--cutoff", type=int, default=10)
    chosen = parser.parse_args()
    rows = []
    for run in find_runs(chosen.runs)[0]:
        rank, candidates = run.ranks["rank"].to_numpy(), run.ranks["num_candidates"].to_numpy()
        full = float(run.values("ndcg", chosen.cutoff).mean())
        sampled = float(expected_sampled_ndcg(rank, candidates, chosen.cutoff, chosen.negatives).mean())
        rows.append((f"{run.variant} seed{run.manifest.get('seed')}", full, sampled))
    rows.sort(key=lambda row: -row[1])
    places = {name: i + 1 for i, (name, _, _) in enumerate(sorted(rows, key=lambda row: -row[2]))}
    print(f"| run | ndcg@{chosen.cutoff} | place | ndcg@{chosen.cutoff}_sampled{chosen.negatives} | place |")
    print("|---|---|---|---|---|")
    for i, (name, full, sampled) in enumerate(rows):
        print(f"| {name} | {full:.4f} | {i + 1} | {sampled:.4f} | {places[name]} |")
    tau = stats.kendalltau([row[1] for row in rows], [row[2] for row in rows]).statistic
    if not math.isnan(tau):
        print(f"\nKendall's tau between the two orders: {tau:.2f}")


if __name__ == "__main__":
    main()
