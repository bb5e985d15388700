"""What is kept of a finished run beside its study file: `values/<variant>-seed<k>.parquet`, small enough to commit.

One row per test target: a code of the user, the counts that the rank is made of, and the facts that slices need; no ids
and no times of the data. Manifest and metrics stand in the file's metadata. From these files a study goes on and is
reported on any machine, without the run folders.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from recsys_lab.runs.finished import COMPARED, Run, UnreadableRunError
from recsys_lab.runs.measured import MeasuredRun, of_weight_one, part_evaluations
from recsys_lab.runs.run_files import written
from recsys_lab.runs.seeds import current_numbers, numbers_version, system_hash
from recsys_lab.words import RecsysLabError

FOLDER = "values"
"""Beside the study file."""
BASELINES = "baselines"
"""Folder in `FOLDER` of the untrained models that take part without being asked for."""
PARTS = "tasks"
"""Folder in `FOLDER` of what runs of several tasks were measured on beside their ranking."""
FORMAT = 1
COUNTS = ("num_greater", "num_ties", "num_candidates", "query")
FLAGS = ("is_cold", "is_hidden", "is_repeat")
FACTS = ("history_length", "popularity_decile", "gap_seconds")
WEIGHT = "_weight"
"""Behind the name of a metric: the weight of a user's mean."""
NOT_KEPT = ("audit", "command", "folder")
"""Of the manifest: they name places of the machine that ran."""


@dataclass(frozen=True)
class KeptRun(Run):
    """A finished run of which only the values are here. `folder` is where it would lie."""

    file: Path = Path()
    identity: str = ""
    seed: int = 0
    kept_targets: str = ""

    @cached_property
    def ranks(self) -> pl.DataFrame:
        """As `Run.ranks`; `user_id` holds the user's code, and there is no id or time of a target."""
        kept = pl.read_parquet(self.file).with_columns(pl.col(pl.Int32).cast(pl.Int64))
        return kept.filter(~pl.col("is_cold")) if self.evaluation.get("cold_targets") == "drop" else kept

    @property
    def has_values(self) -> bool:
        return False  # they follow from the counts that are kept

    @cached_property
    def measured(self) -> list[Run]:
        """As `Run.measured`; without those of which nothing was kept."""
        found: list[Run] = []
        for evaluation in part_evaluations(self):
            with suppress(UnreadableRunError):
                part = read_values(part_file(self.file, evaluation), self.folder)
                if (part.identity, numbers_version(part.manifest)) == (self.identity, numbers_version(self.manifest)):
                    part.manifest.update(  # names of today's study file, where the run was given them
                        {name: self.manifest.get(name) for name in ("study", "variant", "seed")}
                    )
                    found.append(part)
        return found

    @cached_property
    def targets_hash(self) -> str:
        return self.kept_targets


@dataclass(frozen=True)
class KeptMeasured(KeptRun):
    """The same of a run whose task does not rank: a row for each user, with the mean of each metric over the user's
    units and their weight. Means and variances over users are those of the units."""

    has_cutoff: ClassVar[bool] = False

    @property
    def metric_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.evaluation.get("metrics") or ())

    @cached_property
    def ranks(self) -> pl.DataFrame:
        return pl.read_parquet(self.file)

    @property
    def all_ranks(self) -> pl.DataFrame:
        return self.ranks

    def values(self, metric: str, cutoff: int = 0) -> np.ndarray:
        if metric not in self.ranks.columns:
            raise RecsysLabError(f"{self.file} has no metric {metric!r}; known: {', '.join(self.metric_names)}")
        value, weight = (self.ranks[name].cast(pl.Float64).to_numpy() for name in (metric, f"{metric}{WEIGHT}"))
        return of_weight_one(value, weight)


def like_kept(runs: Sequence[Run]) -> list[Run]:
    """Runs of a task that does not rank, each with a row for each user where one of them has no more: then they can
    stand in one comparison."""
    if not any(isinstance(run, KeptMeasured) for run in runs):
        return list(runs)
    found: list[Run] = []
    for run in runs:
        if isinstance(run, MeasuredRun):
            whole, run = run, KeptMeasured(run.folder, run.manifest, run.metrics, kept_targets=run.targets_hash)
            run.__dict__["ranks"] = _of_users(whole)
        found.append(run)
    return found


def _of_users(run: MeasuredRun) -> pl.DataFrame:
    """What `KeptMeasured` holds."""
    table = pl.read_parquet(run.folder / "values.parquet").filter(pl.col("unit").is_not_null())
    table = table.with_columns(pl.col("metric").cast(pl.String), pl.col("weight").cast(pl.Float64))
    found = table.select(pl.col("user").unique().sort()).with_columns(user_id=pl.int_range(pl.len(), dtype=pl.Int32))
    for name in run.metric_names:
        weight = pl.col("weight").sum()
        total = (pl.col("value") * pl.col("weight")).sum()
        mean = pl.when(weight > 0).then(total / weight).otherwise(0.0)
        own = (
            table.filter(pl.col("metric") == f"{run.evaluation.get('prefix', '')}{name}")
            .group_by("user")
            .agg(mean.cast(pl.Float32).alias(name), weight.cast(pl.Float32).alias(f"{name}{WEIGHT}"))
        )
        found = found.join(own, on="user", how="left", maintain_order="left")
    return found.drop("user")


def values_file(study_file: Path, label: str, seed: int) -> Path:
    return study_file.parent / FOLDER / f"{label}-seed{seed}.parquet"


def part_file(file: Path, evaluation: Mapping[str, Any]) -> Path:
    """Of a further task of the run whose values are in `file`."""
    return file.parent / PARTS / f"{file.stem}-{evaluation['name']}.parquet"


def baseline_file(study_file: Path, run: Run) -> Path:
    """One file for each untrained model and evaluation."""
    key = sha256(json.dumps([*agreed(run)]).encode()).hexdigest()[:8]
    return study_file.parent / FOLDER / BASELINES / f"{run.variant}-{key}.parquet"


def agreed(run: Run) -> tuple[str, ...]:
    """What must be equal for a baseline to stand beside a run."""
    return (*(str(run.evaluation.get(name)) for name in COMPARED), str(run.is_retrained), run.targets_hash)


def write_values(run: Run, file: Path, select: str, identity: str = "", seed: int = 0) -> None:
    """Keeps what statistics and reports need of `run`, whole or not at all.

    Args:
        select: metric of the learning curve that is kept.
        identity: of the variant in its study (see `Variant`); empty for a baseline.
        seed: that the study gave it.
    """
    kept = _of_users(run) if isinstance(run, MeasuredRun) else _of_targets(run)
    manifest = {name: value for name, value in run.manifest.items() if name not in NOT_KEPT}
    manifest["system_hash"] = system_hash(run)  # an older manifest has none, and config.yaml is not kept
    metadata = {
        "format": str(FORMAT),
        "identity": identity,
        "seed": str(seed),
        "targets_hash": run.targets_hash,
        "manifest": _json(manifest),
        "metrics": _json(run.metrics),
        "curve": _json(_points(run, select)),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with written(file, unique=True) as partial:
        kept.write_parquet(partial, compression="zstd", compression_level=15, statistics=False, metadata=metadata)
    for part in run.measured:
        write_values(part, part_file(file, part.evaluation), select, identity, seed)


def _of_targets(run: Run) -> pl.DataFrame:
    ranks = run.ranks
    if run.evaluation.get("cold_targets") == "drop":  # the share of cold targets is part of the evaluation
        ranks = pl.read_parquet(run.folder / "ranks.parquet")
    columns = [pl.col("user_id").rank("dense").cast(pl.Int32)]
    for name in (*COUNTS, *FLAGS, *FACTS):
        if name in ranks.columns:
            columns.append(_small(name))
    return ranks.select(columns)


def read_values(file: Path, folder: Path | None = None) -> KeptRun:
    """The run that `write_values` kept.

    Args:
        folder: where the run would lie; None = the file's own place.

    Raises:
        UnreadableRunError: for a file that is damaged or of another kind.
    """
    try:
        metadata = pl.read_parquet_metadata(file)
        if int(metadata["format"]) > FORMAT:
            raise UnreadableRunError(f"{file}: written by a newer version of recsys-lab (format {metadata['format']})")
        manifest = json.loads(metadata["manifest"])
        is_measured = (manifest.get("evaluation") or {}).get("metrics") and "ranked_targets" not in manifest
        return (KeptMeasured if is_measured else KeptRun)(
            folder or file.with_suffix(""),
            manifest,
            json.loads(metadata["metrics"]),
            file,
            metadata["identity"],
            int(metadata["seed"]),
            metadata["targets_hash"],
        )
    except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        raise UnreadableRunError(f"{file}: unreadable ({type(error).__name__}: {error})") from error


@dataclass(frozen=True)
class KeptValues:
    """The values beside a study file.

    runs: identity of a variant and seed -> the run, made by code that gives the same numbers as this.
    others: files that count for nothing, and why; one line each.
    """

    runs: dict[tuple[str, int], KeptRun]
    others: list[str]


def find_values(study_file: Path, identities: Iterable[str]) -> KeptValues:
    """All values of a study whose variants have these identities."""
    known, runs, others = set(identities), {}, []
    for file in sorted((study_file.parent / FOLDER).glob("*.parquet")):
        try:
            run = read_values(file)
        except UnreadableRunError as error:
            others.append(str(error))
            continue
        version = numbers_version(run.manifest)
        if version != current_numbers():
            others.append(
                f"{file}: numbers version {version}, and this code has {current_numbers()}: the same seed gives other "
                "numbers now, so it does not count as finished"
            )
        elif run.identity not in known:
            others.append(f"{file}: of settings that no variant of this study has now")
        else:
            runs[run.identity, run.seed] = run
    return KeptValues(runs, others)


def find_kept_baselines(study_file: Path, runs: Sequence[Run]) -> list[Run]:
    """Untrained models that were kept, on the same targets and in the same evaluation as `runs`."""
    wanted, found = agreed(runs[0]), []
    for file in sorted((study_file.parent / FOLDER / BASELINES).glob("*.parquet")):
        try:
            run = read_values(file)
        except UnreadableRunError:
            continue  # it is counted again
        if numbers_version(run.manifest) == current_numbers() and agreed(run) == wanted:
            found.append(run)
    return list(found)


def read_points(run: Run, metric: str) -> dict[str, list[Any]]:
    """`epoch`, `seconds` and `metric` of each epoch, of metrics.csv or what was kept of it; None where an epoch has no
    value.

    Raises:
        OSError, ValueError, KeyError, TypeError: when that is missing or damaged.
    """
    if isinstance(run, KeptRun) and run.file.name:
        kept: dict[str, list[Any]] = json.loads(pl.read_parquet_metadata(run.file)["curve"])
        return kept
    with (run.folder / "metrics.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    return {
        "epoch": [int(line["epoch"]) for line in lines],
        "seconds": [float(line["seconds"] or 0) for line in lines],
        metric: [float(line[metric]) if line.get(metric) else None for line in lines],
    }


def _points(run: Run, metric: str) -> dict[str, list[Any]]:
    try:
        return read_points(run, metric)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _small(name: str) -> pl.Expr:
    if name == "gap_seconds":  # rounded up to the end of its slice: the slices stay the same, and no time is given away
        from recsys_lab.diagnose.slice_values import GAPS  # imports scipy, which a plan needs for nothing

        ends = [longest for longest, _ in GAPS]
        longer = ends[-1] + 1
        rounded = pl.lit(longer)
        for end in reversed(ends):
            rounded = pl.when(pl.col(name) <= end).then(end).otherwise(rounded)
        return pl.when(pl.col(name).is_null()).then(None).otherwise(rounded).cast(pl.Int32).alias(name)
    if name in FLAGS:
        return pl.col(name)
    return pl.col(name).cast(pl.Int8 if name == "popularity_decile" else pl.Int32)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
