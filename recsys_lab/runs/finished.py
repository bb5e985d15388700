"""Run folders read back: manifest.json, metrics.json, ranks.parquet. Nothing else of a run is looked at."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from recsys_lab.ops.query_metrics import metric_values
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.runs.ranks_file import TARGET_KEY, hash_targets, impossible_ranks, lacking
from recsys_lab.runs.run_files import (
    HASHED,
    OF_A_TEST,
    UNFINISHED,
    ChangedRunError,
    check_checkpoint,
    check_file,
    is_tested,
    read_manifest,
    test_was_stopped,
)
from recsys_lab.words import RecsysLabError, number_of

# What must agree for two numbers to mean the same thing.
COMPARED = (
    "data_hash",
    "vocabulary_hash",
    "split",
    "split_hash",
    "exclude_seen",
    "exclude_seen_types",
    "exclude_seen_session",
    "available",
    "ties",
    "cold_targets",
    "candidates",
    *("task", "task_settings", "shown", "shown_hash"),
)
# Says why data hashes differ; the data hash alone decides, and older manifests don't have it.
EXPLAINING = ("tie_order",)
SAME_MEAN = 1e-6
BASELINES = "baselines"
"""Folder of a study that holds the baselines which take part in every comparison without being asked for."""
TRIALS = "tune"
"""Folder of a study that holds the trials of its searches; they are never tested and no seeds of its variants."""


class UnreadableRunError(RecsysLabError):
    """A folder that holds no finished run; says why."""


@dataclass(frozen=True)
class Run:
    """One finished run."""

    folder: Path
    manifest: dict[str, Any]
    metrics: dict[str, Any]

    has_cutoff: ClassVar[bool] = True
    metric_names: ClassVar[tuple[str, ...]] = ()  # that tables show; none: the usual ones of a ranking

    @property
    def variant(self) -> str:
        return str(self.manifest.get("variant") or self.manifest.get("model") or self.folder.name)

    @property
    def evaluation(self) -> dict[str, Any]:
        found: dict[str, Any] = self.manifest["evaluation"]
        return {"candidates": "trained", **found}  # of a run of before

    @property
    def is_retrained(self) -> bool:
        """Trained once more, on the training and validation part together, before its test."""
        return bool(self.evaluation.get("retrained"))

    @cached_property
    def ranks(self) -> pl.DataFrame:
        """One row per evaluated target, in the order of users and time; cold targets only where they count."""
        ranks = pl.read_parquet(self.folder / "ranks.parquet")
        return ranks.filter(~pl.col("is_cold")) if self.evaluation.get("cold_targets") == "drop" else ranks

    @property
    def all_ranks(self) -> pl.DataFrame:
        """`ranks` with the cold targets, also where they don't count."""
        drops = self.evaluation.get("cold_targets") == "drop"
        return pl.read_parquet(self.folder / "ranks.parquet") if drops else self.ranks

    @cached_property
    def units(self) -> pl.DataFrame:
        """What metrics are means over: `ranks`, or where queries have several targets the first of each query."""
        return self.ranks.filter(pl.col("query").is_first_distinct()) if "query" in self.ranks.columns else self.ranks

    def values(self, metric: str, cutoff: int) -> np.ndarray:
        """(N,) the metric of each target or query, its expectation over the orders of ties, in the order of `units`.

        They are those of values.parquet; of another cutoff, or of a run of before that file, they follow from the
        ranks.

        Args:
            metric: of `QUERY_METRICS`.

        Raises:
            RecsysLabError: for a metric of several targets where there is one.
        """
        if self.has_values:
            is_meant = (pl.col("metric").cast(pl.String) == f"{metric}@{cutoff}") & pl.col("unit").is_not_null()
            found = pl.scan_parquet(self.folder / "values.parquet").filter(is_meant).select("value").collect()
            if found.height:
                return found["value"].to_numpy()
        greater, ties = (self.ranks[name].to_numpy() for name in ("num_greater", "num_ties"))
        query = self.ranks["query"].to_numpy() if "query" in self.ranks.columns else None
        return metric_values(metric, cutoff, greater, ties, query)

    def wrong(self) -> str:
        """What can't be right in its files; empty where nothing is found."""
        return _wrong_ranks(pl.read_parquet(self.folder / "ranks.parquet"), self)

    @property
    def has_values(self) -> bool:
        return "values_sha256" in self.manifest and (self.folder / "values.parquet").is_file()

    @cached_property
    def measured(self) -> list[Run]:
        """Its further tasks, where it has some: each as a run of that task alone."""
        from recsys_lab.runs.measured import measured_parts  # whose runs are Runs

        return measured_parts(self)

    @cached_property
    def targets_hash(self) -> str:
        """Of the targets that ranks.parquet holds, in their order; the same on every machine."""
        return hash_targets(self.ranks)

    def share(self, other: Run) -> None:
        """Holds `other`'s columns of ranks.parquet instead of its own where they are equal. Many runs on the same
        targets then cost the memory of their ranks only."""
        mine, theirs = self.ranks, other.ranks
        equal = [c for c in mine.columns if c in theirs.columns and mine[c].equals(theirs[c], check_dtypes=True)]
        self.__dict__["ranks"] = mine.with_columns(theirs[column] for column in equal)
        if set(TARGET_KEY) <= set(equal):
            self.__dict__["targets_hash"] = other.targets_hash


def read_run(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        UnreadableRunError: when a file is missing or damaged, or the run has not been tested.
    """
    from recsys_lab.runs.measured import OUTCOMES, MeasuredRun  # which is a Run

    try:
        manifest = read_manifest(folder)
        if manifest.get("stopped_by") in UNFINISHED:
            raise UnreadableRunError(f"{folder}: unfinished ({manifest['stopped_by']})")
        tested = next((name for name in ("ranks.parquet", OUTCOMES) if (folder / name).is_file()), None)
        if tested is None:
            later = folder / "test"
            named = f"; or name the test that was made later: {later}" if (later / "ranks.parquet").is_file() else ""
            raise UnreadableRunError(
                f"{folder}: its fit has not tested it (no ranks.parquet): recsys-lab fit {folder} "
                f"--run.test_after_fit true{named}"
            )
        for name in (*HASHED, *OF_A_TEST):
            check_file(folder, manifest, name)
        check_checkpoint(folder, manifest)
        metrics = json.loads((folder / "metrics.json").read_text())
        if not isinstance(metrics, dict):
            raise UnreadableRunError(f"{folder}: metrics.json holds no mapping")
        if not is_tested(manifest, metrics):
            raise UnreadableRunError(f"{folder}: {test_was_stopped(folder)}")
        run = (MeasuredRun if tested == OUTCOMES else Run)(folder, manifest, metrics)
        wrong = run.wrong()
    except ChangedRunError as error:
        raise UnreadableRunError(str(error)) from error
    except (OSError, ValueError, KeyError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise UnreadableRunError(f"{folder}: unreadable ({type(error).__name__}: {error})") from error
    if wrong:
        raise UnreadableRunError(f"{folder}: {tested} {wrong}")
    return run


def _wrong_ranks(ranks: pl.DataFrame, run: Run) -> str:
    """What can't be right in the ranks of a finished run; empty where nothing is found."""
    if missing := lacking(ranks):
        return f"{missing}. `recsys-lab test {run.folder}` ranks the targets again, into {run.folder / 'test'}"
    if not ranks.height:
        return "holds no row"
    stage = "test" if any(name.startswith("test/") for name in run.metrics) else "val"
    expected = run.manifest.get("ranked_targets", run.evaluation.get(f"{stage}_targets"))
    if expected is not None and ranks.height != expected:
        return f"holds {number_of(ranks.height, 'target')}, and manifest.json counts {expected}"
    if impossible := impossible_ranks(ranks):
        return impossible
    if "ranks_sha256" in run.manifest:  # these are the very files that the test wrote
        return ""
    for name, value in run.metrics.items():
        metric, _, k = name.removeprefix(f"{stage}/").partition("@")
        if (
            metric in RANKING_METRICS
            and k.isdigit()
            and not abs(run.values(metric, int(k)).mean() - value) <= SAME_MEAN
        ):
            return f"gives another {name} than metrics.json says"
    return ""


def find_runs(paths: Iterable[str | Path]) -> tuple[list[Run], list[str]]:
    """Runs at or below the paths, and one line for each folder that holds no finished run.

    Raises:
        RecsysLabError: for a path that does not exist or has no run folder below it.
    """
    runs, problems = [], []
    for path in map(Path, paths):
        folders = run_folders(path)
        if not folders:
            what = "holds no run folder (none has a manifest.json of a run)" if path.exists() else "does not exist"
            raise RecsysLabError(f"{path} {what}")
        for folder in folders:
            try:
                runs.append(read_run(folder))
            except UnreadableRunError as error:
                problems.append(str(error))
    return list({run.folder.resolve(): run for run in runs}.values()), problems


def differences(runs: list[Run]) -> list[str]:
    """One line for each setting of the evaluation in which the runs differ: which values, in which runs."""
    lines = []
    for name in (*COMPARED, *EXPLAINING, "targets"):
        groups: dict[str, list[str]] = {}
        for run in runs:
            value = run.targets_hash if name == "targets" else run.evaluation.get(name)
            if value is not None or name not in EXPLAINING:
                groups.setdefault(str(value), []).append(str(run.folder))
        if len(groups) > 1:
            lines.append(f"{name}: " + "; ".join(f"{value} in {', '.join(where)}" for value, where in groups.items()))
    return lines


SETTING_OF = {
    "exclude_seen": "--data.exclude_seen",
    "ties": "--evaluation.ties",
    "cold_targets": "--evaluation.cold_targets",
    "candidates": "--evaluation.candidates",
}
"""Settings of the test alone: a run can be tested again with another value."""


def way_out(runs: Sequence[Run]) -> str:
    """How runs that differ (`differences`) are made comparable: tested again with the first one's settings, or trained
    again where the data or the split differ."""
    first, trained_anew = runs[0], None
    of_test: dict[Path, list[str]] = {}
    for run in runs[1:]:
        differing = [name for name in COMPARED if run.evaluation.get(name) != first.evaluation.get(name)]
        if not set(differing) <= set(SETTING_OF) or (not differing and run.targets_hash != first.targets_hash):
            trained_anew = trained_anew or run
        elif differing:
            of_test[_trained(run)] = differing
    if trained_anew is not None:
        return (
            f"Train one of them again on the other's data and split, e.g. {trained_anew.folder} with the data settings "
            f"in {first.folder / 'config.yaml'}: what was trained before one split's cut may know the other's targets"
        )
    if not of_test:
        return "Test them again with one version of recsys_lab"
    folder, names = next(iter(of_test.items()))
    options = " ".join(f"{SETTING_OF[name]} {str(first.evaluation.get(name)).lower()}" for name in names)
    return (
        f"Test one again with the other's setting: recsys-lab test {folder} {options}, and compare {folder / 'test'} "
        "in its place"
    )


def _trained(run: Run) -> Path:
    """The folder of the run that was trained: `run` may be a further test of it."""
    held = run.manifest.get("checkpoint")
    folder = Path(os.path.normpath(run.folder / str(held))).parent.parent if held else run.folder
    return folder if (folder / "config.yaml").is_file() else run.folder


def run_folders(path: Path) -> list[Path]:
    """Run folders at or below `path`, finished or not, without counted baselines and trials."""
    if (path / "manifest.json").is_file():
        return [path]
    below = sorted(folder for folder in _folders(path) if (folder / "manifest.json").is_file())
    # `test` and `validate` write folders inside a run folder; prepared data sets have manifests too
    return [
        folder
        for folder in below
        if not (folder.parent / "manifest.json").is_file()
        and not (folder / "offsets.npy").is_file()  # prepared data
        and BASELINES not in folder.relative_to(path).parts
        and not (TRIALS in folder.relative_to(path).parts and folder.name.startswith("trial"))
    ]


def _folders(path: Path) -> Iterator[Path]:
    """All folders below `path`, through links too; each once, so that links in a circle end."""
    seen = set()
    for folder, below, _ in os.walk(path, followlinks=True):
        where = os.path.realpath(folder)
        if where in seen:
            below.clear()
        else:
            seen.add(where)
            below.sort()
            yield Path(folder)
