"""Does the model, or the data, need the order of events? The trained model is evaluated again on the same targets, with
each history shuffled before the window is cut: all of it (`all`), and all but the most recent event (`all_but_last`).
Nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from tqdm import tqdm

from recsys_lab.arguments import Count, check_fields
from recsys_lab.audit.log import Log
from recsys_lab.audit.rules import order_rules
from recsys_lab.data.batches.gather import WindowDataset
from recsys_lab.data.batches.windows import evaluation_windows
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.diagnose.shuffle_effect import list_overlap, shuffle_effect
from recsys_lab.diagnose.shuffled_data import Kind, Scope, ShuffledWindows
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.candidates import candidate_mask
from recsys_lab.evaluation.row_blocks import scored_rows
from recsys_lab.models.checkpoint import trained_elsewhere
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.ops.top_items import top_items
from recsys_lab.runs.saved import SavedRun, open_saved_run
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class Question:
    """What to measure. `seeds`: shuffles of each kind, numbered from 0."""

    stage: Literal["test", "val"] = "test"
    metric: str = "ndcg"
    cutoff: Count = 10
    seeds: Count = 5
    kinds: tuple[Kind, ...] = get_args(Kind)
    scope: Scope = "history"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass
class Passes:
    """What was evaluated, per counted target: in the original order, and once per kind and seed."""

    original: np.ndarray = field(default_factory=lambda: np.zeros(0))
    shuffled: dict[str, list[np.ndarray]] = field(default_factory=dict)
    jaccard: dict[str, list[np.ndarray]] = field(default_factory=dict)
    interrupted: bool = False


def shuffle(
    folder: str | Path | None = None,
    checkpoint: str | Path | None = None,
    data_dir: str | None = None,
    question: Question | None = None,
    allow_other_training: bool = False,
) -> dict[str, Any]:
    """What shuffle.json holds. Ctrl-C ends it with the passes that are done, and `interrupted` says so.

    Args:
        folder: a finished run. checkpoint: another one than its best; alone, one that lies in a run folder.
        data_dir: of raw files and prepared sets; None = as the run says.
        allow_other_training: also where the checkpoint was trained on other data or another split.
    """
    question = question or Question()
    saved = open_saved_run(folder or folder_of(checkpoint), checkpoint, data_dir)
    saved.model.check_ranks()
    saved.model.allow_other_training = allow_other_training
    trained_on = trained_elsewhere(saved.model.spec, saved.data, allow_other_training, question.stage)  # type: ignore[arg-type]
    passes = evaluate(saved.model, saved.data, saved.evaluation, question)
    if not any(passes.shuffled.values()):
        raise KeyboardInterrupt
    return summary(saved, question, passes) | {"trained_on": trained_on}


def evaluate(
    model: NextItemModule, data: SequenceDataModule, evaluation: RankingEvaluation, question: Question
) -> Passes:
    """Ranks the targets in the original order and for each kind and seed. Ctrl-C ends it with what is done."""
    targets = getattr(data.split_result, question.stage)
    if targets.query is not None:  # of several at once the next item alone
        targets = targets.select(targets.position == targets.query)
    counted = np.ones(len(targets), dtype=bool)
    if evaluation.cold_targets == "drop":
        counted = data.item_counts.numpy()[data.events.item_ids[targets.position]] > 0
    user, position = targets.user_index[counted], targets.position[counted]
    if not len(position):
        raise RecsysLabError(f"no {question.stage} target is counted: nothing to diagnose")
    # windows of their own: each target has its own shuffle, so none shares an encoder pass with another
    windows = evaluation_windows(data.events.offsets[:-1], user, position, data.max_length)
    samples = WindowDataset(data.events, windows, "evaluate", data.exclude_seen)
    passes = Passes(shuffled={kind: [] for kind in question.kinds}, jaccard={kind: [] for kind in question.kinds})
    name = f"{question.metric}@{question.cutoff}"
    total = len(samples) * (1 + question.seeds * len(question.kinds))
    with tqdm(total=total, unit=" targets", disable=None, file=sys.stderr) as bar:

        def measured(samples: WindowDataset, what: str) -> tuple[np.ndarray, np.ndarray]:
            bar.set_description(what)
            greater, ties, items = rank_and_list(model, samples, data, evaluation, question.cutoff, bar.update)
            values = RANKING_METRICS[question.metric](greater, ties, question.cutoff)
            bar.write(f"{what}: {name} {values.mean():.4f}", file=sys.stderr)
            return values, items

        try:
            passes.original, before = measured(samples, "original order")
            for seed in range(question.seeds):
                for kind in question.kinds:
                    shuffled = ShuffledWindows(samples, kind, seed, question.scope)
                    values, after = measured(shuffled, f"{kind}, seed {seed}")
                    passes.shuffled[kind].append(values)
                    passes.jaccard[kind].append(list_overlap(before, after))
        except KeyboardInterrupt:
            passes.interrupted = True
    return passes


def rank_and_list(
    model: NextItemModule,
    samples: WindowDataset,
    data: SequenceDataModule,
    evaluation: RankingEvaluation,
    cutoff: int,
    advance: Callable[[int], Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> candidates above the target and tied with it, (N,) int64 each, and the best K items (N, K) int32 of each
    sample, in the samples' order. In float32.

    Args:
        advance: told the number of samples after each block.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).eval()
    is_candidate = candidate_mask(data, model, evaluation.candidates)
    greater, ties = np.empty((2, len(samples)), dtype=np.int64)
    items = np.zeros((len(samples), cutoff), dtype=np.int32)
    order = np.argsort(-samples.windows.lengths, kind="stable")  # little padding
    with torch.inference_mode():
        for first in range(0, len(order), data.eval_batch_size):
            left = order[first : first + data.eval_batch_size]
            batch = samples.__getitems__(left).to(device)
            query = model.query(batch)
            for rows in scored_rows(model, query, batch, is_candidate, evaluation.max_score_bytes, evaluation.ties):
                best, _ = top_items(rows.scores, is_candidate, rows.seen_ids, rows.seen_offsets, cutoff)
                done, left = left[: len(best)], left[len(best) :]
                greater[done] = rows.ranks.num_greater.cpu().numpy()
                ties[done] = rows.ranks.num_ties.cpu().numpy()
                items[done, : best.shape[1]] = best.cpu().numpy()
                advance(len(done))
    return greater, ties, items


def summary(saved: SavedRun, question: Question, passes: Passes) -> dict[str, Any]:
    """What shuffle.json holds."""
    data, kinds = saved.data, {}
    targets = getattr(data.split_result, question.stage)
    if len(passes.original) < len(targets):  # cold targets are left out
        warm = data.item_counts.numpy()[data.events.item_ids[targets.position]] > 0
        targets = type(targets)(targets.user_index[warm], targets.position[warm])
    length = targets.position - data.events.offsets[:-1][targets.user_index]
    held = np.minimum(length, data.max_length) if question.scope == "window" else length
    for kind in question.kinds:
        if not passes.shuffled[kind]:
            continue
        values, overlap = np.stack(passes.shuffled[kind]), np.stack(passes.jaccard[kind])
        effect = shuffle_effect(passes.original, values, overlap, targets.user_index)
        kinds[kind] = asdict(effect) | {
            "per_seed": values.mean(axis=1).tolist(),
            "nothing_to_shuffle": float((held <= (1 if kind == "all" else 2)).mean()),
        }
    names = ("study", "variant", "seed", "model", "loss")
    return {
        "run": {name: saved.manifest.get(name) for name in names} | {"checkpoint": saved.checkpoint.name},
        "evaluation": data.evaluation_settings(),
        **{name: getattr(question, name) for name in ("stage", "metric", "cutoff", "scope")},
        "max_length": data.max_length,
        "targets": len(targets),
        "longer_than_window": float((length > data.max_length).mean()),
        "kinds": kinds,
        "order_rules": order_rules(Log.of(data.processed)),
        "seeds": question.seeds,
        "interrupted": passes.interrupted,
    }


def folder_of(checkpoint: str | Path | None) -> Path:
    """The run folder that a checkpoint lies in."""
    if checkpoint is None:
        raise RecsysLabError("name a run folder, or --checkpoint FILE inside one")
    for folder in Path(checkpoint).absolute().parents:
        if (folder / "config.yaml").is_file() and (folder / "manifest.json").is_file():
            return folder
    raise RecsysLabError(f"{checkpoint} does not lie in a run folder: name the RUN_FOLDER as well")
