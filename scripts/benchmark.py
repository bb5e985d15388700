#!/usr/bin/env python3
"""How fast SASRec trains and is evaluated, in how much memory - alone, or in turn with other libraries.

    scripts/benchmark.py --data ml-100k=ml-100k.parquet:50 --data ml-1m=ml-1m.parquet:200
    scripts/benchmark.py --data ... --peers VENVS --peer-scripts SCRIPTS --rounds 3

Measured through SequenceDataModule, SASRec and Trainer, i.e. what a user gets: training target positions per second
(median over the epochs after the first), users per second of full-ranking `trainer.test` with seen items left out, peak
resident memory (the larger of the preparing and the training process), preparation and import seconds. Each measurement
is a process of its own. Configuration: embedding_dim 64, 2 blocks, 2 heads, feed-forward 64, dropout 0.2, full
cross-entropy, Adam 1e-3, 128 windows a batch, leave-one-out.

Peers: for every NAME with both VENVS/NAME/bin/python and SCRIPTS/bench_NAME.py that script is called with `--data
--dataset --model SASRec --maxlen --batch-size --max-epochs --max-batches --max-seconds --threads --seed --min-user
--out --work` and must print one JSON line with `targets_per_s`, `targets_per_epoch`, `eval_users_per_s` (and
`eval_users_per_s_B`, seen items left out: the faster of the two counts), `n_users`, `peak_rss_mb`, `prep_s`,
`import_s`. Ours and theirs run in turn, round by round, with the same number of threads; the ratios are medians over
the rounds.

This process imports nothing heavy: a child's peak memory starts at that of its parent.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _bench_table import ALL, NEWEST, OURS, header, notes, table

HERE = Path(__file__).resolve().parent
MAX_BUSY_CORES = 0.3
MIN_USER_EVENTS = 5


def main() -> int:
    args = parse_args()
    busy = busy_cores()
    if busy > MAX_BUSY_CORES:
        advice = "the result will say so" if args.even_if_busy else "wait until it is idle, or pass --even-if-busy"
        print(
            f"benchmark: others use {busy:.1f} cores of this machine: numbers taken now would be wrong; {advice}",
            file=sys.stderr,
        )
        if not args.even_if_busy:
            return 2
    peers = find_peers(args)
    rows: list[dict[str, Any]] = []
    environment: dict[str, Any] = {}
    machine = describe_machine()
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder, open(args.out, "a") as out:
        for name, file, max_length in args.data:
            for turn in range(args.rounds):
                for row in one_round(args, peers, Path(folder), name, file, max_length, turn):
                    environment = row.pop("environment", environment)
                    rows.append(row)
                    out.write(json.dumps({**machine, "commit": environment.get("commit"), **row}) + "\n")
                    out.flush()
    settings = {
        "threads": args.threads,
        "rounds": args.rounds,
        "our epochs": args.epochs,
        "our batches per epoch": args.max_batches or "all",
    }
    if peers:
        settings |= {"peer epochs": args.peer_epochs, "peer batches per epoch": args.peer_max_batches or "all"}
    lines = [*header(machine, environment, settings), "", *table(rows), "", *notes(rows, MAX_BUSY_CORES)]
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if args.markdown:
        Path(args.markdown).write_text(text)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--data",
        action="append",
        required=True,
        type=data_set,
        metavar="NAME=FILE.parquet[:L]",
        help="user_id, item_id, timestamp (or an order, named timestamp); L inputs per window, default 50. Repeatable",
    )
    add("--epochs", type=int, default=4, help="epochs of ours; the first is warm-up (default 4)")
    add("--max-batches", type=int, default=0, help="batches of ours per epoch; 0 = all")
    add("--batch-size", type=int, default=128, help="windows per batch, ours and theirs (default 128)")
    add("--rounds", type=int, default=3, help="how often everything is measured (default 3)")
    add("--threads", type=int, default=2, help="OMP_NUM_THREADS of every process (default 2)")
    add("--seed", type=int, default=42)
    add(
        "--windows",
        choices=[NEWEST, ALL, "both"],
        default="both",
        help="train on each user's newest window, as the peers do, on all windows (our default), or measure both",
    )
    add("--peers", type=Path, metavar="VENVS", help="folder of the peers' virtual environments")
    add("--peer-scripts", type=Path, metavar="SCRIPTS", help="folder of their bench_NAME.py")
    add("--peer", action="append", metavar="NAME", help="only this one; repeatable. Default: all that are found")
    add("--peer-epochs", type=int, default=4)
    add("--peer-max-batches", type=int, default=0, help="their batches per epoch, e.g. 10 for slow ones; 0 = all")
    add("--peer-timeout", type=float, default=3600, help="seconds after which a peer's measurement is given up")
    add("--out", default="benchmark.jsonl", help="one JSON line per measurement is appended (default benchmark.jsonl)")
    add("--markdown", help="also write header and table to this file")
    add("--work-dir", help="where temporary folders are made; default: the system's")
    add("--even-if-busy", action="store_true", help="measure although other processes use the machine")
    args = parser.parse_args()
    if (args.peers is None) != (args.peer_scripts is None):
        parser.error("--peers and --peer-scripts belong together")
    return args


def data_set(text: str) -> tuple[str, Path, int]:
    name, equals, rest = text.partition("=")
    path, colon, length = rest.rpartition(":")
    if not colon or not length.isdigit():
        path, length = rest, "50"
    if not equals or not name or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE[:L] with a file that exists")
    return name, Path(path).resolve(), int(length)


def find_peers(args: argparse.Namespace) -> dict[str, tuple[Path, Path]]:
    """Name -> (python, script)."""
    if args.peers is None:
        return {}
    found = {}
    for script in sorted(args.peer_scripts.resolve().glob("bench_*.py")):
        name = script.stem.removeprefix("bench_")
        python = args.peers.absolute() / name / "bin" / "python"  # not resolved: a venv is known by its link
        if python.exists() and (not args.peer or name in args.peer):
            found[name] = (python, script)
    missing = sorted(set(args.peer or []) - set(found))
    if missing or not found:
        wanted = ", ".join(missing) or "any peer"
        sys.exit(f"benchmark: no {wanted} with {args.peers}/NAME/bin/python and {args.peer_scripts}/bench_NAME.py")
    return found


def one_round(
    args: argparse.Namespace,
    peers: dict[str, tuple[Path, Path]],
    folder: Path,
    name: str,
    file: Path,
    max_length: int,
    turn: int,
) -> list[dict[str, Any]]:
    rows = []
    prepared = folder / f"{name}-{turn}"  # a new folder each round: nothing is reused, preparation is measured
    shared = {"folder": str(prepared), "threads": args.threads, "seed": args.seed, "max_length": max_length}
    basis = {"data": name, "round": turn, "max_length": max_length}
    preparation: dict[str, Any] = {}
    for windows in [NEWEST, ALL] if args.windows == "both" else [args.windows]:
        busy = busy_cores()
        if not preparation:
            job = {"kind": "prepare", "file": str(file), "min_user_events": MIN_USER_EVENTS, **shared}
            preparation = ours(args, job)
        job = {
            "kind": "train",
            "epochs": args.epochs,
            "max_batches": args.max_batches,
            "batch_size": args.batch_size,
            "max_windows_per_user": 1 if windows == NEWEST else None,
            **shared,
        }
        result = ours(args, job)
        row = {**basis, "who": OURS, "windows": windows, "busy_cores_before": busy, **preparation, **result}
        row["prepare_rss_mb"], row["train_rss_mb"] = preparation["peak_rss_mb"], result["peak_rss_mb"]
        row["peak_rss_mb"] = max(row["prepare_rss_mb"], row["train_rss_mb"])
        row["preparation_s"] = row["prepare_s"] + row["setup_s"]
        rows.append(row)
        say(row)
    for peer, (python, script) in peers.items():
        busy = busy_cores()
        result = theirs(args, python, script, folder, name, file, max_length)
        modes = [result[key] for key in ("eval_users_per_s", "eval_users_per_s_B") if result.get(key)]
        row = {
            **basis,
            "who": " ".join([peer, str(result.get("version", ""))]).strip(),
            "windows": NEWEST,
            "busy_cores_before": busy,
            "targets_per_s": result.get("targets_per_s"),
            "targets_per_epoch": result.get("targets_per_epoch"),
            "eval_users": result.get("n_users"),
            "eval_users_per_s": max(modes) if modes else None,
            "peak_rss_mb": result.get("peak_rss_mb"),
            "preparation_s": result.get("prep_s"),
            "import_s": result.get("import_s"),
            "cores_used": result.get("cores_used"),
            "raw": result,
        }
        rows.append(row)
        say(row)
    return rows


def ours(args: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    return last_json([sys.executable, str(HERE / "_bench_measure.py"), json.dumps(job)], args.threads, None, None)


def theirs(
    args: argparse.Namespace, python: Path, script: Path, folder: Path, name: str, file: Path, max_length: int
) -> dict[str, Any]:
    options = {
        "data": file,
        "dataset": name,
        "model": "SASRec",
        "maxlen": max_length,
        "max-epochs": args.peer_epochs,
        "max-batches": args.peer_max_batches,
        "max-seconds": args.peer_timeout,
        "batch-size": args.batch_size,
        "threads": args.threads,
        "seed": args.seed,
        "min-user": MIN_USER_EVENTS,
        "out": "",
        "work": folder / "peer",
    }
    command = [str(python), str(script), *(f"--{key}={value}" for key, value in options.items())]
    return last_json(command, args.threads, folder, args.peer_timeout)


def last_json(command: list[str], threads: int, cwd: Path | None, timeout: float | None) -> dict[str, Any]:
    """Runs the command and reads the last JSON line that it prints; its error output is shown if it fails."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    env = {**os.environ, **{name: str(threads) for name in names}}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"benchmark: {' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def say(row: dict[str, Any]) -> None:
    numbers = ", ".join(
        f"{key} {row[key]:,.1f}" for key in ("targets_per_s", "eval_users_per_s", "peak_rss_mb") if row[key] is not None
    )
    print(f"{row['data']} round {row['round']} {row['who']} ({row['windows']}): {numbers}", file=sys.stderr, flush=True)


def busy_cores(seconds: float = 2.0) -> float:
    """Cores that others use while this process waits: from /proc/stat, else the load average of the last minute."""

    def ticks() -> list[int]:
        return [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]

    try:
        before = ticks()
        time.sleep(seconds)
        spent = [after - earlier for earlier, after in zip(before, ticks(), strict=True)]
        idle = spent[3] + spent[4]
        return (1 - idle / sum(spent)) * (os.cpu_count() or 1)
    except (OSError, ValueError, ZeroDivisionError):
        return os.getloadavg()[0]


def describe_machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "os": platform.platform(),
    }


if __name__ == "__main__":
    sys.exit(main())
