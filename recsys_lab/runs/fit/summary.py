"""The five lines that a fit ends with: what came out, how it trained, beside what counts, where it is, what to type."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from recsys_lab.config import from_config
from recsys_lab.evaluation.beyond_accuracy import BeyondAccuracy
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.ops.query_metrics import QUERY_METRICS
from recsys_lab.ops.rank_metrics import ndcg
from recsys_lab.runs.baselines import MANDATORY, baseline_name, counted_already, estimated_seconds
from recsys_lab.runs.comparison import compare, deciding, metrics_of
from recsys_lab.runs.finished import Run
from recsys_lab.runs.folder import find
from recsys_lab.runs.measured import OUTCOMES, MeasuredRun
from recsys_lab.runs.progress_lines import clock
from recsys_lab.runs.remarks import is_unconverged
from recsys_lab.statistics.pairs import Method
from recsys_lab.words import LOWER_IS_BETTER, RecsysLabError, number_of

MARKOV = "markov-backoff-1.0"
COUNTED_WITHIN = 3.0
"""Estimated seconds up to which Markov is counted for the summary where no comparison has counted it yet."""
BOOTSTRAPPED = 20_000
"""Users up to which the interval is the bootstrap's, as in `compare`; of more, t has the same."""
SEEDS = 3
Reached = Mapping[str, float]


def run_in(folder: Path, manifest: dict[str, Any], metrics: dict[str, Any]) -> Run | None:
    """The run whose test wrote its files into `folder`; None where there are none."""
    if (folder / "ranks.parquet").is_file():
        return Run(folder, manifest, metrics)
    return MeasuredRun(folder, manifest, metrics) if (folder / OUTCOMES).is_file() else None


def reached_by_counting(trainer: Trainer, run: Run, home: Path, cutoff: int) -> dict[str, float]:
    """The deciding metric of untrained baselines on the targets of `run`, by the names of their rows in `compare`:
    those that a comparison has counted; of a ranking also popularity, whose ranks come with `BeyondAccuracy`, and
    Markov where it is counted at once.

    Args:
        home: the run folder, beside which a comparison keeps its baselines.
    """
    if not run.ranks.height:  # every target was left out
        return {}
    at_home = type(run)(home, run.manifest, run.metrics)
    decides = deciding(metrics_of([run]))
    found = {one.variant: float(one.values(decides, cutoff).mean()) for one in counted_already(at_home)}
    evaluation = find(trainer, RankingEvaluation)
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not run.has_cutoff or evaluation is None or data is None:  # spawned processes had the data
        return found
    popular = next((m.last_popular for m in evaluation.measures if isinstance(m, BeyondAccuracy)), None)
    if popular is not None and len(popular[0]) and "query" not in run.ranks.columns:
        found["popularity"] = float(ndcg(*popular, cutoff).mean())
    seconds = estimated_seconds(MARKOV, data.spec.num_items, data.spec.num_users)
    if trainer.world_size == 1 and seconds <= COUNTED_WITHIN:  # of several processes each has a part of the targets
        for config in MANDATORY:
            name = baseline_name(config)
            if name in (MARKOV, "popularity") and name not in found:
                model: CountingModel = from_config(config, CountingModel)
                with contextlib.suppress(RecsysLabError):  # of candidates that it can't score
                    ranked = evaluation.of_targets(model.counted(data), data)
                    if len(ranked.ranks) == run.all_ranks.height:  # not of limit_test_batches
                        found[name] = ranked.metrics(data)[f"ndcg@{cutoff}"]
    return found


def five_lines(
    run: Run | None, manifest: dict[str, Any], metrics: dict[str, Any], home: Path, cutoff: int, reached: Reached
) -> list[str]:
    """Of a finished fit.

    Args:
        run: what was tested; None without a test: then the lines say how to make it.
        home: the run folder.
        cutoff: K of the metrics.
        reached: of `reached_by_counting`; without any the line is left out.
    """
    lines = [("test", _tested(run, cutoff) if run is not None else _untested(metrics))]
    for also in run.measured if run is not None else ():  # what else it learned
        lines.append(("also", f"{also.evaluation.get('name', '')} {_tested(also, 0)}".strip()))
    lines.append(("training", _training(manifest)))
    if run is not None and reached:
        lines.append(("untrained", _beside(run, cutoff, reached)))
    return _aligned([*lines, ("run", str(home)), ("next", _next(manifest, run is not None, home))])


def lines_of_test(run: Run, cutoff: int, reached: Reached) -> list[str]:
    """Of a test of its own: what came out, beside what counts, and where the rest of the numbers is."""
    beside = _beside(run, cutoff, reached) if reached else ""
    return _aligned(
        [("test", _tested(run, cutoff)), ("untrained", beside), ("results", f"{run.folder}, all in metrics.json")]
    )


def lines_of_validation(folder: Path, metrics: Mapping[str, Any], cutoff: int) -> list[str]:
    """The same of a validation, whose numbers have no interval."""
    known = [name for name in metrics if name.startswith("val/") and not name.endswith("_share")]
    told = [name for name in (f"val/{metric}@{cutoff}" for metric in QUERY_METRICS) if name in known] or known[:5]
    shown = ", ".join(f"{name} {metrics[name]:.4f}" for name in told)
    return _aligned([("validated", shown), ("results", f"{folder}, all in metrics.json")])


def _aligned(lines: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{name:<10}{text}" for name, text in lines if text]


def estimates(run: Run, cutoff: int, metrics: Sequence[str] = ()) -> dict[str, tuple[float, float, float]]:
    """Of each metric, as it is called in metrics.json, its mean over the test targets and the ends of its 95 % interval
    over users, as in `compare`. None where nothing was ranked."""
    names = metrics_of([run], metrics)
    if not run.ranks.height:
        return {}
    users = run.units["user_id"].n_unique()
    method = Method(interval="bca" if users <= BOOTSTRAPPED else "t")
    row = compare([run], cutoff, metrics=names, method=method).rows[0]
    return {_called(run, name, cutoff): (row.estimates[name].mean, *row.intervals[name]) for name in names}


def _called(run: Run, name: str, cutoff: int) -> str:
    return f"{name}@{cutoff}" if run.has_cutoff else name


def _tested(run: Run, cutoff: int) -> str:
    decides = deciding(metrics_of([run]))
    found = estimates(run, cutoff, [decides])
    if not found:
        return "no target was ranked"
    ((name, (value, low, high)),) = found.items()
    spread = f" [{low:.4f}, {high:.4f}] (95 %)" if math.isfinite(low) else ""
    others = [one for one in run.metric_names or QUERY_METRICS if one != decides]
    told = {one: run.metrics.get(f"test/{_called(run, one, cutoff)}") for one in others}
    return ", ".join([f"{name} {value:.4f}{spread}", *(f"{n} {v:.4f}" for n, v in told.items() if v is not None)])


def _untested(metrics: Mapping[str, Any]) -> str:
    """The first metric of the validation that is known."""
    shown = next((name for name in metrics if name.startswith("val/ndcg@10")), None)
    shown = shown or next((name for name in metrics if name.startswith("val/") and not name.endswith("_share")), None)
    return f"{shown} {metrics[shown]:.4f}, not tested" if shown else ""


def _training(manifest: Mapping[str, Any]) -> str:
    epochs, best, why = manifest.get("epochs"), manifest.get("best_epoch"), manifest.get("stopped_by")
    if not epochs or why == "counted":
        return ""
    seconds = manifest.get("train_seconds") or 0.0
    kept = f"epoch {int(best) + 1} of {epochs} is best" if best is not None else number_of(epochs, "epoch")
    more = ", still improving" if is_unconverged(manifest) else ""
    return f"{kept}, stopped by {why}, {clock(seconds)}{more}"


def _beside(run: Run, cutoff: int, reached: Reached) -> str:
    """Popularity, Markov, and the best of the rest where that is better."""
    decides = deciding(metrics_of([run]))
    value = run.metrics[f"test/{_called(run, decides, cutoff)}"]
    best = (min if decides in LOWER_IS_BETTER else max)(reached, key=lambda name: reached[name])
    shown = [name for name in ("popularity", MARKOV) if name in reached]
    shown += [best] if best not in shown else []
    told = [f"{name} {reached[name]:.4f} ({_signed(value - reached[name])})" for name in shown]
    return ", ".join(told)


def _signed(difference: float) -> str:
    return f"{round(difference, 4) + 0.0:+.4f}"


def _next(manifest: Mapping[str, Any], is_tested: bool, home: Path) -> str:
    """One command; what stands behind it is a comment of the shell."""
    if not is_tested:
        return f"recsys-lab fit {shlex.quote(str(home))} --run.test_after_fit true"
    study = home.parent.parent if home.resolve().parent.parent.name == manifest.get("study") else home
    compared, seed = f"recsys-lab compare {shlex.quote(str(study))}", manifest.get("seed")
    there = [folder.name for folder in home.parent.glob("seed*")]
    if study == home or manifest.get("stopped_by") == "counted" or len(there) >= SEEDS or seed is None:
        return compared
    free = next(k for k in range(SEEDS) if f"seed{k}" not in there)
    return f"{compared}  # {SEEDS} seeds make a test: --seed_everything {free}"
