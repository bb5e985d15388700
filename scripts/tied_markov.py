"""Plain Markov counts under two rules for ties, computed without the package: numpy and polars only.

    python scripts/tied_markov.py PATH/interactions.parquet [...]

Leave-one-out: each user's last event is the target, the one before it the validation event; all others train. An item's
score is how often it followed the item before the target in training. Candidates are the items with a training event
that the user has not had. Prints hit_rate@10 and ndcg@10 of the mean rank (a tie counts half a place), and their exact
expectation over all orders of the ties. The second is what `recsys-lab fit --model Markov --model.backoff 0` reports.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

K = 10


def sequences(path: Path) -> list[np.ndarray]:
    """Each user's items in order: by `order` where the file has it, else by time; ties as the file has them."""
    table = pl.read_parquet(path)
    by = "order" if "order" in table.columns else "timestamp"
    table = table.with_columns(pl.col("item_id").cast(pl.String).rank("dense").cast(pl.Int64).alias("item"))
    table = table.sort(by, maintain_order=True)
    return [items.to_numpy() for items in table.group_by("user_id", maintain_order=True).agg("item")["item"]]


def markov(users: list[np.ndarray]) -> dict[str, float]:
    """Means over the users with at least three events."""
    users = [items for items in users if len(items) >= 3]
    width = 1 + max(int(items.max()) for items in users)
    trained, followers = np.zeros(width, dtype=bool), [dict[int, int]() for _ in range(width)]
    for items in users:
        part = items[:-2]
        trained[part] = True
        for first, second in zip(part[:-1].tolist(), part[1:].tolist(), strict=True):
            followers[first][second] = followers[first].get(second, 0) + 1
    hit_mean = hit_expected = ndcg_mean = ndcg_expected = 0.0
    for items in users:
        history, target = items[:-1], int(items[-1])
        allowed = trained.copy()
        allowed[history] = False
        if not allowed[target]:
            continue
        scores = np.zeros(width)
        for item, count in followers[int(history[-1])].items():
            scores[item] = count
        above = int((scores[allowed] > scores[target]).sum())
        others = int((scores[allowed] == scores[target]).sum()) - 1
        rank = 1 + above + others / 2
        hit_mean += rank <= K
        ndcg_mean += 1 / np.log2(rank + 1) if rank <= K else 0.0
        places = np.arange(above + 1, above + others + 2)  # each as likely
        hit_expected += (places <= K).mean()
        ndcg_expected += np.where(places <= K, 1 / np.log2(places + 1.0), 0.0).mean()
    sums = {"hit_mean": hit_mean, "ndcg_mean": ndcg_mean, "hit_expected": hit_expected, "ndcg_expected": ndcg_expected}
    return {"users": len(users), **{name: value / len(users) for name, value in sums.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    print("| log | users | of the mean rank | expected over ties |\n|---|---|---|---|")
    for path in parser.parse_args().files:
        found = markov(sequences(path))
        mean, expected = (f"{found[f'hit_{way}']:.4f} / {found[f'ndcg_{way}']:.4f}" for way in ("mean", "expected"))
        print(f"| {path.parent.name} | {found['users']:,.0f} | {mean} | {expected} |", flush=True)


if __name__ == "__main__":
    main()
