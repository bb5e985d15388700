#!/usr/bin/env python3
"""How fast full ranking and top lists are, against the score product that they can't do without; earlier and now.

    python scripts/benchmark_ranking.py                                  the four sizes, and 20,000 lists of 100
    python scripts/benchmark_ranking.py --predict 1000000:100000:100     a million lists as well: minutes
    python scripts/benchmark_ranking.py --size 943:1682 --only scores

Four tables: ranks and top lists of made scores alone (the limit is the time of the float32 product queries x items, in
the same blocks); `Trainer.test` as a whole; `Trainer.predict` into a Parquet file with its peak memory; and the product
in float32, bfloat16 and int8, which says whether lists could be chosen in low precision. "Earlier" is the way of
tests/metrics/whole_rows.py; both get the same numbers in turn, must agree, and the medians of the rounds are shown.
Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _bench_machine import busy_cores, describe_machine, last_json, not_idle, publish, require_idle
from _bench_table import header, whole

HERE = Path(__file__).resolve().parent
SIZES = [(943, 1_682), (6_040, 3_416), (22_363, 12_101), (10_000, 100_000)]
KINDS = ("scores", "test", "predict", "products")


def main() -> int:
    args = parse_args()
    if not require_idle(args.even_if_busy):
        return 2
    rows: list[dict[str, Any]] = []
    machine = describe_machine()
    shared = {"width": args.width, "threads": args.threads, "rounds": args.rounds}
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder, open(args.out, "a") as out:
        for job in jobs(args):
            job |= shared
            if job["kind"] in ("test", "predict"):
                job["folder"] = str(Path(folder) / f"{job['kind']}-{job['users']}-{job['items']}" / "made")
                Path(job["folder"]).parent.mkdir()
                # enough events that hardly an item is without one
                measure(args, job | {"kind": "prepare", "made_users": max(job["users"], 4 * job["items"])})
            row = {"busy_cores_before": busy_cores(), **measure(args, job)}
            rows.append(row)
            out.write(json.dumps({**machine, **row}) + "\n")
            out.flush()
            print(f"{job['kind']} {job.get('users', '')} x {job['items']}: done", file=sys.stderr, flush=True)
    lines = [*header(machine, rows[-1]["environment"], shared), *tables(rows)]
    publish([*lines, *not_idle(rows)], args.markdown)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--size",
        action="append",
        type=lambda text: numbers(text, 2),
        metavar="USERS:ITEMS",
        help="of scores and test; repeatable. Default: as MovieLens-100K and -1M, as Amazon Beauty, and 10000:100000",
    )
    add(
        "--predict",
        action="append",
        type=lambda text: numbers(text, 3),
        metavar="USERS:ITEMS:K",
        help="repeatable. Default: 20000:100000:100",
    )
    add("--k", type=int, nargs="+", default=[20, 100], help="length of the top lists of made scores (default 20 100)")
    add("--only", choices=KINDS, nargs="+", default=list(KINDS), help="measure only these")
    add("--width", type=int, default=64, help="D (default 64)")
    add("--rounds", type=int, default=3, help="after a first that is not counted (default 3)")
    add("--threads", type=int, default=2)
    add("--out", default="benchmark_ranking.jsonl", help="one JSON line per measurement is appended")
    add("--markdown", help="also write the tables to this file")
    add("--work-dir", help="where temporary folders are made; default: the system's")
    add("--even-if-busy", action="store_true", help="measure although other processes use the machine")
    args = parser.parse_args()
    args.size, args.predict = args.size or SIZES, args.predict or [(20_000, 100_000, 100)]
    return args


def numbers(text: str, count: int) -> tuple[int, ...]:
    parts = text.split(":")
    if len(parts) != count or not all(part.isdigit() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not {count} numbers with a colon between")
    return tuple(map(int, parts))


def jobs(args: argparse.Namespace) -> list[dict[str, Any]]:
    sizes = [{"users": users, "items": items} for users, items in args.size]
    made: dict[str, list[dict[str, Any]]] = {
        "scores": [{**size, "k": [k for k in args.k if k < size["items"]]} for size in sizes],
        "test": sizes,
        "predict": [{"users": users, "items": items, "k": k} for users, items, k in args.predict],
        "products": [{"items": max(items for _, items in args.size)}],
    }
    return [{"kind": kind, **job} for kind in KINDS if kind in args.only for job in made[kind]]


def measure(args: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    return last_json([sys.executable, str(HERE / "_bench_ranking.py"), json.dumps(job)], args.threads, None, None)


def tables(rows: list[dict[str, Any]]) -> list[str]:
    of = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    lines: list[str] = []
    if of["scores"]:
        speeds = ("users/s: product alone, the faster way", "earlier", "now", "now/earlier", "now/product")
        lines += head("made scores", "users", "items", "GFLOP/s", *speeds)
    for row in of["scores"]:
        seconds, users = row["seconds"], row["users"]
        product = users / min(seconds["product"], seconds["product in blocks"])
        for name in [name for name in seconds if f"{name} earlier" in seconds or name == "ranks in blocks"]:
            before = "ranks earlier" if name == "ranks in blocks" else f"{name} earlier"
            earlier, now = users / seconds[before], users / seconds[name]
            speeds = (whole(product), whole(earlier), whole(now), f"{now / earlier:.2f}", f"{now / product:.2f}")
            lines.append(line(name, f"{users:,}", f"{row['items']:,}", f"{row['gflops']:.0f}", *speeds))
    if of["test"]:
        lines += head("Trainer.test", "users", "items", "users/s: earlier", "now", "now/earlier")
    for row in of["test"]:
        earlier, now = (row["users"] / row["seconds"][key] for key in ("earlier", "now"))
        speeds = (whole(earlier), whole(now), f"{now / earlier:.2f}")
        lines.append(line("SASRec", f"{row['users']:,}", f"{row['items']:,}", *speeds))
    if of["predict"]:
        sizes = ("peak MB", "MB before", "file MB")
        lines += head("Trainer.predict", "users", "items", "K", "s", "of it joining the file", "users/s", *sizes)
    for row in of["predict"]:
        total, lists = row["seconds"]["all"], row["seconds"]["lists"]
        shape = (f"{row['users']:,}", f"{row['items']:,}", str(row["k"]))
        speeds = (f"{total:.1f}", f"{total - lists:.1f}", whole(row["users"] / total))
        lines.append(line("SASRec", *shape, *speeds, *(whole(row[k]) for k in ("peak_mb", "mb_before", "file_mb"))))
    if of["products"]:
        lines += head("product", "G operations/s: float32", "bfloat16", "int8")
    for row in of["products"]:
        found = ("none" if row[n] is None else f"{row[n]:.1f}" for n in ("float32", "bfloat16", "int8"))
        lines.append(line(f"64 x {row['width']} x {row['items']:,}, {row['instructions']}", *found))
    return lines


def head(*names: str) -> list[str]:
    return ["", line(*names), "|" + "---|" * len(names)]


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
