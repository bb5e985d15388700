"""Results that say less than they seem to: targets that no model can find, cutoffs beyond the candidates, scores that
are all equal, a trained model below one that only counts. `fit` and `test` end with these lines; `compare` has them
under its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from recsys_lab.runs.comparison_row import Row
from recsys_lab.words import LOWER_IS_BETTER, number_of, titled

WORTH_SAYING = 0.05
"""The least share of the targets that is said."""
ALL = 0.95
"""From this share of the targets on, equal scores are the rule and no exception."""
MOST_NAMES = 3

COLD = "are cold, which means that their items have no training event"
IMPROVING = "still improving when training stopped"
LAST_SHARE = 0.1
"""A best epoch among the last tenth of the epochs (at least the last two): training longer could have gone on."""

BELOW = "what untrained baselines reach on these targets"


def remarks(ranks: pl.DataFrame, evaluation: Mapping[str, Any], cutoff: int) -> list[str]:
    """Of one run; a line each, none for a run without such a thing.

    Args:
        ranks: rows of `ranks.parquet`, cold targets among them whether they count or not.
        evaluation: that part of the run's manifest.
        cutoff: K of the metrics that are shown.
    """
    return [*of_targets(ranks, evaluation, cutoff), *of_scores(ranks)]


def of_targets(ranks: pl.DataFrame, evaluation: Mapping[str, Any], cutoff: int) -> list[str]:
    """What limits every model on these targets; arguments as of `remarks`."""
    if evaluation.get("task"):  # nothing is ranked: of a shown item that training lacks there is a probability, too
        ranks = ranks.drop("is_cold", strict=False)
    ranks = _complete(ranks)
    total, cold, hidden = ranks.height, int(ranks["is_cold"].sum()), int(ranks["is_hidden"].sum())
    drops = evaluation.get("cold_targets") == "drop"
    if total - (cold if drops else 0) == 0:
        why = f": all {cold:,} are cold, and --evaluation.cold_targets drop leaves them out" if cold else ""
        return [f"no target at all was ranked{why}; another split may have some (--data.split)"]
    lines = []
    if hidden >= WORTH_SAYING * total:
        lines.append(
            f"{_of(hidden, total)} are hidden, so no model can find them: the user has had these items before, and "
            f"--data.exclude_seen {evaluation.get('exclude_seen')} takes them out of the ranking. --data.exclude_seen "
            "none ranks them"
        )
    if cold >= WORTH_SAYING * total:
        then = "they are left out" if drops else "each is a miss; --evaluation.cold_targets drop leaves them out"
        lines.append(f"{_of(cold, total)} {COLD}: {then}")
    open_targets = ranks.filter(~pl.col("is_cold") & ~pl.col("is_hidden"))
    few = open_targets.filter(pl.col("num_candidates") <= cutoff)
    if few.height and few.height >= WORTH_SAYING * open_targets.height:
        lines.append(
            f"{_of(few.height, open_targets.height)} that can be found are ranked among {cutoff} candidates or fewer: "
            f"hit_rate@{cutoff} is 1 there for every model; take a smaller cutoff (--evaluation.cutoffs)"
        )
    return lines


def of_scores(ranks: pl.DataFrame) -> list[str]:
    """Whether the model tells candidates apart. Runs from before ties were counted apart say nothing."""
    ranks = _complete(ranks)
    asked = ranks.filter(~pl.col("is_cold") & ~pl.col("is_hidden") & (pl.col("num_candidates") > 1))
    tied = asked.filter(pl.col("num_ties") >= pl.col("num_candidates") - 1).height
    if not asked.height or tied < ALL * asked.height:
        return []
    return [f"all candidates have the same score for {_of(tied, asked.height)}, so the metrics are those of chance"]


def of_best(value: float | None, evaluation: Mapping[str, Any], cutoff: int) -> list[str]:
    """How near ndcg@cutoff is to what the best model can expect, where the data is a world of which that is known."""
    best = evaluation.get("best_possible", {})
    name = f"ndcg@{cutoff}"
    if value is None or name not in best:
        return []
    chance = f"; chance moves it by {best[f'{name}_error']:.4f} (standard error)"
    return [
        f"{name} {value:.4f} is {value / best[name]:.1%} of what the best model can expect, {best[name]:.4f}{chance}"
    ]


def not_above(metric: str, value: float, baselines: Mapping[str, float]) -> list[str]:
    """Names the untrained baselines that are better than `value` in what is printed, four digits; the best first. An
    observation and no test."""
    sign, side = (-1, "above") if metric.partition("@")[0] in LOWER_IS_BETTER else (1, "below")
    above = [name for name in baselines if sign * round(baselines[name], 4) > sign * round(value, 4)]
    if not above:
        return []
    above.sort(key=lambda name: -sign * baselines[name])
    named = ", ".join(f"{name} {baselines[name]:.4f}" for name in above[:MOST_NAMES])
    more = f" and {len(above) - MOST_NAMES} more" if len(above) > MOST_NAMES else ""
    return [f"{metric} {value:.4f} is {side} {BELOW}: {named}{more}"]


def is_unconverged(manifest: Mapping[str, Any]) -> bool:
    """Whether a run was cut off by a limit, with its best epoch among the last ones."""
    epochs, best = manifest.get("epochs"), manifest.get("best_epoch")
    if manifest.get("stopped_by") not in ("max_epochs", "max_steps", "max_time") or not epochs or best is None:
        return False
    return bool(epochs - 1 - best < max(2 if epochs >= 10 else 1, LAST_SHARE * epochs))


def of_training(rows: Sequence[Row]) -> list[str]:
    """Which rows could change with longer training; one line at most."""
    runs = [(row.variant, run) for row in rows if not row.is_counted for run in row.runs]
    cut = [name for name, run in runs if is_unconverged(run.manifest)]
    if not cut:
        return []
    was, names = "was" if len(cut) == 1 else "were", ", ".join(dict.fromkeys(cut))
    return [f"{len(cut)} of {number_of(len(runs), 'run')} {was} {IMPROVING}; longer training could change {names}"]


def remarks_of_rows(rows: Sequence[Row], metric: str, cutoff: int) -> list[str]:
    """Of a comparison: what limits all rows on the same targets once, the rest for each row that was asked for.

    Args:
        metric: the deciding one, e.g. ndcg.
        cutoff: K of the metrics.
    """
    lines = of_training(rows)
    for row in rows:
        run = row.runs[0]
        if not row.is_automatic:
            lines += [line for line in of_targets(run.all_ranks, run.evaluation, cutoff) if line not in lines]
    for row in rows:
        if row.is_automatic:
            continue
        own = of_scores(row.runs[0].all_ranks)
        if row.reads:
            own.append(f"it reads {row.reads} of the event to predict: another task than that of models that do not")
        if not row.is_counted:
            reached = {
                other.variant: other.estimates[metric].mean
                for other in rows
                if other.is_counted and other.runs[0].targets_hash == row.runs[0].targets_hash
            }
            own += not_above(titled(metric, cutoff), row.estimates[metric].mean, reached)
        lines += [f"{row.variant}: {line}" for line in own]
    return lines


def _complete(ranks: pl.DataFrame) -> pl.DataFrame:
    """With null where an older run does not say."""
    types = {"is_cold": pl.Boolean, "is_hidden": pl.Boolean, "num_candidates": pl.Int64, "num_ties": pl.Int64}
    missing = [pl.lit(None, kind).alias(name) for name, kind in types.items() if name not in ranks.columns]
    return ranks.with_columns(missing).with_columns(pl.col("is_cold", "is_hidden").fill_null(False))


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {number_of(whole, 'target')} ({100 * part / whole:.0f} %)"
