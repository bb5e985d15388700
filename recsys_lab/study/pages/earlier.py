"""Numbers of a study that were committed before and whose runs are not here: kept in words that claim nothing.

results.parquet holds one row per run and no value of a user, so nothing of it can be tested.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.report.table import Column, Table, markdown
from recsys_lab.study.plan import Plan

NAME = "results.parquet"
WORDS = (
    "These numbers are of earlier runs whose values were not kept; each row of results.parquet has its commit. They "
    "were not tested over users and seeds by the rule of docs/evaluation.md, section 9, so the order of the rows is no "
    "result."
)


def earlier_rows(folder: Path, plan: Plan, blocks: Collection[str]) -> pl.DataFrame:
    """Rows of the committed results.parquet whose runs are planned and not finished now.

    Args:
        folder: of the study file.
        blocks: keys of the blocks that have finished runs: their untrained baselines are there.
    """
    file = folder / NAME
    if not file.is_file():
        return pl.DataFrame()
    old = pl.read_parquet(file)
    finished = {(run.variant.label, run.seed) for run in plan.in_state("finished")}
    planned = {(run.variant.label, run.seed) for run in plan.runs} - finished
    is_kept = [
        row["block"] not in blocks if row["is_automatic"] else (row["variant"], row["seed"]) in planned
        for row in old.select("block", "variant", "seed", "is_automatic").iter_rows(named=True)
    ]
    return old.filter(pl.Series(is_kept, dtype=pl.Boolean))


def earlier_text(rows: pl.DataFrame, metrics: Collection[str]) -> str:
    """A section for the README; empty without rows. metrics: as in results.parquet without `test/`; the first sorts."""
    if not len(rows):
        return ""
    lines = ["## Earlier numbers, not tested", "", WORDS, ""]
    for block in rows["block"].unique(maintain_order=True):
        lines += [f"### {block}", "", markdown(_table(rows.filter(block=block), list(metrics))), ""]
    return "\n".join(lines).rstrip()


def _table(rows: pl.DataFrame, metrics: list[str]) -> Table:
    groups = [of for _, of in rows.group_by("variant", "is_automatic", maintain_order=True)]
    groups.sort(key=lambda of: -_mean(of[f"test/{metrics[0]}"]))
    found = []
    for of in groups:
        first, seeds = of.row(0, named=True), len(of)
        is_trained = first["stopped_by"] != "counted"
        commits = ", ".join(sorted({str(commit)[:10] for commit in of["commit"].drop_nulls()})) or "unknown"
        one = "one seed, not tested; " if is_trained and seeds == 1 else ""
        row: dict[str, Any] = {"variant": first["variant"], "seeds": seeds if is_trained else None}
        for name in metrics:
            values = of[f"test/{name}"]
            row[name] = (_mean(values), None, None, values.std() if is_trained and seeds > 1 else None)
        found.append(row | {"": f"{one}commit {commits}, before the rule"})
    columns = [Column("variant"), Column("seeds", "d"), *(Column(name, ".4f") for name in metrics), Column("")]
    return Table(columns, found)


def _mean(values: pl.Series) -> float:
    return float(values.fill_null(0.0).to_numpy().mean())
