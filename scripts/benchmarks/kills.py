"""Kills runs at random moments, goes on with them, and compares the outcome with a run that nobody disturbed.

    python scripts/benchmarks/kills.py                              # 17 kills, one Markdown table
    python scripts/benchmarks/kills.py --kills fit=1,prepare=1      # fewer

Each kind of work is done once undisturbed. Then it is begun again, stopped by SIGKILL at a moment drawn from the whole
time that it took, and taken up by the command that its own messages name. The time counts from its first file on:
before, Python imports. All that the work leaves must be equal bit for bit: weights and optimiser of the checkpoints,
ranks, metrics but for times, prepared arrays. The exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

COUNTS = {"fit": 7, "fit on 2 processes": 4, "prepare": 3, "study run": 3}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
TIMES = ("seconds", "tokens_per_second", "wall_seconds")
LIMIT = 600.0
"""Seconds after which a command hangs."""

FIT = "fit --model SASRec --model.embedding_dim 32 --model.loss BCE --data.max_length 20 --trainer.max_epochs 5"
QUIET = "--trainer.accelerator cpu --trainer.enable_progress_bar false --trainer.enable_model_summary false"
STUDY = """question: Which rate?
base:
  model: SASRec
  model.embedding_dim: 8
  data.dataset: {data}
  data.max_length: 10
  trainer.max_epochs: 2
  trainer.accelerator: cpu
  trainer.enable_progress_bar: false
axes:
  rate:
    low: {{model.optimization.lr: 0.001}}
    high: {{model.optimization.lr: 0.01}}
seeds: [0]
"""
Outcome = dict[str, str]
"""Name of what a piece of work left -> its hash."""


@dataclass
class Work:
    """Something that can be killed.

    Args:
        start: the arguments that begin it in a folder. outcome: of what it left there.
        first: the pattern of the first file that it writes there.
        ranks: processes of which one is killed.
    """

    start: Callable[[Path], list[str]]
    outcome: Callable[[Path], Outcome]
    first: str = "config.yaml"
    ranks: int = 1

    def again(self, folder: Path) -> list[str]:
        """As the messages say: `fit FOLDER`; elsewhere, and before there is a run, the same command."""
        return ["fit", str(folder)] if (folder / "config.yaml").is_file() else self.start(folder)

    def begin(self, arguments: list[str], output: Path, folder: Path) -> subprocess.Popen[bytes]:
        """Until its first file is there."""
        with output.open("ab") as file:  # a group of its own: whatever it starts can be ended with it
            process = subprocess.Popen(
                [sys.executable, "-m", "recsys_lab.cli", *arguments],
                stdout=file,
                stderr=file,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        while process.poll() is None and not any(folder.glob(self.first)):
            time.sleep(0.01)
        return process

    def whole(self, arguments: list[str], output: Path, folder: Path) -> float:
        """Seconds that the command took, from its first file on. Raises RuntimeError if it failed."""
        process = self.begin(arguments, output, folder)
        started = time.monotonic()
        try:
            code = process.wait(LIMIT)
        finally:
            end(process)
        if code:
            raise RuntimeError(f"exit code {code}: {output.read_text(errors='replace').strip().splitlines()[-1]}")
        return time.monotonic() - started

    def kill(self, folder: Path, output: Path, seconds: float, draw: random.Random) -> str | None:
        """-> what was killed; None if the work had ended before."""
        process = self.begin(self.start(folder), output, folder)
        try:
            time.sleep(seconds)
            victims = [process.pid, *children(process.pid)][: self.ranks]
            victim = draw.randrange(len(victims))
            if process.poll() is not None:
                return None
            os.kill(victims[victim], signal.SIGKILL)
            if victim:  # the other ranks must end by themselves
                process.wait(60)
            return f"rank {victim}" if self.ranks > 1 else "the process"
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """The process and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


# -- what is compared --------------------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(value.numpy().tobytes()).hexdigest()[:12]
    if isinstance(value, dict):
        return digest([[str(k), digest(v)] for k, v in value.items()])
    if isinstance(value, list | tuple):
        return hashlib.sha256(json.dumps([digest(v) for v in value]).encode()).hexdigest()[:12]
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if not name.endswith(TIMES)}


def run_outcome(folder: Path) -> Outcome:
    """Of a run folder."""
    found = {}
    for name in ("best", "last"):
        checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        found[f"{name} weights"] = digest(checkpoint["state_dict"])
        found[f"{name} optimiser"] = digest([state["state"] for state in checkpoint["optimizer_states"]])
    found["ranks"] = digest(pl.read_parquet(folder / "ranks.parquet").rows())
    found["metrics.json"] = digest(without_times(json.loads((folder / "metrics.json").read_text())))
    found["metrics.csv"] = digest([without_times(row) for row in pl.read_csv(folder / "metrics.csv").to_dicts()])
    found["partial files"] = digest(sorted(path.name for path in folder.rglob("*partial*")))
    return found


def prepared_outcome(folder: Path) -> Outcome:
    """Of a prepared data set: its arrays and tables, and leftovers beside it."""
    files = [path for path in sorted(folder.glob("made/*")) if path.suffix in (".npy", ".parquet")]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in files}
    return found | {"leftovers": digest(sorted(p.name for p in folder.iterdir() if "tmp" in p.name))}


def study_outcome(folder: Path) -> Outcome:
    runs = sorted(path.parent for path in folder.glob("runs/**/ranks.parquet"))
    return {f"{run.parent.name} {name}": value for run in runs for name, value in run_outcome(run).items()}


# -- the kinds of work -------------------------------------------------------------------------------------------------


def works(base: Path) -> dict[str, Work]:
    data = base / "data" / "made"

    def fit(devices: str) -> Callable[[Path], list[str]]:
        own = [*FIT.split(), *QUIET.split(), "--data.dataset", str(data), *devices.split()]
        return lambda folder: [*own, "--run.folder", str(folder)]

    def prepare(folder: Path) -> list[str]:
        return ["prepare", "--input", str(base / "log.csv"), "--name", "made", "--data_dir", str(folder)]

    def study(folder: Path) -> list[str]:
        folder.mkdir(exist_ok=True)
        (folder / "study.yaml").write_text(STUDY.format(data=data))
        return ["study", "run", str(folder), "--root", str(folder / "runs"), "--workers", "1"]

    return {
        "fit": Work(fit("--trainer.devices 1"), run_outcome),
        "fit on 2 processes": Work(fit("--trainer.strategy ddp --trainer.devices 2"), run_outcome, ranks=2),
        "prepare": Work(prepare, prepared_outcome, "*/*"),
        "study run": Work(study, study_outcome, "runs/**/config.yaml"),
    }


def made_log(path: Path, users: int, seed: int = 0) -> None:
    """A log of events as a user might have it."""
    draw = random.Random(seed)
    rows, time_ = [], 1_600_000_000
    for user in range(users):
        item = draw.randrange(300)
        for _ in range(draw.randint(5, 40)):
            rows.append((f"u{user}", f"i{item}", time_))
            item = (item + 1) % 300 if draw.random() < 0.7 else draw.randrange(300)
            time_ += draw.randrange(1, 500)
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(path)


# -- kill after kill ---------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", default=",".join(f"{name}={count}" for name, count in COUNTS.items()))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--users", type=int, default=600, help="of the made data")
    asked = parser.parse_args(arguments)
    counts = {name: int(count) for name, count in (part.split("=") for part in asked.kills.split(","))}
    draw, results = random.Random(asked.seed), []
    base = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        made_log(base / "log.csv", asked.users)
        known = works(base)
        known["prepare"].whole(known["prepare"].start(base / "data"), base / "data.txt", base / "data")
        print("| killed | moment | it left | then | seconds |\n|---|---|---|---|---|", flush=True)
        for kind, count in counts.items():
            work, reference = known[kind], base / f"{kind} reference".replace(" ", "-")
            seconds = work.whole(work.start(reference), base / "reference.txt", reference)
            expected = work.outcome(reference)
            for number in range(count):
                started, folder = time.monotonic(), base / f"{kind}-{number}".replace(" ", "-")
                *cells, then = one(work, folder, seconds, expected, draw)
                results.append(then)
                row = (f"{kind}: {cells[0]}", *cells[1:], then, f"{time.monotonic() - started:.0f}")
                print("| " + " | ".join(row) + " |", flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(f"\n{results.count('equal')} of {len(results)} equal bit for bit.")
    return 0 if set(results) == {"equal"} else 1


def one(work: Work, folder: Path, seconds: float, expected: Outcome, draw: random.Random) -> tuple[str, str, str, str]:
    """What was killed, when, what it left, and what became of it."""
    output, what, moment = folder.with_suffix(".txt"), None, 0.0
    while what is None:
        shutil.rmtree(folder, ignore_errors=True)
        moment = draw.random() * seconds
        what = work.kill(folder, output, moment, draw)
    left = state(folder)
    try:
        work.whole(work.again(folder), output, folder)
        found = work.outcome(folder)
        patience = time.monotonic() + LIMIT / 4  # a run of a study that outlived its launcher ends by itself
        while work.outcome is study_outcome and found != expected and time.monotonic() < patience:
            time.sleep(1)
            with suppress(OSError):
                found = work.outcome(folder)
        missing = [name for name in expected if name not in found]
        differ = [name for name in expected if name in found and found[name] != expected[name]]
        words = [f"{word}: {', '.join(names)}" for word, names in (("missing", missing), ("differs", differ)) if names]
        then = "; ".join(words) or "equal"
    except Exception as error:
        then = f"failed: {' '.join(str(error).split())[:200]}".replace("|", "/")
    return what, f"{moment:.1f} s", left, then


def state(folder: Path) -> str:
    """Of what a kill left."""
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        try:
            return f"after epoch {torch.load(last, weights_only=True)['epoch'] + 1}"
        except Exception:
            return "a broken last.ckpt"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return "before the first checkpoint" if "config.yaml" in names else f"{len(names)} entries"


if __name__ == "__main__":
    sys.exit(main())
