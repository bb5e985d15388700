#!/usr/bin/env python3
"""Which explanation is faithful for which encoder: experiments/explanations.

    recsys-lab study run experiments/explanations --workers 1
    python scripts/explanations.py measure runs          # goes on; one file of values for each finished run
    python scripts/explanations.py report                # writes the README from the values

Values are per explained list, and committed in `faithfulness/`: a run with values is not measured again. In the world
of copying the cause is known, the event of eight steps ago. It is looked for in lists whose first item is its item,
and where the window holds that item once: an item that stands there twice has two events that may have caused it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.sources.worlds import Copying
from recsys_lab.diagnose.explain.asked_model import AskedModel
from recsys_lab.diagnose.explain.attribution import METHODS, attribute
from recsys_lab.diagnose.explain.explained_text import TITLES
from recsys_lab.diagnose.explain.faithfulness import CURVES, Faithfulness, measure
from recsys_lab.diagnose.explain.faithfulness_table import rows_of
from recsys_lab.diagnose.explain.run_faithfulness import cases_of
from recsys_lab.report.table import Column, Table, markdown
from recsys_lab.runs.messages import show_messages
from recsys_lab.runs.run_files import write_results
from recsys_lab.runs.saved import SavedRun, open_saved_run

HERE = Path(__file__).parents[1] / "experiments" / "explanations"
MARK = "<!-- made by scripts/explanations.py report -->"
LISTS, CAUSES = 60, 40


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
    return pl.concat([*frames, causes(saved, frames[0].schema)]).with_columns(pl.col(pl.Float64).cast(pl.Float32))


def causes(saved: SavedRun, schema: Any) -> pl.DataFrame:
    """Of the world of copying; empty of other data. `list` is -1."""
    rows: list[dict[str, Any]] = []
    if saved.data.processed.name != "world-copy":
        return pl.DataFrame(schema=schema)
    every, users = cases_of(saved, 10**9)
    back = Copying().back
    for case, user in zip(every, users.tolist(), strict=True):
        ids = case.batch.item_ids[0]
        if len(ids) < back or int(ids[-back]) != case.item or int((ids == case.item).sum()) > 1:
            continue
        asked = AskedModel(saved.model, case.batch, case.item, saved.data.item_counts)
        for name in METHODS:
            one = attribute(asked, name)
            if one.events is not None:
                first = int(one.order[0]) == len(ids) - back
                rows.append({"list": -1, "user": user, "method": name, "first": first})
        if len({row["user"] for row in rows}) == CAUSES:
            break
    return pl.DataFrame(rows, schema=schema)


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
    parser.add_argument("what", choices=["measure", "report"])
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--data_dir")
    args = parser.parse_args()
    show_messages()
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
