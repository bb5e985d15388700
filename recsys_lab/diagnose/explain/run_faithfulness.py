"""Faithfulness of a finished run: its model explains the first item of lists of the test."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recsys_lab.data.batches.gather import WindowDataset
from recsys_lab.data.batches.windows import evaluation_windows
from recsys_lab.diagnose.explain.asked_model import event_embedding, without_events
from recsys_lab.diagnose.explain.attribution import CAPTUM, Method, has_captum
from recsys_lab.diagnose.explain.faithfulness import FEWEST_EVENTS, Case, Faithfulness, chosen, measure
from recsys_lab.diagnose.explain.faithfulness_table import rows_of
from recsys_lab.evaluation.candidates import candidate_mask
from recsys_lab.ops.top_items import top_items
from recsys_lab.runs.run_files import read_json
from recsys_lab.runs.saved import SavedRun, open_saved_run
from recsys_lab.statistics.pairs import Method as Tests
from recsys_lab.words import RecsysLabError, number_of

MEASURED: tuple[Method, ...] = ("attention", "integrated_gradients", "leave_one_out", "removal")


def faithfulness(
    folders: Sequence[str | Path],
    data_dir: str | None = None,
    lists: int = 200,
    methods: Sequence[Method] | None = None,
) -> dict[str, Any]:
    """What faithfulness.json holds; `open_seeds` and `faithfulness_of` are its two steps.

    Args:
        folders: finished runs: seeds of one system.
        lists: how many of the test are explained, drawn with a fixed seed.
        methods: None = all, without integrated gradients where captum is not installed.
    """
    return faithfulness_of(open_seeds(folders, data_dir), lists, methods)


def open_seeds(folders: Sequence[str | Path], data_dir: str | None = None) -> list[SavedRun]:
    """The runs.

    Raises:
        RecsysLabError: for a folder that is no finished run or is named twice, and for runs of different systems.
    """
    for place, folder in enumerate(folders):
        if Path(folder).resolve() in {Path(other).resolve() for other in folders[:place]}:
            raise RecsysLabError(f"{folder} is named twice: name each seed once")
    runs = [open_saved_run(folder, None, data_dir) for folder in folders]
    for other in runs[1:]:
        _check_alike(runs[0], other)
    return runs


def faithfulness_of(
    runs: Sequence[SavedRun], lists: int = 200, methods: Sequence[Method] | None = None
) -> dict[str, Any]:
    """As `faithfulness`, of runs that are open."""
    wanted = _wanted(methods)
    measured, user = [], np.zeros(0)
    for saved in runs:
        one, user = of_run(saved, lists, wanted)
        measured.append(one)
    gaps = [np.abs(one.gap).max() for one in measured if one.gap is not None]
    tests = Tests(interval="t")
    return {
        "runs": [str(saved.folder) for saved in runs],
        "model": type(runs[0].model).__name__,
        "dataset": runs[0].data.processed.name,
        "asked": lists,
        "lists": len(user),
        "seeds": len(measured),
        "alpha": tests.alpha,
        "rows": rows_of(measured, user, tests),
        "largest_gap": float(max(gaps)) if gaps else None,
        "notes": [] if methods or has_captum() else [CAPTUM],
    }


def check_covers(
    file: Path, folders: Sequence[str | Path], lists: int, methods: Sequence[Method] | None = None
) -> None:
    """Before an answer takes the place of an earlier one of the same folder.

    Raises:
        RecsysLabError: where the earlier one has more lists or seeds, or methods that this one would not have.
    """
    there = read_json(file)
    if "rows" not in there:
        return
    lost = [row["method"] for row in there["rows"] if row["method"] not in _wanted(methods)]
    asked = there.get("asked", there["lists"])  # fewer may have been there
    more = [f"{asked:,} lists"] if asked > lists else []
    more += [f"the method {', '.join(lost)}"] if lost else []
    more += [number_of(there["seeds"], "seed")] if there["seeds"] > len(folders) else []
    if more:
        raise RecsysLabError(
            f"{file} has {' and '.join(more)}, which this answer would not have: ask for as much, write elsewhere with "
            "--output, or remove that file"
        )


def of_run(saved: SavedRun, lists: int, methods: Sequence[Method]) -> tuple[Faithfulness, np.ndarray]:
    """The faithfulness, and (N,) the users of the lists."""
    model = saved.model.eval()
    model.check_ranks()
    event_embedding(model)
    cases, user = cases_of(saved, lists)
    with tqdm(total=len(cases), unit=" lists", disable=None, file=sys.stderr) as bar:
        return measure(model, cases, saved.data.item_counts, methods, lambda: bar.update()), user


def cases_of(saved: SavedRun, lists: int) -> tuple[list[Case], np.ndarray]:
    """Windows before drawn test targets, each with the first item that the model recommends, and the users."""
    data, model = saved.data, saved.model
    targets = data.split_result.test
    if targets.query is not None:  # of several at once the next item alone
        targets = targets.select(targets.position == targets.query)
    start = data.events.offsets[:-1]
    enough = np.flatnonzero(targets.position - start[targets.user_index] >= FEWEST_EVENTS)
    if not len(enough):
        raise RecsysLabError(f"no test target has {FEWEST_EVENTS} events before it: nothing to explain")
    enough = enough[chosen(len(enough), lists)]
    user, position = targets.user_index[enough], targets.position[enough]
    samples = WindowDataset(
        data.events, evaluation_windows(start, user, position, data.max_length), "evaluate", data.exclude_seen
    )
    is_candidate, cases = candidate_mask(data, model, saved.evaluation.candidates), []
    for place in range(len(samples)):
        batch = samples.__getitems__(np.array([place]))
        with torch.no_grad():
            scores = model.score(model.query(batch))
        item = int(top_items(scores, is_candidate, batch.seen_ids, batch.seen_offsets, 1)[0][0, 0])
        real = torch.arange(batch.item_ids.shape[1])[None] < batch.lengths[:, None]
        cases.append(Case(without_events(replace(batch, prefix_of=None), real), item))
    return cases, user


def _wanted(methods: Sequence[Method] | None) -> Sequence[Method]:
    return methods or [name for name in MEASURED if name != "integrated_gradients" or has_captum()]


def _check_alike(before: SavedRun, saved: SavedRun) -> None:
    if before.manifest.get("system_hash") != saved.manifest.get("system_hash"):
        raise RecsysLabError(f"{saved.folder} is no seed of the system of {before.folder}: ask each by itself")
