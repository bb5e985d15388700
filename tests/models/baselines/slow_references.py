"""Each baseline once more, event by event in plain Python, from the definitions alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np

from recsys_lab.data.datamodule import SequenceDataModule


def training_histories(data: SequenceDataModule) -> list[list[int]]:
    """Item ids of each user's training events, oldest first."""
    offsets, stop, items = data.processed.offsets, data.split_result.train_stop, data.processed.item_ids
    return [[int(i) for i in items[offsets[u] : stop[u]]] for u in range(data.processed.num_users)]


def test_cases(data: SequenceDataModule) -> list[tuple[int, list[int]]]:
    """(user, whole history before the test target), in the order of the split's targets."""
    offsets, items, test = data.processed.offsets, data.processed.item_ids, data.split_result.test
    return [
        (int(u), [int(i) for i in items[offsets[u] : p]]) for u, p in zip(test.user_index, test.position, strict=True)
    ]


test_cases.__test__ = False  # type: ignore[attr-defined]  # a function about test targets, not a test


def markov(histories: list[list[int]], history: list[int], num_rows: int, backoff: float) -> list[float]:
    scores = [0.0] * num_rows
    total = sum(len(h) for h in histories)
    for h in histories:
        for a, b in zip(h, h[1:], strict=False):
            if a == history[-1]:
                scores[b] += 1
        for item in h:
            scores[item] += backoff / total
    return scores


def item_knn(
    histories: list[list[int]], items: set[int], num_rows: int, shrinkage: float, num_neighbours: int | None
) -> list[float]:
    users_of: dict[int, set[int]] = defaultdict(set)
    for user, h in enumerate(histories):
        for item in h:
            users_of[item].add(user)
    scores = [0.0] * num_rows
    for i in items:
        similar = []
        for j in range(1, num_rows):
            shared = len(users_of[i] & users_of[j])
            if j != i and shared:
                similar.append((shared / (math.sqrt(len(users_of[i]) * len(users_of[j])) + shrinkage), j))
        similar.sort(key=lambda pair: (-pair[0], pair[1]))
        for value, j in similar[:num_neighbours]:
            scores[j] += value
    return scores


def ease_weights(histories: list[list[int]], num_items: int, regularization: float) -> np.ndarray:
    """Column by column: ridge regression of item j on all the others, which is what the zero diagonal means."""
    x = np.zeros((len(histories), num_items))
    for user, h in enumerate(histories):
        x[user, [i - 1 for i in h]] = 1.0
    weights = np.zeros((num_items, num_items))
    for j in range(num_items):
        others = [i for i in range(num_items) if i != j]
        left = x[:, others].T @ x[:, others] + regularization * np.eye(num_items - 1)
        weights[others, j] = np.linalg.solve(left, x[:, others].T @ x[:, j])
    return weights


def session_knn(
    sessions: list[list[int]],  # newest first
    own: int | None,
    window: list[int],
    num_rows: int,
    num_neighbours: int,
    sample_size: int,
) -> list[float]:
    """With `div` for both decays, as the authors' code goes about it."""
    weight = {item: (position + 1) / len(window) for position, item in enumerate(window)}  # the last occurrence stays
    sample = [n for n, s in enumerate(sessions) if n != own and set(s) & set(window)][:sample_size]
    similarity = {n: sum(weight[i] for i in set(sessions[n]) & set(window)) for n in sample}
    neighbours = sorted(sample, key=lambda n: (-similarity[n], n))[:num_neighbours]
    scores = [0.0] * num_rows
    for n in neighbours:
        step = next(s for s, item in enumerate(reversed(window), start=1) if item in sessions[n])
        for item in set(sessions[n]):
            scores[item] += similarity[n] / step
    return scores


def recent_popularity(data: SequenceDataModule, since: int) -> Counter[int]:
    """Training events of each item later than `since`."""
    counts: Counter[int] = Counter()
    for u, h in enumerate(training_histories(data)):
        begin = data.processed.offsets[u]
        counts.update(i for i, t in zip(h, data.processed.timestamps[begin : begin + len(h)], strict=True) if t > since)
    return counts
