#!/usr/bin/env python3
"""Which explanation is faithful for which encoder: experiments/explanations.

    recsys-lab study run experiments/explanations --workers 1
    python scripts/explanations.py measure runs          # goes on; one file of values for each finished run
    python scripts/explanations.py report                # writes the README from the values
    python scripts/explanations.py planted               # five minutes on a core: the table of docs/explain.md

Values are per explained list, and committed in `faithfulness/`: a run with values is not measured again. In the world
of copying the cause is known, the event of eight steps ago. It is looked for in lists whose first item is its item,
and where the window holds that item once: an item that stands there twice has two events that may have caused it.

`planted` trains every encoder for some seconds in a smaller world of copying, with one recipe for all, and tells how
often each method puts the cause first. An encoder that does not learn to copy the item of four steps ago there copies
a later one (`STEPS`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl

import recsys_lab.models.encoders
from recsys_lab.config import import_all
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.sources.worlds import Copying
from recsys_lab.diagnose.explain.asked_model import AskedModel
from recsys_lab.diagnose.explain.attribution import METHODS, Method, attribute
from recsys_lab.diagnose.explain.explained_text import TITLES
from recsys_lab.diagnose.explain.faithfulness import CURVES, Faithfulness, measure
from recsys_lab.diagnose.explain.faithfulness_table import rows_of
from recsys_lab.diagnose.explain.run_faithfulness import cases_of
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import NextItemModule, Optimization
from recsys_lab.report.table import Column, Table, markdown
from recsys_lab.runs.fit.parse_errors import concrete_subclasses
from recsys_lab.runs.messages import hush_lightning, show_messages
from recsys_lab.runs.run_files import write_results
from recsys_lab.runs.saved import SavedRun, open_saved_run

HERE = Path(__file__).parents[1] / "experiments" / "explanations"
MARK = "<!-- made by scripts/explanations.py report -->"
LISTS, CAUSES = 60, 40
BACK, PLANTED = 4, 500
"""Steps to copy, and the lists that are looked through for causes, of `planted`."""
STEPS = {"CORE": 1, "STAMP": 1, "GRU4Rec": 2, "LSTM": 2, "LSTMAttention": 2, "NARM": 2}
"""Of encoders that don't learn more of them."""
FURTHER: dict[str, dict[str, Any]] = {"BERT4Rec": {"positions": "end"}, "NARM": {"state_dropout": 0.0}}


def measured(saved: SavedRun) -> pl.DataFrame:
    """A row for each list and method: what `Faithfulness` holds of it, and of causes whether it came first."""
    saved.model.eval()
    cases, user = cases_of(saved, LISTS)
    found = measure(saved.model, cases, saved.data.item_counts, METHODS)
    frames = []
    for name in METHODS:
        columns: dict[str, Any] = {"list": np.arange(len(cases)), "user": user, "method": [name] * len(cases)}
        for place, curve in enumerate(CURVES):
            columns |= {curve: found.curves[name][:, place], f"random_{curve}": found.random[:, place]}
        columns["likeness"] = found.likeness[name]
        columns["gap"] = found.gap if name == "integrated_gradients" else np.full(len(cases), np.nan)
        frames.append(pl.DataFrame(columns).with_columns(first=pl.lit(None, pl.Boolean)))
    is_copy = saved.data.processed.name == "world-copy"
    first = causes(saved, Copying().back, 10**9)[0] if is_copy else []
    rows = [{"list": -1, **row} for row in first]
    return pl.concat([*frames, pl.DataFrame(rows, schema=frames[0].schema)]).with_columns(
        pl.col(pl.Float64).cast(pl.Float32)
    )


def causes(
    saved: SavedRun, back: int, lists: int, methods: Sequence[Method] = METHODS
) -> tuple[list[dict[str, Any]], float]:
    """In a world of copying: a row for each of `CAUSES` lists and each method that has something to say, with whether
    the cause came `first`; and the share of the lists looked at, of those that hold the item of `back` steps ago once,
    whose first item it is."""
    rows: list[dict[str, Any]] = []
    found, able = 0, 0
    every, users = cases_of(saved, lists)
    for case, user in zip(every, users.tolist(), strict=True):
        ids = case.batch.item_ids[0]
        if len(ids) < back or int((ids == ids[-back]).sum()) > 1:
            continue
        able += 1
        if int(ids[-back]) != case.item:
            continue
        found += 1
        asked = AskedModel(saved.model, case.batch, case.item, saved.data.item_counts)
        for name in methods:
            one = attribute(asked, name)
            if one.events is not None:
                rows.append({"user": user, "method": name, "first": int(one.order[0]) == len(ids) - back})
        if found == CAUSES:
            break
    return rows, found / max(able, 1)


def copier(cls: Any, folder: Path, seed: int = 0) -> tuple[SavedRun, int]:
    """An encoder that learned to copy in a small world, in `folder`; and the item of how many steps ago."""
    back = STEPS.get(cls.__name__, BACK)
    where = folder / f"copy-{back}"
    if not where.exists():
        world = Copying(back=back, num_users=1500, num_items=30, length=16, noise=0.3)
        prepare(world, PrepareSettings(), where, folder / "raw")
    L.seed_everything(seed, verbose=False)
    rate = Optimization(lr=1e-2, warmup_steps=50, schedule="cosine")
    model = cls(embedding_dim=32, dropout=0.0, optimization=rate, **FURTHER.get(cls.__name__, {}))
    ends = model.last_positions_only
    chosen: Any = {"max_length": 12, "exclude_seen": "none", "batch_size": 64}
    data = SequenceDataModule(str(where), training_mode="last_position" if ends else "all_positions", **chosen)
    quiet: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    trainer = L.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, max_epochs=3 if ends else 24, **quiet)
    trainer.fit(model, data)
    return SavedRun(where, data, RankingEvaluation(), {}, where, model.eval()), back


def encoders() -> list[str]:
    """Names of those of the package."""
    import_all(recsys_lab.models.encoders)
    folder = str(Path(recsys_lab.models.encoders.__path__[0]))
    return sorted(concrete_subclasses(NextItemModule, folder), key=str.lower)


def planted(names: Sequence[str], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row for each encoder, means over the seeds."""
    hush_lightning()
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            row: dict[str, Any] = {"encoder": name, "learned": [], **{method: [] for method in METHODS}}
            for seed in seeds:
                saved, row["steps"] = copier(getattr(recsys_lab.models, name), Path(scratch), seed)
                rows, learned = causes(saved, row["steps"], PLANTED)
                row["learned"].append(learned)
                for one in rows:
                    row[one["method"]].append(one["first"])
            yield {key: np.mean(of) if isinstance(of, list) and of else of or None for key, of in row.items()}


def cells(root: Path) -> Iterator[tuple[str, Path]]:
    """Name of the values, and the folder, of each finished run of the study."""
    for checkpoint in sorted((root / "explanations").glob("*/seed*/checkpoints/best.ckpt")):
        folder = checkpoint.parents[1]
        yield f"{folder.parent.name.rpartition('-')[0]}-{folder.name}", folder


def read() -> dict[str, list[pl.DataFrame]]:
    """Variant -> the values of its seeds."""
    found: dict[str, list[pl.DataFrame]] = {}
    for file in sorted((HERE / "faithfulness").glob("*-seed*.parquet")):
        found.setdefault(file.stem.rpartition("-")[0], []).append(pl.read_parquet(file))
    return found


def as_faithfulness(frame: pl.DataFrame) -> tuple[Faithfulness, np.ndarray]:
    """Of one run, and the users of its lists."""
    lists = frame.filter(pl.col("list") >= 0).sort("method", "list").with_columns(pl.col(pl.Float32).cast(pl.Float64))
    by_method = {name: lists.filter(pl.col("method") == name) for name in METHODS}
    some = by_method["leave_one_out"]
    found = Faithfulness(some.select([f"random_{curve}" for curve in CURVES]).to_numpy())
    for name, of in by_method.items():
        found.curves[name], found.likeness[name] = of.select(CURVES).to_numpy(), of["likeness"].to_numpy()
        found.notes[name] = ""
    return found, some["user"].to_numpy()


def rows() -> list[dict[str, Any]]:
    """A row for each variant and method."""
    out = []
    for variant, frames in read().items():
        seeds = [as_faithfulness(frame) for frame in frames]
        for row in rows_of([one for one, _ in seeds], seeds[0][1]):
            own = [frame.filter(pl.col("method") == row["method"], pl.col("first").is_not_null()) for frame in frames]
            both = pl.concat(own)
            row |= {"variant": variant, "causes": len(both), "first": both["first"].mean() if len(both) else None}
            out.append(row)
    return out


def table(found: list[dict[str, Any]]) -> Table:
    def of(name: str) -> Any:
        return lambda row: tuple(row[name]) if name in row else None

    return Table(
        [
            Column("data and encoder", value=lambda row: row["variant"].replace("_", ", ", 1)),
            Column("seeds", "d"),
            Column("method", value=lambda row: TITLES[row["method"]]),
            Column("deletion", "+.3f", value=of("deletion")),
            Column("p", "p", value=lambda row: row.get("deletion_p")),
            Column("insertion", "+.3f", value=of("insertion")),
            Column("p ", "p", value=lambda row: row.get("insertion_p")),
            Column("shuffled weights", "+.2f", value=of("likeness")),
            Column("cause first", ".1%"),
            Column("causes", "d", value=lambda row: row["causes"] or None),
        ],
        [{**row, "cause first": row["first"]} for row in found],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "report", "planted"])
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--data_dir")
    parser.add_argument("--encoder", action="append", choices=encoders(), help="of `planted`; repeatable")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of `planted`")
    args = parser.parse_args()
    show_messages()
    if args.what == "planted":
        columns = [Column("encoder", value=lambda row: row["encoder"]), Column("steps", "d"), Column("learned", ".0%")]
        columns += [Column(TITLES[name], ".1%", value=lambda row, name=name: row[name]) for name in METHODS]
        print(markdown(Table(columns, list(planted(args.encoder or encoders(), args.seeds)))))
        return
    if args.what == "measure":
        (HERE / "faithfulness").mkdir(parents=True, exist_ok=True)
        for name, folder in cells(args.root):
            to = HERE / "faithfulness" / f"{name}.parquet"
            if not to.exists():
                measured(open_saved_run(folder, None, args.data_dir)).write_parquet(to, compression_level=12)
                print(f"written: {to.relative_to(HERE)}", flush=True)
        return
    readme = HERE / "README.md"
    head = readme.read_text().partition(MARK)[0]
    write_results(HERE, {"README.md": f"{head}{MARK}\n\n{markdown(table(rows()))}\n"})
    print(f"written: {readme}")


if __name__ == "__main__":
    main()
