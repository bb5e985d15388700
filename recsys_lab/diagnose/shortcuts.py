"""Could a simple rule solve these targets? Three properties of data and model that make next items easy to find: few
items follow an item, steps lead to similar items, and old events say little.

After Han et al. 2026, "An Embarrassingly Simple Graph Heuristic Reveals Shortcut-Solvable Benchmarks for Sequential
Recommendation" (arXiv 2605.07125), which names the three. The measures are ours; each stands beside what chance gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from recsys_lab.data.batches.gather import WindowDataset
from recsys_lab.data.batches.windows import evaluation_windows
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.histories import order_within_users
from recsys_lab.diagnose.shuffle import rank_and_list
from recsys_lab.diagnose.shuffle_effect import interval, ratio_of_means
from recsys_lab.models.baselines.training_part import TrainingPart
from recsys_lab.models.baselines.transition_graph import RINGS, TransitionGraph
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.checkpoint import trained_elsewhere
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.vector_files import matched
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.runs.saved import open_saved_run
from recsys_lab.statistics.rule import Estimate, estimate
from recsys_lab.words import RecsysLabError

NEWEST = (1, 2, 3, 5, 10, 20, 50, 100, 200)
"""Events that a model is left with, as far as its window is longer."""
ROWS = 256  # targets that are worked on at once


def shortcuts(
    folder: str | Path,
    checkpoint: str | Path | None = None,
    data_dir: str | None = None,
    stage: Literal["test", "val"] = "test",
    metric: str = "ndcg",
    cutoff: int = 10,
    vectors: str | None = None,
    allow_other_training: bool = False,
) -> dict[str, Any]:
    """What shortcuts.json holds.

    Args:
        folder: a finished run. checkpoint: another one than its best.
        data_dir: of raw files and prepared sets; None = as the run says.
        vectors: file with vectors of the items; None = those of the model's item table, where it has one.
        allow_other_training: also where the checkpoint was trained on other data or another split.

    Raises:
        RecsysLabError: where no target is left, or the vectors can't be read.
    """
    saved = open_saved_run(folder, checkpoint, data_dir)
    saved.model.allow_other_training = allow_other_training
    data = saved.data
    trained_on = trained_elsewhere(saved.model.spec, data, allow_other_training, stage)  # type: ignore[arg-type]
    targets = getattr(data.split_result, stage)
    if targets.query is not None:  # of several at once the next item alone
        targets = targets.select(targets.position == targets.query)
    targets = targets.select(targets.position > data.events.offsets[:-1][targets.user_index])
    if not len(targets):
        raise RecsysLabError(f"no {stage} target has an event before it: nothing to diagnose")
    last, target = (data.events.item_ids[targets.position - back].astype(np.int64) for back in (1, 0))
    of_items, whose = item_vectors(saved.model, data, vectors)
    names = ("study", "variant", "seed", "model", "loss")
    return {
        "run": {name: saved.manifest.get(name) for name in names} | {"checkpoint": saved.checkpoint.name},
        "evaluation": data.evaluation_settings(),
        **{"stage": stage, "metric": metric, "cutoff": cutoff, "targets": len(targets)},
        "branching": branching(data, last, target),
        "vectors": whose,
        "smoothness": None if of_items is None else smoothness(data, of_items, last, target, targets.user_index),
        "history": history(saved.model, data, saved.evaluation, targets, metric, cutoff),
        "trained_on": trained_on,
    }


def branching(data: SequenceDataModule, last: np.ndarray, target: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """How many items follow an item in the training part, and how many transitions the targets are away from the last
    item; beside the same with each user's training events in random order.

    `successors`: 2 to the mean entropy of what follows an item, each item as often as it is left: as many equally
    likely successors would be as uncertain. `rings`: share of the targets in ring 1, 2 and 3 around the last item;
    `ring_sizes`: mean share of the items that are in it, which a random target would have.

    Args:
        last, target: (N,) item ids.
    """
    part = TrainingPart.of(data)
    draw = np.random.default_rng([seed, 20260507])
    offsets = np.concatenate([[0], np.cumsum(part.lengths)])
    shuffled = part.item_ids[order_within_users(offsets, draw.permutation(len(part.item_ids)), len(part.item_ids))]
    model = TransitionGraph()
    model.build(data.spec)
    model.spec = data.spec
    model.count(data)
    found = {name: _successors(part, items) for name, items in (("data", part.item_ids), ("shuffled", shuffled))}
    hits, sizes = np.zeros(RINGS), np.zeros(RINGS)
    with torch.inference_mode():
        for first in range(0, len(last), ROWS):
            items, row = torch.from_numpy(last[first : first + ROWS]).unique(return_inverse=True)
            asked = torch.from_numpy(target[first : first + ROWS])
            for ring, (in_ring, _) in enumerate(model.rings(items, RINGS)):
                hits[ring] += float(in_ring[row, asked].sum())
                sizes[ring] += float(in_ring.sum(1)[row].sum()) / data.spec.num_items
    return {
        "transitions": len(part.neighbours()[0]),
        "successors": found["data"],
        "successors_shuffled": found["shuffled"],
        "rings": (hits / len(last)).tolist(),
        "ring_sizes": (sizes / len(last)).tolist(),
    }


def _successors(part: TrainingPart, item_ids: np.ndarray) -> float:
    same_user = part.user_index[1:] == part.user_index[:-1]
    before, after = item_ids[:-1][same_user].astype(np.int64), item_ids[1:][same_user]
    if not len(before):
        return float("nan")
    pairs, counts = np.unique(before * part.num_rows + after, return_counts=True)
    left = np.bincount(pairs // part.num_rows, weights=counts)[pairs // part.num_rows]  # of the item before
    return float(2 ** (-(counts * np.log2(counts / left)).sum() / counts.sum()))


def item_vectors(model: NextItemModule, data: SequenceDataModule, file: str | None) -> tuple[torch.Tensor | None, str]:
    """(V, W) of length 1, zeros where an item has none, and whose they are; None where there are none."""
    if file is not None:
        found, _ = matched(file, data.processed.item_ids_raw)
        whose = Path(file).name
    else:
        table = next((module for module in model.modules() if isinstance(module, ItemTable)), None)
        if table is None:
            return None, "none: the model has no vectors of items; name a file of your own"
        with torch.no_grad():
            found = table(torch.arange(data.spec.num_rows, device=table.weight.device)).float().cpu()
        found[(data.item_counts == 0).cpu()] = 0.0  # their rows have learned nothing
        whose = f"the item table of {type(model).__name__}"
    return found / found.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny), whose


def smoothness(
    data: SequenceDataModule, vectors: torch.Tensor, last: np.ndarray, target: np.ndarray, user: np.ndarray
) -> dict[str, Any]:
    """Cosine of the last item and the target, beside that of the last item and an item drawn by training popularity;
    and the chance that the target is the more similar one. Targets without a vector, on either side, are left out."""
    has_vector = (vectors.norm(dim=1) > 0).numpy()
    kept = has_vector[last] & has_vector[target]
    last, target, user = last[kept], target[kept], user[kept]
    if not len(last):
        return {"targets": 0}
    popularity = data.item_counts.cpu().double().numpy() * has_vector
    popularity = torch.from_numpy(popularity / popularity.sum()).float()
    rows = []
    for first in range(0, len(last), ROWS):
        cosine = vectors[last[first : first + ROWS]] @ vectors.T  # (rows, V)
        own = cosine.gather(1, torch.from_numpy(target[first : first + ROWS])[:, None])
        above = ((cosine < own).float() + (cosine == own).float() / 2) @ popularity
        rows.append(torch.stack([own[:, 0], cosine @ popularity, above]))
    step, chance, above = torch.cat(rows, dim=1).double().numpy()
    of = {"cosine": step, "cosine_of_chance": chance, "more_similar_than_chance": above}
    return {"targets": len(last)} | {name: with_interval(estimate(values, user)) for name, values in of.items()}


def history(
    model: NextItemModule, data: SequenceDataModule, evaluation: Any, targets: Any, metric: str, cutoff: int
) -> list[dict[str, Any]]:
    """The metric where the model sees only the newest 1, 2, 3, 5, ... events, the whole window last; and the share of
    the whole that is left, with its 95 % interval over users."""
    lengths = [*(newest for newest in NEWEST if newest < data.max_length), data.max_length]
    begins, values = data.events.offsets[:-1], {}
    with tqdm(total=len(targets) * len(lengths), unit=" targets", disable=None) as bar:
        for length in lengths:
            windows = evaluation_windows(begins, targets.user_index, targets.position, length)
            samples = WindowDataset(data.events, windows, "evaluate", data.exclude_seen)
            greater, ties, _ = rank_and_list(model, samples, data, evaluation, cutoff, bar.update)
            values[length] = RANKING_METRICS[metric](greater, ties, cutoff)
    whole = values[data.max_length]
    found = []
    for length, of_targets in values.items():
        share = with_interval(ratio_of_means(of_targets, whole, targets.user_index))
        found.append({"newest": length, "value": float(of_targets.mean()), "share": share})
    return found


def with_interval(found: Estimate) -> tuple[float, float, float]:
    """Mean, and its 95 % interval."""
    return (found.mean, *interval(found))
