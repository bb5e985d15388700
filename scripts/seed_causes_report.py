"""What the fits of `seed_causes.py` say, as Markdown.

    python scripts/seed_causes_report.py experiments/seed-causes/values/15-epochs

A standard deviation over n seeds has the interval of a normal sample's, a ratio of two variances that of F. They are
wide: with ten seeds a variance is known to a factor of about 2 to either side. What users give, each hit or missed by
itself, is known far better, since there are hundreds: its share has the interval of a bootstrap over users.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

CAUSES = ("all", "weights", "order", "draws")
SHOWN = {"all": "all three", "weights": "first weights", "order": "order of the batches", "draws": "dropout"}
RESAMPLED = 400
"""Draws of the validation users, for what the choice of the epoch alone does."""

Choice = Callable[[np.ndarray], int]
"""(E,) validation values of the epochs -> place of the chosen one."""


class Fits:
    """values: name -> part -> (E, N) ndcg@10 after each epoch. averaged: name -> part -> (N,) of averaged weights."""

    def __init__(self, folder: Path) -> None:
        self.values: dict[str, dict[str, np.ndarray]] = {}
        self.averaged: dict[str, dict[str, np.ndarray]] = {}
        for file in sorted(folder.glob("*-*-*.parquet")):
            frame = pl.read_parquet(file)
            parts = {part: frame.filter(pl.col("part") == part).sort("epoch") for part in ("val", "test")}
            rows = {part: np.stack(of["values"].to_list()).astype(float) for part, of in parts.items()}
            self.averaged[file.stem] = {part: of[0] for part, of in rows.items()}
            self.values[file.stem] = {part: of[1:] for part, of in rows.items()}

    def of(self, cause: str) -> list[str]:
        """Names of the fits in which only this cause varies, seed 0 among them."""
        varies = [cause in ("all", name) for name in CAUSES[1:]]
        named = {tuple(int(seed) for seed in name.split("-")): name for name in self.values}
        return [
            named[key]
            for key in sorted(named)
            if len({seed for seed, does in zip(key, varies, strict=True) if does}) == 1
            and not any(seed for seed, does in zip(key, varies, strict=True) if not does)
        ]


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """(E,) -> (E,) mean with the neighbours, of fewer at the ends."""
    weights = np.convolve(np.ones(len(values)), np.ones(width), "same")
    found: np.ndarray = np.convolve(values, np.ones(width), "same") / weights
    return found


CHOICES: dict[str, Choice] = {
    "best epoch by validation": lambda values: int(values.argmax()),
    "best by the mean of 5 epochs around it": lambda values: int(smoothed(values, 5).argmax()),
    "last epoch": lambda values: len(values) - 1,
}


def deviation(values: Sequence[float]) -> tuple[float, float, float]:
    """-> standard deviation and its 95 % interval, under normal values."""
    n, sd = len(values), float(np.std(values, ddof=1))
    low, high = (float(np.sqrt((n - 1) / stats.chi2.ppf(at, n - 1))) for at in (0.975, 0.025))
    return sd, sd * low, sd * high


def share(values: Sequence[float], whole: Sequence[float]) -> tuple[float, float, float]:
    """-> the variance of `values` over that of `whole`, and its 95 % interval, as if the two were independent."""
    ratio = float(np.var(values, ddof=1) / np.var(whole, ddof=1))
    free = len(values) - 1, len(whole) - 1
    return ratio, ratio / float(stats.f.ppf(0.975, *free)), ratio / float(stats.f.ppf(0.025, *free))


def of_users_and_fits(values: np.ndarray) -> tuple[float, float, float]:
    """(S, N) of S fits and N users -> standard deviation of a fit's mean that independent users would give; that of
    what is left: the fits' quality for all users; p of F, that nothing is left."""
    fits, users = values.shape
    means = values.mean(axis=1)
    rest = values - means[:, None] - values.mean(axis=0) + values.mean()
    within = float((rest**2).sum() / ((fits - 1) * (users - 1)))
    between = users * float(means.var(ddof=1))
    p = float(stats.f.sf(between / within, fits - 1, (fits - 1) * (users - 1)))
    return np.sqrt(within / users), np.sqrt(max(0.0, between - within) / users), p


def shares_of_users(fits: Fits, causes: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Cause -> the variance of a user's value over its fits, of the last epoch, over that where all causes vary: the
    mean over users, and the 95 % interval of a bootstrap over them."""
    spread = {}
    for cause in causes:
        values = np.stack([fits.values[name]["test"][-1] for name in fits.of(cause)])
        spread[cause] = (values - values.mean(axis=1, keepdims=True)).var(axis=0, ddof=1)  # (N,)
    users = len(spread["all"])
    drawn = np.random.default_rng(0).integers(0, users, (RESAMPLED, users))
    found = {}
    for cause, own in spread.items():
        ratios = own[drawn].mean(axis=1) / spread["all"][drawn].mean(axis=1)
        low, high = np.quantile(ratios, [0.025, 0.975])
        found[cause] = float(own.mean() / spread["all"].mean()), float(low), float(high)
    return found


def of_the_choice(val: np.ndarray, test: np.ndarray, draws: np.random.Generator) -> float:
    """(E, N), (E, N) of one fit -> variance of the test value when other validation users choose the epoch."""
    weights = draws.multinomial(val.shape[1], np.full(val.shape[1], 1 / val.shape[1]), size=RESAMPLED)
    chosen = (weights @ val.T).argmax(axis=1)  # (R,)
    return float(test.mean(axis=1)[chosen].var(ddof=1))


def report(fits: Fits) -> str:
    chosen = {name: choose_epoch(fits, name, CHOICES["best epoch by validation"]) for name in fits.values}
    last = {name: float(parts["test"][-1].mean()) for name, parts in fits.values.items()}
    lines = ["| what varies | fits | best epoch | sd | share | last epoch | sd | of users | share of users |"]
    lines += ["| --- |" + " ---: |" * 8]
    causes = [cause for cause in CAUSES if len(fits.of(cause)) > 1]
    of_users = shares_of_users(fits, causes)
    for cause in causes:
        names = fits.of(cause)
        values = np.stack([fits.values[name]["test"][-1] for name in names])
        at_best, at_last = [chosen[name] for name in names], [last[name] for name in names]
        part = "1" if cause == "all" else ranged(share(at_best, [chosen[name] for name in fits.of("all")]), 2)
        lines.append(
            f"| {SHOWN[cause]} | {len(names)} | {np.mean(at_best):.4f} | {ranged(deviation(at_best), 4)} | {part} | "
            f"{np.mean(at_last):.4f} | {ranged(deviation(at_last), 4)} | {of_users_and_fits(values)[0]:.4f} | "
            f"{'1' if cause == 'all' else ranged(of_users[cause], 2)} |"
        )
    draws = np.random.default_rng(0)
    choice = [of_the_choice(parts["val"], parts["test"], draws) for parts in fits.values.values()]
    whole = float(np.var([chosen[name] for name in fits.of("all")], ddof=1))
    lines += [
        f"| users that choose the epoch | {len(choice)} | | {np.sqrt(np.mean(choice)):.4f} | "
        f"{np.mean(choice) / whole:.2f} | | | | |",
        "",
        "| which weights are tested | fits | ndcg@10 | sd over seeds | mean epoch |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    names = fits.of("all")
    for what, choose in CHOICES.items():
        epochs = [choose(fits.values[name]["val"].mean(axis=1)) for name in names]
        tested = [choose_epoch(fits, name, choose) for name in names]
        lines.append(row(what, tested, f"{np.mean(epochs) + 1:.1f}"))
    lines.append(
        row("mean of the last 10 epochs' weights", [float(fits.averaged[n]["test"].mean()) for n in names], "")
    )
    values = np.stack([fits.values[name]["test"][-1] for name in names])
    of_val = [float(fits.values[name]["val"][-1].mean()) for name in names]
    users, left, p = of_users_and_fits(values)
    correlation = stats.pearsonr(of_val, [last[name] for name in names])
    low, high = correlation.confidence_interval()
    lines += [
        "",
        f"Last epoch, all three vary, {len(names)} fits: users that are hit or missed independently give an sd of "
        f"{users:.4f}; what is left of the fits is {left:.4f} (F test: p = {p:.3f}). "
        f"Correlation of validation and test over the fits: {correlation.statistic:.2f} [{low:.2f}, {high:.2f}].",
    ]
    return "\n".join(lines)


def choose_epoch(fits: Fits, name: str, choose: Choice) -> float:
    """-> the test value of the epoch that `choose` takes by validation."""
    parts = fits.values[name]
    return float(parts["test"][choose(parts["val"].mean(axis=1))].mean())


def row(what: str, tested: Sequence[float], epochs: str) -> str:
    return f"| {what} | {len(tested)} | {np.mean(tested):.4f} | {ranged(deviation(tested), 4)} | {epochs} |"


def ranged(number: tuple[float, float, float], digits: int) -> str:
    value, low, high = (f"{part:.{digits}f}" for part in number)
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    print(report(Fits(Path(sys.argv[1]))))
