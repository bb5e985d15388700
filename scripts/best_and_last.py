"""What the epochs that validation chose have over the last ones: both checkpoints of finished runs, ranked again.

    python scripts/best_and_last.py runs/losses/*ml-100k*/seed* --data_dir data --out values.parquet   # seconds a run
    python scripts/best_and_last.py --report values.parquet                                            # Markdown

A row of the report is a recipe, its runs are its seeds. It is fair where a run's rate falls to zero over its epochs: a
last epoch of a constant rate is as noisy as any other.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats
from seed_causes import ranked
from seed_causes_report import of_users_and_fits

from recsys_lab.runs.saved import open_saved_run

WHICH = ("best", "last")
DRAWS = 20_000
"""Of the bootstrap over recipes."""


def values_of(folder: Path, data_dir: str) -> Iterator[dict[str, Any]]:
    """One row per checkpoint and part: study, variant, seed, which, epoch, epochs, part, values (ndcg@10 per user)."""
    with (folder / "metrics.csv").open() as file:
        curve = [float(row["val/ndcg@10"]) for row in csv.DictReader(file) if row["val/ndcg@10"]]
    for which in WHICH:
        run = open_saved_run(folder, folder / "checkpoints" / f"{which}.ckpt", data_dir)
        run.data.setup("fit")
        run.data.setup("test")
        place = {
            "study": folder.parent.parent.name,
            "variant": folder.parent.name,
            "seed": folder.name,
            "which": which,
            "epoch": int(np.argmax(curve)) + 1 if which == "best" else len(curve),
            "epochs": len(curve),
        }
        for part, values in ranked(run.data, run.model).items():
            yield place | {"part": part, "values": values.astype(np.float32)}


def report(frame: pl.DataFrame) -> str:
    """Recipes of at least two seeds. Everything of a run's seeds is averaged over the recipes."""
    rows, seeds = [], []
    for (_, variant), of in frame.group_by(["study", "variant"], maintain_order=True):
        if of["seed"].n_unique() < 2:
            continue
        found = {which: {part: _values(of, which, part) for part in ("val", "test")} for which in WHICH}
        means = {which: parts["test"].mean(axis=1) for which, parts in found.items()}
        first = of.filter(pl.col("which") == "best").unique(["seed"], maintain_order=True)
        rows.append(
            [variant, len(means["best"]), ", ".join(map(str, first["epoch"])), first["epochs"][0]]
            + [number for which in WHICH for number in _of(found[which], means[which])]
        )
        seeds.append(means["last"] - means["best"])
    head = "| recipe | seeds | best epochs | of | val | best: test | sd | of users | val | last: test | sd | of users |"
    lines = [head, "| --- |" + " ---: |" * 11]
    lines += [f"| {' | '.join(_shown(value) for value in row)} |" for row in rows]
    table = np.array([row[4:] for row in rows], dtype=float)
    table[:, [2, 3, 6, 7]] **= 2
    mean = table.mean(axis=0)
    mean[[2, 3, 6, 7]] **= 0.5
    lines.append(f"| **all {len(rows)}** | | | | {' | '.join(_shown(value) for value in mean)} |")
    drawn = table[np.random.default_rng(0).integers(0, len(table), (DRAWS, len(table)))].mean(axis=1)  # (DRAWS, 8)
    low, high = np.quantile(drawn[:, 6] / drawn[:, 2], [0.025, 0.975])
    gain = np.concatenate(seeds)
    of_recipes = np.array([part.mean() for part in seeds])
    half = stats.t.ppf(0.975, len(seeds) - 1) * of_recipes.std(ddof=1) / len(seeds) ** 0.5
    lines += [
        "",
        f"Test of the last epoch minus that of the best by validation: {of_recipes.mean():+.4f} "
        f"[{of_recipes.mean() - half:+.4f}, {of_recipes.mean() + half:+.4f}] over recipes; higher in "
        f"{int((gain > 0).sum())} of {len(gain)} runs, lower in {int((gain < 0).sum())}. Its variance over seeds is "
        f"{(mean[6] / mean[2]) ** 2:.2f} [{low:.2f}, {high:.2f}] of the other's (bootstrap over recipes).",
    ]
    return "\n".join(lines)


def _values(frame: pl.DataFrame, which: str, part: str) -> np.ndarray:
    """(S, N) of the seeds."""
    of = frame.filter((pl.col("which") == which) & (pl.col("part") == part)).sort("seed")
    return np.stack(of["values"].to_list()).astype(float)


def _of(parts: dict[str, np.ndarray], means: np.ndarray) -> Sequence[float]:
    """Validation, test, the test's standard deviation over seeds, and that which independent users would give."""
    return parts["val"].mean(), means.mean(), means.std(ddof=1), of_users_and_fits(parts["test"])[0]


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="run folders, as `recsys-lab fit` leaves them")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--out", type=Path, default=Path("values.parquet"))
    parser.add_argument("--report", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.report is not None:
        print(report(pl.read_parquet(arguments.report)))
        return
    pl.DataFrame([row for folder in arguments.folders for row in values_of(folder, arguments.data_dir)]).write_parquet(
        arguments.out, compression_level=15
    )


if __name__ == "__main__":
    main()
