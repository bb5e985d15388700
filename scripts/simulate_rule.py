"""How often the rule of `recsys_lab.statistics.rule` calls a difference significant where there is none, and where
there is.

    python scripts/simulate_rule.py                       # the whole grid as a Markdown table
    python scripts/simulate_rule.py --users 100 1000 --draws 20000

Each draw is a whole comparison of two systems with the same true mean: per-user values of a metric like ndcg@10,
mostly 0, of every seed. Whether the target is found is drawn for each user, system and seed with probability

    chance of the user x (1 + what the user sees in the system) x (1 + what the seed gives the system)

and the value is the user's own. The two effects have mean 0 and are independent, so the means of the two systems are
equal exactly. Half of the users are alike for all systems and seeds (one uniform number decides), which pairs the
systems as real ones are. The rule gets what it gets in a comparison: the variance of the seed-averaged paired
difference over users, and the variance of each system's mean over its seeds.

Power is that for a difference of a tenth of the mean, added to every value of one system.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from recsys_lab.statistics.rule import degrees_of_freedom, minimum_detectable, two_sided_p, users_variance

ALPHA, MOST = 0.05, 0.065
CHANCE = (0.5, 4.0)
"""Of the beta distribution that a user's chance of a hit comes from, times `MOST_CHANCE`: .044 in the mean."""
MOST_CHANCE = 0.4
PREFERENCE = 0.6
"""Standard deviation of what a user sees in a system, relative, where per-user effects are unequal."""
SEED_SPREAD = 0.15
"""Standard deviation of what a seed gives a system, relative to its mean: as large as SASRec's on MovieLens-100K."""
GAIN = 0.1
ALIKE = 0.5
SEEDS, USERS = (2, 3, 4, 5), (100, 300, 1_000, 20_000)
EFFECTS = ("equal", "unequal")
VARIANCES = ("equal", "ten times unequal", "nil", "one without seeds")
POPULATION = 1 << 17
ONE = 1 << 16
"""Chances are counted in so many parts."""


@dataclass(frozen=True)
class Cell:
    """One place of the grid. effects: of users on the difference; variance: of the two systems over seeds."""

    seeds: int
    users: int
    effects: str
    variance: str

    @property
    def spreads(self) -> tuple[float, float]:
        """Standard deviation over seeds of each system."""
        other = {"equal": SEED_SPREAD, "ten times unequal": SEED_SPREAD / 10**0.5, "nil": 0.0, "one without seeds": 0.0}
        return (0.0 if self.variance == "nil" else SEED_SPREAD), other[self.variance]

    @property
    def seeds_of(self) -> tuple[int, int]:
        """Runs of each system; the one without seeds has one."""
        return self.seeds, 1 if self.variance == "one without seeds" else self.seeds


@dataclass(frozen=True)
class Result:
    """rejected, uncapped: share of the draws with p below alpha, of the rule and without its cap;
    power: for a difference of a tenth of the mean; power_at_mde: for the mean minimum detectable effect."""

    rejected: float
    uncapped: float
    power: float
    power_at_mde: float


def simulate(cell: Cell, draws: int, seed: int = 0) -> Result:
    place = (VARIANCES.index(cell.variance), EFFECTS.index(cell.effects), cell.users, cell.seeds)
    found = np.array(list(_draws(cell, draws, np.random.default_rng([seed, *place]))))  # (draws, 5)
    difference, over_users, first, second, mean = found.T
    trained = [(v, s) for v, s in zip((first, second), cell.seeds_of, strict=True) if s > 1]
    over_seeds, seeds = [v for v, _ in trained], [s for _, s in trained]
    error = np.sqrt(over_users + sum(over_seeds))
    df = degrees_of_freedom(over_users, cell.users, over_seeds, seeds)
    free = _without_cap(over_users, cell.users, over_seeds, seeds)

    def share(of: np.ndarray, df: np.ndarray) -> float:
        t = np.divide(of, error, out=np.zeros_like(of), where=error > 0)
        return float((two_sided_p(t, df) < ALPHA).mean())

    detectable = minimum_detectable(error, df, ALPHA).mean()
    return Result(
        share(difference, df),
        share(difference, free),
        share(difference + GAIN * mean.mean(), df),
        share(difference + detectable, df),
    )


def _draws(cell: Cell, draws: int, rng: np.random.Generator) -> Iterator[tuple[float, ...]]:
    """Difference, variance over users, variance over seeds of each system, mean: of one comparison each."""
    users, (first, second) = cell.users, cell.seeds_of
    systems = np.repeat([0, 1], [first, second])
    spread = np.repeat(cell.spreads, [first, second])
    alike = int(ALIKE * users)
    # users are drawn with replacement from many: a draw of a beta distribution for each would take most of the time
    chances = (rng.beta(*CHANCE, POPULATION) * MOST_CHANCE * ONE).astype(np.float32)
    gains = 1 / np.log2(rng.integers(2, 12, POPULATION, dtype=np.int8).astype(np.float32))  # ndcg@10 of ranks 1 to 10
    for _ in range(draws):
        who = rng.integers(0, POPULATION, users, dtype=np.int32)
        value = gains[who]
        prefers = np.ones((2, users), dtype=np.float32)
        if cell.effects == "unequal":
            prefers += np.float32(PREFERENCE) * (2 * rng.integers(0, 2, (2, users), dtype=np.int8) - 1)
        of_seed = 1 + spread * np.clip(rng.standard_normal(len(systems)), -3, 3)
        # a chance above 1 would be cut off: the most that it is multiplied by is 1.6 x 1.45
        parts = chances[who] * prefers
        wanted = (parts[systems] * of_seed[:, None].astype(np.float32)).astype(np.uint16)
        uniform = rng.integers(0, ONE, (len(systems), users), dtype=np.uint16)
        uniform[:, :alike] = uniform[0, :alike]
        hits = (uniform < wanted).astype(np.float32)  # (S1 + S2, U)
        of_run = hits @ value / users  # (S1 + S2,)
        a, b = of_run[:first], of_run[first:]
        difference = (hits[:first].sum(axis=0) / first - hits[first:].sum(axis=0) / second) * value
        over_users = users_variance((difference - difference.mean())[None], users)[0]
        yield (
            float(a.mean() - b.mean()),
            float(over_users),
            float(a.var(ddof=1) / first),
            float(b.var(ddof=1) / second) if second > 1 else 0.0,
            float(of_run.mean()),
        )


def _without_cap(over_users: np.ndarray, users: int, over_seeds: list[np.ndarray], seeds: list[int]) -> np.ndarray:
    parts = over_users**2 / (users - 1) + sum(v**2 / (s - 1) for v, s in zip(over_seeds, seeds, strict=True))
    total = over_users + sum(over_seeds)
    free: np.ndarray = np.divide(total**2, parts, out=np.full_like(total, users - 1.0), where=parts > 0)
    return free


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--users", nargs="+", type=int, default=USERS)
    parser.add_argument("--draws", type=int, default=4_000, help="of each cell (default 4000)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began, worst = time.perf_counter(), 0.0
    print("| seed variance | per-user effects | users | " + " | ".join(f"{s} seeds" for s in chosen.seeds) + " |")
    print("|---" * (3 + len(chosen.seeds)) + "|")
    for variance, effects, users in product(VARIANCES, EFFECTS, chosen.users):
        cells = []
        for seeds in chosen.seeds:
            result = simulate(Cell(seeds, users, effects, variance), chosen.draws, chosen.seed)
            worst = max(worst, result.rejected)
            cells.append(
                f"{100 * result.rejected:.1f} ({100 * result.uncapped:.1f}), {100 * result.power:.0f}, "
                f"{100 * result.power_at_mde:.0f}"
            )
        print(f"| {variance} | {effects} | {users:,} | " + " | ".join(cells) + " |", flush=True)
    print(
        f"\nIn %: significant where the means are equal (without the cap), power for a tenth of the mean, power at the "
        f"minimum detectable effect. {chosen.draws:,} draws a cell, alpha {ALPHA}; the largest {100 * worst:.1f} %; "
        f"{time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
