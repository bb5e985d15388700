#!/usr/bin/env python3
"""What lists lose and gain when they are re-ranked: quality of the test targets against diversity and popularity.

    scripts/rerank_tradeoff.py runs/ml-100k/sasrec/seed0 --field genres

Lists of 100 of each test target's history are made once, from the checkpoint; each way takes 10 of them. Differences of
ndcg@10 from the list as it is are paired over the users, with 95 % intervals of a bootstrap over users. One run says
what re-ranking does to this model's lists, and nothing of other seeds.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.evaluation import list_metrics
from recsys_lab.evaluation.list_facts import item_features
from recsys_lab.runs.saved import open_saved_data
from recsys_lab.serve import Predictor, item_frame, mmr, popularity_cap, quota
from recsys_lab.statistics.resampling import bootstrap_interval, bootstrap_means

TOP, FROM = 10, 100


def ways(items: pl.DataFrame, field: str, known: pl.DataFrame) -> dict[str, Any]:
    """Name -> lists of 100 -> lists of 10. known: `item_frame`."""
    found: dict[str, Any] = {"as it is": lambda lists: lists.filter(pl.col("rank") <= TOP)}
    for weight in (0.1, 0.3, 0.5):
        found[f"MMR by {field}, {weight:g}"] = functools.partial(mmr, k=TOP, items=items, by=field, weight=weight)
    if "vector" in known.columns:
        for weight in (0.1, 0.3, 0.5):
            found[f"MMR by the model's vectors, {weight:g}"] = functools.partial(
                mmr, k=TOP, items=known, by="vector", weight=weight
            )
    for number in (5, 3):
        found[f"at most {number} of each of {field}"] = functools.partial(
            quota, k=TOP, items=items, at_most=number, by=field
        )
    for number in (7, 4, 1):
        found[f"at most {number} of the head"] = functools.partial(popularity_cap, k=TOP, items=known, at_most=number)
    return found


def test_histories(data: Any) -> tuple[dict[int, list[Any]], dict[int, list[int]], np.ndarray, np.ndarray]:
    """Of each test target: items and times before it; the targets' rows, and their users."""
    processed, test = data.processed, data.split_result.test
    raw, times = processed.item_ids_raw.to_list(), np.asarray(processed.timestamps)
    items, offsets = np.asarray(processed.item_ids), np.asarray(processed.offsets)
    spans = [(int(offsets[user]), int(stop)) for user, stop in zip(test.user_index, test.position, strict=True)]
    histories = {place: [raw[row - 1] for row in items[a:b]] for place, (a, b) in enumerate(spans)}
    seconds = {place: times[a:b].tolist() for place, (a, b) in enumerate(spans)}
    return histories, seconds, items[test.position], test.user_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--field", required=True, help="column of the item table: names or lists of names")
    parser.add_argument("--data_dir")
    args = parser.parse_args()
    predictor, data = Predictor.load(args.run), open_saved_data(args.run, args.data_dir).data
    histories, times, targets, users = test_histories(data)
    whole = predictor.recommend(histories, FROM, times=times)
    table, known = data.processed.item_table, item_frame(predictor)
    features, counts = item_features(table, [args.field]), data.item_counts.numpy()
    print(f"| {TOP} of {FROM} | ndcg@{TOP} | difference | 95 % | diversity | coverage | gini | training events |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    before = None
    for name, way in ways(table.select("item_id", args.field), args.field, known).items():
        found = way(whole).filter(pl.col("rank").is_not_null())
        lists = np.zeros((len(targets), TOP), dtype=np.int64)
        lists[found["user"].to_numpy(), found["rank"].to_numpy() - 1] = predictor.item_ids.rows(
            found["item_id"], "lists"
        )
        hit = lists == targets[:, None]
        value = (hit / np.log2(np.arange(2, TOP + 2))).sum(axis=1)
        exposed = list_metrics.exposure(lists, len(counts))
        of_lists = (
            np.nanmean(list_metrics.intra_list_diversity(lists, features)),
            list_metrics.coverage(exposed, counts > 0),
            list_metrics.gini(exposed, counts > 0),
        )
        row = f"| {name} | {value.mean():.4f} |"
        if before is None:
            before, row = value, f"{row} | |"
        else:
            _, user = np.unique(users, return_inverse=True)
            number = np.bincount(user).astype(np.float64)
            sums = np.bincount(user, weights=value - before)[:, None]
            ((low, high),) = bootstrap_interval(bootstrap_means(sums, number, 5000), sums, number)
            row += f" {(value - before).mean():+.4f} | [{low:+.4f}, {high:+.4f}] |"
        print(
            row,
            " | ".join(f"{one:.3f}" for one in of_lists),
            f"| {list_metrics.average_popularity(exposed, counts):.0f} |",
        )


if __name__ == "__main__":
    main()
