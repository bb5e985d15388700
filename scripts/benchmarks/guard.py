#!/usr/bin/env python3
"""Whether this commit is slower than an earlier one: both measured in turn, round by round, on the same machine.

    scripts/benchmarks/guard.py origin/main                 # three small made logs, about 10 minutes on two idle cores
    scripts/benchmarks/guard.py v0.3 --rounds 9 --data beauty=beauty.parquet:50
    scripts/benchmarks/guard.py 58492ba --model GRU4Rec --made 3e5:1.2e4

Each side runs its own `peers.py` (once named `scripts/benchmark.py`) on its own code, in a worktree that is removed
afterwards, with the Python and the libraries of this process. What is committed here is compared; changes that are not
are told and left out. The side that begins changes from round to round.

The table has the median of the rounds' ratios (more is better: faster, or less memory) with the smallest and the
largest. A median below --at_least whose largest ratio is below 1 as well ends the script with code 1.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import Row, groups, head, line, measured, not_idle, parser_of, publish

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("scripts/benchmarks/peers.py", "scripts/benchmark.py")
MADE = ("1e5:2e3", "3e5:1.2e4", "3e5:5e4:20")
COMPARED = {
    "training": ("targets_per_s", False),
    "evaluation": ("eval_users_per_s", False),
    "memory": ("peak_rss_mb", True),
    "preparation": ("preparation_s", True),
}
"""Title -> the name in a measurement, and whether less is better."""


def main() -> int:
    args = parse_args()
    if git("status", "--porcelain", "--untracked-files=no"):
        print("guard: changes that are not committed are left out", file=sys.stderr)
    with worktree(args.base) as before, worktree("HEAD") as after:
        rows, lines = measured(measurements(args, {"before": before, "after": after}), args, base=args.base)
    lines += ["", "Later over earlier; more is better: the median of the rounds [smallest, largest].", *table(rows)]
    slower = [f"- slower than {args.base}: {what}" for what in too_slow(rows, args.at_least)]
    publish([*lines, "", *slower, *not_idle(rows)], args.markdown)
    return 1 if slower else 0


def parse_args() -> Any:
    parser = parser_of(__doc__, "guard.jsonl", rounds=5)
    add = parser.add_argument
    add("base", help="the commit to compare with")
    add("--at_least", type=float, default=0.95, help="of the earlier speed (default 0.95)")
    add("--data", action="append", default=[], metavar="NAME=FILE.parquet[:L]", help="as for peers.py; repeatable")
    add("--made", action="append", default=[], metavar="EVENTS:ITEMS[:L]", help="as for peers.py; repeatable")
    add("--model", action="append", help="SASRec, GRU4Rec or NARM; repeatable; default SASRec and GRU4Rec")
    add("--max-batches", type=int, default=30, help="of an epoch (default 30)")
    args = parser.parse_args()
    args.made = args.made or ([] if args.data else list(MADE))
    args.model = args.model or ["SASRec", "GRU4Rec"]
    return args


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"guard: git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--detach", "--force", str(tree), commit)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def measurements(args: Any, sides: dict[str, Path]) -> Iterator[Row]:
    for turn in range(args.rounds):
        order = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for side in order:
            for row in measure(args, sides[side]):
                yield {**row, "side": side, "round": turn}


def measure(args: Any, tree: Path) -> list[Row]:
    """One round of a side."""
    script = next((tree / name for name in NAMES if (tree / name).exists()), None)
    if script is None:
        sys.exit(f"guard: {args.base} has none of {', '.join(NAMES)}")
    given = [f"--{name}={value}" for name in ("data", "made", "model") for value in getattr(args, name)]
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        out = Path(folder) / "rows.jsonl"
        more = [f"--max-batches={args.max_batches}", f"--threads={args.threads}", f"--out={out}", "--windows=newest"]
        command = [sys.executable, str(script), *given, *more, "--epochs=4", "--rounds=1", "--even-if-busy"]
        env = {**os.environ, "PYTHONPATH": str(tree)}
        done = subprocess.run([*command, f"--work-dir={folder}"], cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"guard: {' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
        return [json.loads(text) for text in out.read_text().splitlines()]


def ratios(rows: list[Row], name: str, less_is_better: bool) -> list[float]:
    """Of each round: the later side's number over the earlier's, turned so that more is better."""
    found = {side: {row["round"]: row[name] for row in rows if row["side"] == side} for side in ("before", "after")}
    both = [(found["before"][turn], found["after"][turn]) for turn in sorted(found["before"].keys() & found["after"])]
    return [before / after if less_is_better else after / before for before, after in both]


def table(rows: list[Row]) -> list[str]:
    lines = head("data", "model", *COMPARED)
    for (data, model), here in groups(rows, "data", "model"):
        found = [ratios(here, *how) for how in COMPARED.values()]
        lines.append(line(data, model, *(f"{statistics.median(r):.2f} [{min(r):.2f}, {max(r):.2f}]" for r in found)))
    return lines


def too_slow(rows: list[Row], at_least: float) -> list[str]:
    found = []
    for (data, model), here in groups(rows, "data", "model"):
        for title, how in COMPARED.items():
            each = ratios(here, *how)
            if statistics.median(each) < at_least and max(each) < 1:
                found.append(f"{data}, {model}: {title} {statistics.median(each):.2f}")
    return found


if __name__ == "__main__":
    sys.exit(main())
