#!/usr/bin/env python3
"""Loses ranks of a fit of two processes, and compares with a fit that nobody disturbed.

    scripts/benchmarks/lost_ranks.py --kills 20         # SIGKILL and SIGTERM at random steps, torchrun starts again
    scripts/benchmarks/lost_ranks.py --kills 0 --hang   # a rank that stops answering
    sudo scripts/benchmarks/lost_ranks.py --kills 0 --nodes   # two nodes (network namespaces), one is cut off

Kills: one `torchrun --max-restarts` of two processes; in each attempt a rank drawn at random ends itself after a step
drawn at random, and all are started again from the last finished epoch. The loss of every step of every rank is kept:
whatever attempt took a step, it must be the loss of the undisturbed fit bit for bit, no step may be missing, and the
last weights must be the same. Reported is also what a start that goes on takes, beside a first one: from the Trainer's
set-up to the first step, in seconds of a processor. The exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L

MASTER = "10.77.0.1"
NEW_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""Without it torchrun (2.13) keeps one store for all attempts, in which a process that starts again may read the
address of the one that was killed."""
BATCH, EPOCH_STEPS = 8, 6
FIT = "fit --model SASRec --model.embedding_dim 16 --data.max_length 10 --trainer.accelerator cpu"
QUIET = "--trainer.enable_progress_bar false --trainer.enable_model_summary false --run.test_after_fit false"
STRATEGY = "--trainer.strategy DDPStrategy --trainer.strategy.process_group_backend gloo"


class Recorder(L.Callback):
    """Appends the loss of each step to `$RECORD/<rank>.jsonl`, and does to its own process what the plan says.

    The plan, `$RECORD/plan.json`: a list with [rank, steps, signal] of each attempt.
    """

    def __init__(self) -> None:
        self.folder = Path(os.environ["RECORD"])
        self.rank, self.attempt = (int(os.environ.get(n, 0)) for n in ("RANK", "TORCHELASTIC_RESTART_COUNT"))
        plan = json.loads((self.folder / "plan.json").read_text())
        self.plan = plan[self.attempt] if self.attempt < len(plan) else None
        self.done, self.start = 0, time.process_time()

    def note(self, **facts: Any) -> None:
        with (self.folder / f"{self.rank}.jsonl").open("a") as file:
            file.write(json.dumps({"attempt": self.attempt, "at": time.time(), **facts}) + "\n")

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.start = time.process_time()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.done:
            self.note(start_s=time.process_time() - self.start, pid=os.getpid())
        self.done += 1
        epoch = trainer.fit_loop.epoch_progress.current.processed
        self.note(step=[epoch, batch_idx], loss=float(outputs["loss"]).hex())
        if self.plan is not None and self.plan[:2] == [self.rank, self.done]:
            self.note(end=signal.Signals(self.plan[2]).name)
            os.kill(os.getpid(), self.plan[2])

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.note(error=f"{type(exception).__name__}: {exception}"[:200])


def main() -> int:
    args = parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="lost-ranks-") as name:
        base = Path(name)
        make_log(base)
        rows, bad = [], 0
        if args.kills:
            plan = [
                [draw.randrange(2), draw.randint(1, 2 * EPOCH_STEPS - 1), draw.choice([signal.SIGKILL, signal.SIGTERM])]
                for _ in range(args.kills)
            ]
            epochs = 2 * args.kills + 2
            whole = fit(base, "whole", [], epochs, restarts=0)
            rows, bad = compared(whole, fit(base, "killed", plan, epochs, restarts=args.kills), args.kills)
        if args.hang:
            more, wrong = hang(base, args.timeout)
            rows, bad = [*rows, *more], bad + wrong
        if args.nodes:
            more, wrong = cut_off(base, args.timeout)
            rows, bad = [*rows, *more], bad + wrong
    print("\n".join(["| what | found |", "|---|---|", *(f"| {what} | {found} |" for what, found in rows)]))
    return int(bad > 0)


def parse_args(words: list[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of one fit (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    parser.add_argument("--hang", action="store_true", help="a rank that stops answering")
    parser.add_argument("--nodes", action="store_true", help="two network namespaces (needs the right to make them)")
    parser.add_argument("--timeout", type=int, default=15, help="of the processes' messages, in seconds (default 15)")
    return parser.parse_args(words)


def make_log(base: Path) -> None:
    import numpy as np
    import polars as pl

    from recsys_lab.data.datamodule import SequenceDataModule

    rng, users = np.random.default_rng(0), 2 * BATCH * EPOCH_STEPS
    frame = {"user_id": np.repeat(np.arange(users), 10), "item_id": rng.integers(40, size=10 * users)}
    SequenceDataModule.from_frames(
        pl.DataFrame(frame | {"timestamp": np.arange(10 * users)}), name="log", data_dir=base
    )


def command(base: Path, folder: Path, epochs: int, timeout: int = 600) -> list[str]:
    words = ["-m", "recsys_lab.cli", *FIT.split(), *QUIET.split(), *patience(timeout)]
    words += ["--data.dataset", str(base / "log"), "--data.batch_size", str(BATCH)]
    words += ["--trainer.max_epochs", str(epochs), "--run.folder", str(folder / "run")]
    return [*words, "--early_stopping.patience", "1000", "--trainer.callbacks", "lost_ranks.Recorder"]


def patience(timeout: int) -> list[str]:
    return [*STRATEGY.split(), "--trainer.strategy.timeout", f"0:{timeout // 60:02d}:{timeout % 60:02d}"]


def environment(folder: Path) -> dict[str, str]:
    known = {"RECORD": str(folder), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", NEW_STORE: "1"}
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, **known, "PYTHONPATH": path}


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options]


def fit(base: Path, name: str, plan: list[Any], epochs: int, restarts: int) -> Path:
    """One fit of two processes; -> its folder. Raises RuntimeError if it fails."""
    folder = base / name
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(plan))
    options = ["--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts), "--monitor-interval", "0.1"]
    words = [*torchrun(*options), *command(base, folder, epochs), "--trainer.devices", "2"]
    with (folder / "output.txt").open("w") as out:
        code = subprocess.run(words, env=environment(folder), stdout=out, stderr=out).returncode
    if code:
        raise RuntimeError(f"{name} ended with {code}:\n{(folder / 'output.txt').read_text()[-9000:]}")
    return folder


def notes(folder: Path, rank: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{rank}.jsonl").read_text().splitlines()]


def losses(folder: Path, rank: int) -> dict[tuple[int, ...], set[str]]:
    found: dict[tuple[int, ...], set[str]] = {}
    for note in notes(folder, rank):
        if "step" in note:
            found.setdefault(tuple(note["step"]), set()).add(note["loss"])
    return found


def weights(folder: Path) -> str:
    import torch

    state = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()[:12]


def compared(whole: Path, killed: Path, kills: int) -> tuple[list[tuple[str, str]], int]:
    ends = [note["end"] for rank in range(2) for note in notes(killed, rank) if "end" in note]
    starts = [note for note in notes(killed, 0) if "start_s" in note]
    first, later = starts[0]["start_s"], [note["start_s"] for note in starts[1:]]
    same = [losses(whole, rank) == losses(killed, rank) for rank in range(2)]
    equal = weights(whole) == weights(killed)
    steps = sum(len(values) for values in losses(whole, 0).values())
    rows = [
        ("ranks killed", f"{len(ends)}: {ends.count('SIGKILL')} SIGKILL, {ends.count('SIGTERM')} SIGTERM"),
        (f"losses of all {steps} steps of both ranks, bit for bit", "equal" if all(same) else "DIFFERENT"),
        ("last weights, bit for bit", "equal" if equal else "DIFFERENT"),
        (
            "from the Trainer's set-up to the first step",
            f"{first:.2f} s of a processor; going on {max(later):.2f} at most",
        ),
    ]
    return rows, int(not (all(same) and equal and len(ends) == kills))


def hang(base: Path, timeout: int) -> tuple[list[tuple[str, str]], int]:
    """Rank 1 stops answering after three steps: how long until rank 0 ends with an error."""
    folder = base / "hang"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps([[1, 3, signal.SIGSTOP]]))
    words = [*torchrun("--standalone", "--nproc-per-node", "2"), *command(base, folder, 3, timeout)]
    process = subprocess.Popen(
        [*words, "--trainer.devices", "2"],
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return noticed(folder, process, timeout, "a rank that stops answering")


def noticed(folder: Path, process: Any, timeout: int, what: str) -> tuple[list[tuple[str, str]], int]:
    """Waits until rank 0 has noticed, and ends everything."""
    end, error = time.monotonic() + 300 + timeout, None
    while error is None and time.monotonic() < end and process.poll() is None:
        time.sleep(0.5)
        found = notes(folder, 0) if (folder / "0.jsonl").is_file() else []
        error = next((note for note in found if "error" in note), None)
    end_all(folder, process)
    if error is None:
        return [(what, "NOT noticed")], 1
    last = max(note["at"] for note in notes(folder, 0) if "step" in note)
    return [
        (what, f"noticed after {error['at'] - last:.0f} s, with a time-out of {timeout} s: {error['error'][:60]}")
    ], 0


def end_all(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """torchrun, and the processes that it started: each is a group of its own, and one may be stopped."""
    process.kill()
    process.wait()
    for rank in range(2):
        found = notes(folder, rank) if (folder / f"{rank}.jsonl").is_file() else []
        for pid in {note["pid"] for note in found if "pid" in note}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def cut_off(base: Path, timeout: int) -> tuple[list[tuple[str, str]], int]:
    """Two nodes with a cable between them, which is cut after a while; then both start again and go on."""
    names = [f"rl{os.getpid()}a", f"rl{os.getpid()}b"]
    try:
        wire(names)
    except (OSError, subprocess.CalledProcessError) as error:
        return [("two nodes", f"skipped: network namespaces can't be made here ({error})")], 0
    try:
        whole = two_nodes(base, "nodes-whole", names, 4, 600)
        if any(process.wait() for process in whole):
            return [("two nodes", "FAILED without a cut")], 1
        folder = base / "nodes-cut"
        first, second = two_nodes(base, folder.name, names, 4, timeout)
        while len(losses(folder, 0) if (folder / "0.jsonl").is_file() else []) < EPOCH_STEPS + 2:
            time.sleep(0.2)
        subprocess.run(["ip", "-n", names[1], "link", "set", "wire", "down"], check=True)
        rows, bad = noticed(folder, first, timeout, "a node that is cut off")
        end_all(folder, second)
        subprocess.run(["ip", "-n", names[1], "link", "set", "wire", "up"], check=True)
        again = two_nodes(base, folder.name, names, 4, 600, goes_on=True)
        if failed := any([process.wait() for process in again]):
            print((folder / "node0.txt").read_text()[-3000:], file=sys.stderr)
        same = not failed and all(losses(base / "nodes-whole", r) == losses(folder, r) for r in range(2))
        same = same and weights(base / "nodes-whole") == weights(folder)
        rows.append(
            ("both nodes started again: losses and last weights, bit for bit", "equal" if same else "DIFFERENT")
        )
        return rows, bad + int(not same)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def wire(names: list[str]) -> None:
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    for name in names:
        ip("netns", "add", name)
    ip("-n", names[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1])
    for name, address in zip(names, (MASTER, MASTER[:-1] + "2"), strict=True):
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
        for device in ("wire", "lo"):
            ip("-n", name, "link", "set", device, "up")


def two_nodes(
    base: Path, name: str, names: list[str], epochs: int, timeout: int, goes_on: bool = False
) -> list[subprocess.Popen[bytes]]:
    """A torchrun in each namespace, with one process each and a rendezvous on the first."""
    folder = base / name
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text("[]")
    started = []
    for node, namespace in enumerate(names):
        options = ["--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node), "--rdzv-id", name]
        options += ["--master-addr", MASTER, "--master-port", "29511"]
        words = [*torchrun(*options), *command(base, folder, epochs, timeout), "--trainer.devices", "1"]
        if goes_on:  # as the templates of scripts/cluster do
            words = [*torchrun(*options), "-m", "recsys_lab.cli", "fit", str(folder / "run"), *patience(timeout)]
            words += ["--allow_classes", "lost_ranks"]  # the run folder names the recorder
        words += ["--trainer.num_nodes", "2"]
        env = environment(folder) | {"GLOO_SOCKET_IFNAME": "wire"}
        with (folder / f"node{node}.txt").open("ab") as out:
            own: Any = {"env": env, "stdout": out, "stderr": out, "start_new_session": True}
            started.append(subprocess.Popen(["ip", "netns", "exec", namespace, *words], **own))
    return started


if __name__ == "__main__":
    sys.exit(main())
