"""`recsys-lab diagnose shuffle RUN_FOLDER`: the same model on shuffled histories."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from tqdm import tqdm

from recsys_lab.audit.log import Log
from recsys_lab.audit.rules import order_rules
from recsys_lab.cli.options import COUNT, PlainParser, underscores
from recsys_lab.data.batches.gather import WindowDataset
from recsys_lab.data.batches.windows import evaluation_windows
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.diagnose.shuffle_effect import list_overlap, shuffle_effect
from recsys_lab.diagnose.shuffle_table import READING, as_markdown, as_text
from recsys_lab.diagnose.shuffled_data import Kind, Scope, ShuffledWindows
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models.checkpoint import check_same_training
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.ops.ranks import target_ranks
from recsys_lab.ops.top_items import top_items
from recsys_lab.report.escapes import as_json
from recsys_lab.runs.messages import show_messages
from recsys_lab.runs.saved import SavedRun, open_saved_run, write_results
from recsys_lab.words import RecsysLabError

KINDS: dict[str, tuple[Kind, ...]] = {"both": get_args(Kind), "yes": ("all_but_last",), "no": ("all",)}
"""What --keep_last asks for."""

DESCRIPTION = """\
Does the model, or the data, need the order of events? The trained model is evaluated again on the same targets, with
each history shuffled before the window is cut: all of it (`all`), and all but the most recent event (`all_but_last`).
Nothing is trained. Writes shuffle/shuffle.json and shuffle/shuffle.md into the run folder."""
EPILOG = "\n".join(
    textwrap.fill(line, 118, initial_indent="  ", subsequent_indent="    ")
    for line in (
        *READING,
        "The data's own 2- and 3-gram rules are counted in the original and in shuffled order, without any model.",
        "Published (Klenitskiy et al., RecSys 2024), ndcg@10 of GRU4Rec, all shuffled: 30Music -96 %, MovieLens-20M "
        "-67 %, Amazon Beauty -26 %, Steam -9 %, Gowalla -2 %. More, and what we measured: docs/sequential.md.",
    )
)


@dataclass(frozen=True)
class Question:
    """What to measure. `seeds`: shuffles of each kind, numbered from 0."""

    stage: str = "test"
    metric: str = "ndcg"
    cutoff: int = 10
    seeds: int = 5
    kinds: tuple[Kind, ...] = KINDS["both"]
    scope: Scope = "history"

    def __post_init__(self) -> None:
        for name in ("cutoff", "seeds"):
            if getattr(self, name) < 1:
                raise RecsysLabError(f"--{name} must be at least 1, got {getattr(self, name)}")


@dataclass
class Passes:
    """What was evaluated, per counted target: in the original order, and once per kind and seed."""

    original: np.ndarray = field(default_factory=lambda: np.zeros(0))
    shuffled: dict[str, list[np.ndarray]] = field(default_factory=dict)
    jaccard: dict[str, list[np.ndarray]] = field(default_factory=dict)
    interrupted: bool = False


def make_parser() -> argparse.ArgumentParser:
    parser = PlainParser(
        prog="recsys-lab diagnose shuffle",
        allow_abbrev=False,
        description=DESCRIPTION,
        epilog="how to read the numbers:\n" + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", metavar="RUN_FOLDER", help="a finished run; its best checkpoint is taken")
    parser.add_argument("--checkpoint", metavar="FILE", help="another checkpoint; alone, one that lies in a run folder")
    parser.add_argument("--seeds", type=COUNT, default=5, help="shuffles of each kind (default 5)")
    parser.add_argument(
        "--keep_last", choices=list(KINDS), default="both", help="yes: only all_but_last; no: only all (default both)"
    )
    parser.add_argument("--stage", choices=("test", "val"), default="test", help="whose targets (default test)")
    parser.add_argument("--metric", choices=list(RANKING_METRICS), default="ndcg", help="(default ndcg)")
    parser.add_argument("--cutoff", type=COUNT, default=10, help="K of the metric and of Jaccard (default 10)")
    parser.add_argument(
        "--scope",
        choices=get_args(Scope),
        default="history",
        help="shuffle the whole history, or only the events in the model's window (default history)",
    )
    parser.add_argument("--data_dir", help="folder of raw files and prepared sets (default: as the run says)")
    parser.add_argument("--output", metavar="FOLDER", help="where to write (default: shuffle/ in the run folder)")
    return parser


def run(arguments: list[str]) -> None:
    """Runs `recsys-lab diagnose shuffle ...`; options may be written with - or _. Ctrl-C writes the seeds so far."""
    chosen = make_parser().parse_args(underscores(arguments[1:]))
    show_messages()
    question = Question(chosen.stage, chosen.metric, chosen.cutoff, chosen.seeds, KINDS[chosen.keep_last], chosen.scope)
    folder = Path(chosen.run) if chosen.run else _folder_of(chosen.checkpoint)
    saved = open_saved_run(folder, chosen.checkpoint, chosen.data_dir)
    check_same_training(saved.model.spec, saved.data.spec)  # type: ignore[arg-type]
    passes = evaluate(saved.model, saved.data, saved.evaluation, question)
    if not any(passes.shuffled.values()):
        raise KeyboardInterrupt
    found = summary(saved, question, passes)
    output = Path(chosen.output) if chosen.output else folder / "shuffle"
    write_results(output, {"shuffle.json": as_json(found) + "\n", "shuffle.md": as_markdown(found)})
    print(as_text(found))
    print(f"\nwritten: shuffle.json and shuffle.md in {output}")
    if passes.interrupted:
        raise KeyboardInterrupt


def evaluate(
    model: NextItemModule, data: SequenceDataModule, evaluation: RankingEvaluation, question: Question
) -> Passes:
    """Ranks the targets in the original order and for each kind and seed. Ctrl-C ends it with what is done."""
    targets = getattr(data.split_result, question.stage)
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
    is_candidate = (data.item_counts > 0).to(device)
    block = max(1, evaluation.max_score_bytes // (len(is_candidate) * 8))
    greater, ties = np.empty((2, len(samples)), dtype=np.int64)
    items = np.zeros((len(samples), cutoff), dtype=np.int32)
    order = np.argsort(-samples.windows.lengths, kind="stable")  # little padding
    with torch.inference_mode():
        for first in range(0, len(order), data.eval_batch_size):
            rows = order[first : first + data.eval_batch_size]
            batch = samples.__getitems__(rows).to(device)
            query = model.query(batch)
            assert batch.seen_ids is not None and batch.seen_offsets is not None
            for start in range(0, len(rows), block):
                part = slice(start, min(start + block, len(rows)))
                offsets = batch.seen_offsets[start : part.stop + 1]
                seen, offsets = batch.seen_ids[offsets[0] : offsets[-1]], offsets - offsets[0]
                scores = model.score(query[part])
                ranks = target_ranks(scores, batch.target_ids[part], is_candidate, seen, offsets, evaluation.ties)
                best, _ = top_items(scores, is_candidate, seen, offsets, cutoff)
                greater[rows[part]] = ranks.num_greater.cpu().numpy()
                ties[rows[part]] = ranks.num_ties.cpu().numpy()
                items[rows[part], : best.shape[1]] = best.cpu().numpy()
                advance(part.stop - start)
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


def _folder_of(checkpoint: str | None) -> Path:
    """The run folder that a checkpoint lies in."""
    if checkpoint is None:
        raise RecsysLabError("name a run folder, or --checkpoint FILE inside one")
    for folder in Path(checkpoint).absolute().parents:
        if (folder / "config.yaml").is_file() and (folder / "manifest.json").is_file():
            return folder
    raise RecsysLabError(f"{checkpoint} does not lie in a run folder: name the RUN_FOLDER as well")
