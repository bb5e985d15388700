#!/usr/bin/env python3
"""How fast a model trains and is evaluated, in how much memory, how soon it is good - alone, or in turn with others.

    scripts/benchmarks/peers.py --data ml-100k=ml-100k.parquet:50 --data ml-1m=ml-1m.parquet:200
    scripts/benchmarks/peers.py --data ... --model SASRec --model GRU4Rec --peers VENVS --peer-scripts SCRIPTS
    scripts/benchmarks/peers.py --data ... --peers VENVS --peer-scripts SCRIPTS --quality 300
    scripts/benchmarks/peers.py --made 1e6:1e4 --made 1e8:1e6 --rounds 1 --max-batches 4 --max-test-batches 4

Measured through SequenceDataModule, a model and Trainer, i.e. what a user gets: training target positions per second
(median over the epochs after the first), users per second of full-ranking `trainer.test` with seen items left out, peak
resident memory (the larger of the preparing and the training process), preparation (raw file to first batch) and import
seconds. Each measurement is a process of its own. Configuration: embedding_dim 64, SASRec of 2 blocks, 2 heads and
feed-forward 64, recurrent models of one layer, dropout 0.2, full cross-entropy, Adam 1e-3, 128 windows a batch,
leave-one-out. NARM is LSTMAttention with NARM's attention.

--quality SECONDS trains each peer until its best validation ndcg@10 (seen items left in) is ten epochs old or the
seconds are over, then ours the same way, on all windows; the table has the seconds to the peer's best and both tests.

Peers: for every NAME with VENVS/NAME/bin/python, and bench_NAME.py in SCRIPTS or beside this file, that script is
called with `--data --dataset --model --maxlen --batch-size --max-epochs --max-batches --max-seconds --threads --seed
--min-user --out --work` and must print one JSON line with `targets_per_s`, `targets_per_epoch`, `eval_users_per_s` (and
`eval_users_per_s_B`, seen items left out: the faster of the two counts), `n_users`, `peak_rss_mb`, `prep_s`,
`import_s`; for --quality `best_val_ndcg`, `time_to_best_s`, `test_A`, `test_B`. Ours and theirs run in turn, round by
round, with the same number of threads, on the same targets (each user's newest window; recbole: all); the ratios are
medians over the rounds, with the smallest and the largest. `--peer-options "NAME=--option value"` measures that peer
once more with options that its script has besides, as a peer of its own; `--fast` does so with those for speed that are
known. bench_rectools_fast.py beside this file is such a script.

The ratios of the README, in one command:

    scripts/benchmarks/peers.py --data ml-100k=FILE:50 --data amazon-beauty=FILE:50 --data ml-1m-sasrec=FILE:200 \\
      --model SASRec --model GRU4Rec --peers VENVS --peer-scripts SCRIPTS --fast --peer replay --peer rectools_fast \\
      --peer recbole=GRU4Rec --windows peers --rounds 2 --epochs 3 --max-batches 24 --peer-epochs 2 --peer-max-batches 4

--made EVENTS:ITEMS makes a log (100 events a user on average, items by a power law; see prepare.py) and
measures it like a file; items that no event drew are not in the catalogue.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import OURS, Row, busy_cores, child, measured, not_idle, parser_of, publish
from peer_side import MIN_USER_EVENTS, Peer, find_peers, quality_row, speed_row
from peer_table import ALL, NEWEST, notes, quality_table, table

HERE = Path(__file__).resolve().parent
MODELS = ("SASRec", "GRU4Rec", "NARM")
PATIENCE = 10
AS_PEERS = "peers"


def main() -> int:
    args = parse_args()
    settings = {"our epochs": args.epochs, "our batches per epoch": args.max_batches or "all"}
    if args.peers:
        settings |= {"peer epochs": args.peer_epochs, "peer batches per epoch": args.peer_max_batches or "all"}
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        rows, lines = measured(measurements(args, find_peers(args), Path(folder)), args, **settings)
    lines += quality_table(rows) if args.quality else table(rows)
    return publish([*lines, "", *notes(rows), *not_idle(rows)], args.markdown)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__, "benchmark.jsonl")
    add = parser.add_argument
    add(
        "--data",
        action="append",
        default=[],
        type=data_set,
        metavar="NAME=FILE.parquet[:L]",
        help="user_id, item_id, timestamp (or an order, named timestamp); L inputs per window, default 50. Repeatable",
    )
    add(
        "--made",
        action="append",
        default=[],
        type=made_log,
        metavar="EVENTS:ITEMS[:L]",
        help="a made log instead of a file, e.g. 1e7:1e5. Repeatable",
    )
    add("--model", action="append", choices=MODELS, help="repeatable; default SASRec")
    add("--epochs", type=int, default=4, help="epochs of ours; the first is warm-up (default 4)")
    add("--max-batches", type=int, default=0, help="batches of ours per epoch; 0 = all")
    add("--max-test-batches", type=int, default=0, help="batches of ours per test, 512 users each; 0 = all")
    add("--batch-size", type=int, default=128, help="windows per batch, ours and theirs (default 128)")
    add("--seed", type=int, default=42)
    add(
        "--windows",
        choices=[NEWEST, ALL, "both", AS_PEERS],
        default="both",
        help="train on each user's newest window, on all windows (our default), or measure both; what a peer trains "
        f"on is always measured, and {AS_PEERS}: nothing else",
    )
    add("--quality", type=float, metavar="SECONDS", help="measure how soon ours is as good as each peer becomes")
    add("--peers", type=Path, metavar="VENVS", help="folder of the peers' virtual environments")
    add("--peer-scripts", type=Path, metavar="SCRIPTS", help="folder of their bench_NAME.py")
    add(
        "--peer",
        action="append",
        metavar="NAME[=MODEL,...]",
        help="only this one, or only with these models; repeatable. Default: all that are found",
    )
    add("--fast", action="store_true", help="peers also with their own options for speed (FAST in peer_side.py)")
    add(
        "--peer-options",
        action="append",
        default=[],
        metavar="'NAME=--option value'",
        help="that peer also with these options of its script; repeatable",
    )
    add("--peer-epochs", type=int, default=4)
    add("--peer-max-batches", type=int, default=0, help="their batches per epoch, e.g. 10 for slow ones; 0 = all")
    add("--peer-timeout", type=float, default=3600, help="seconds after which a peer's measurement is given up")
    add("--work-dir", help="where temporary folders are made; default: the system's")
    args = parser.parse_args()
    if (args.peers is None) != (args.peer_scripts is None):
        parser.error("--peers and --peer-scripts belong together")
    if args.quality and args.peers is None:
        parser.error("--quality measures against peers: give --peers and --peer-scripts")
    if not args.data and not args.made:
        parser.error("nothing to measure: give --data NAME=FILE or --made EVENTS:ITEMS")
    args.model = args.model or ["SASRec"]
    return args


def data_set(text: str) -> tuple[str, Path, int]:
    name, equals, rest = text.partition("=")
    path, colon, length = rest.rpartition(":")
    if not colon or not length.isdigit():
        path, length = rest, "50"
    if not equals or not name or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE[:L] with a file that exists")
    return name, Path(path).resolve(), int(length)


def made_log(text: str) -> tuple[str, dict[str, int], int]:
    """-> name, what `make_log` of prepare.py wants, L."""
    try:
        events, items, *length = (int(float(part)) for part in text.split(":"))
        if events < 1 or items < 1 or len(length) > 1 or min(length, default=1) < 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not EVENTS:ITEMS[:L], e.g. 1e7:1e5") from None
    size = {"events": events, "items": items, "users": max(1, events // 100)}
    return f"made {events:,} x {items:,}", size, length[0] if length else 50


def logs(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path, int]]:
    """Name, file and window length of all data sets; a made log is gone when the next one is asked for."""
    yield from args.data
    for name, size, max_length in args.made:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            child(
                HERE / "prepare.py",
                args.threads,
                kind="make_log",
                log=f"{made}/log",
                seed=args.seed,
                ids="numbers",
                **size,
            )
            yield name, Path(made) / "log", max_length


def measurements(args: argparse.Namespace, peers: list[Peer], folder: Path) -> Iterator[Row]:
    for number, (name, file, max_length) in enumerate(logs(args, folder)):
        for turn in range(args.rounds):
            # a new folder each round: nothing is reused, preparation is measured
            basis = {"data": name, "round": turn, "max_length": max_length}
            job = {
                "folder": str(folder / f"{number}-{turn}"),
                "seed": args.seed,
                "max_length": max_length,
                "batch_size": args.batch_size,
            }
            busy = busy_cores()
            preparation = ours(args, job, kind="prepare", file=str(file), min_user_events=MIN_USER_EVENTS)
            for model in args.model:
                here = [peer for peer in peers if peer.has(model)]
                measure = quality if args.quality else speed
                for row in measure(args, here, job, model, (name, file, max_length, folder), preparation):
                    yield {**basis, "model": model, "busy_cores_before": busy, **row}
                    busy = busy_cores()


def speed(
    args: argparse.Namespace,
    peers: list[Peer],
    job: Row,
    model: str,
    data: tuple[str, Path, int, Path],
    preparation: Row,
) -> Iterator[Row]:
    name, file, max_length, folder = data
    wanted = {"both": {NEWEST, ALL}, AS_PEERS: set()}.get(args.windows, {args.windows})
    for windows in sorted(wanted | {peer.way.windows for peer in peers}, reverse=True):
        limits = {
            "epochs": args.epochs,
            "max_batches": args.max_batches,
            "max_test_batches": args.max_test_batches,
            "max_windows_per_user": 1 if windows == NEWEST else None,
        }
        result = ours(args, job, kind="train", model=model, **limits)
        row = {"who": OURS, "windows": windows, **preparation, **result}
        row["prepare_rss_mb"], row["train_rss_mb"] = preparation["peak_rss_mb"], result["peak_rss_mb"]
        row["peak_rss_mb"] = max(row["prepare_rss_mb"], row["train_rss_mb"])
        row["preparation_s"] = row["prepare_s"] + row["setup_s"]
        yield row
        for peer in peers:
            if peer.way.windows == windows:
                limits = {"max_epochs": args.peer_epochs, "max_batches": args.peer_max_batches}
                limits["max_seconds"] = args.peer_timeout
                yield speed_row(peer, peer.measure(args, folder, model, name, file, max_length, **limits))


def quality(
    args: argparse.Namespace,
    peers: list[Peer],
    job: Row,
    model: str,
    data: tuple[str, Path, int, Path],
    preparation: Row,
) -> Iterator[Row]:
    name, file, max_length, folder = data
    for peer in peers:
        limits = {"max_epochs": 10_000, "max_seconds": args.quality, "patience": PATIENCE}
        theirs = quality_row(peer, peer.measure(args, folder, model, name, file, max_length, **limits))
        yield theirs
        limits = {"max_seconds": args.quality, "patience": PATIENCE, "goal": theirs["best_val"]}
        yield {"who": OURS, "against": theirs["who"], **ours(args, job, kind="quality", model=model, **limits)}


def ours(args: argparse.Namespace, job: Row, **more: Any) -> Row:
    return child(HERE / "our_side.py", args.threads, **job, **more)


if __name__ == "__main__":
    sys.exit(main())
