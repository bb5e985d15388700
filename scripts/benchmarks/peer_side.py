"""Other libraries under the same work: where their environments and scripts lie, how one is called, what it answers."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import Row, last_json
from peer_table import ALL, NEWEST

MIN_USER_EVENTS = 5


@dataclass(frozen=True)
class Way:
    """How a library trains: on which targets, in what batches. Ours is measured on the same targets."""

    models: tuple[str, ...] = ("SASRec",)
    windows: str = NEWEST  # each user's newest window only
    batch_size: int | None = None  # None = as ours
    """RecBole encodes each prefix as a sample of its own, with one target: 2,048 of them are its batch."""


WAYS = {"recbole": Way(("SASRec", "GRU4Rec", "NARM"), ALL, 2048)}
"""Any other is taken to train SASRec on each user's newest window."""

FAST = {"replay": "--bucket 32"}
"""Options by which a peer's script switches on what its library has for speed: `--fast` of peers.py."""


@dataclass(frozen=True)
class Peer:
    name: str
    python: Path
    script: Path
    options: str = ""
    """Of its script alone, as one would type them."""
    models: tuple[str, ...] = ()
    """Only these; none = all that it has."""

    @property
    def way(self) -> Way:
        return WAYS.get(self.name, Way())

    def has(self, model: str) -> bool:
        return model in self.way.models and model in (self.models or (model,))

    def measure(
        self, args: argparse.Namespace, folder: Path, model: str, name: str, file: Path, max_length: int, **limits: Any
    ) -> Row:
        """What its script printed; `limits` are options of it."""
        options = {
            "data": file,
            "dataset": name,
            "model": model,
            "maxlen": max_length,
            "batch-size": self.way.batch_size or args.batch_size,
            "threads": args.threads,
            "seed": args.seed,
            "min-user": MIN_USER_EVENTS,
            "out": "",
            "work": folder / "peer",
            **{key.replace("_", "-"): value for key, value in limits.items()},
        }
        command = [str(self.python), str(self.script), *(f"--{key}={value}" for key, value in options.items())]
        command += shlex.split(self.options)
        return last_json(command, args.threads, folder, args.peer_timeout)


def find_peers(args: argparse.Namespace) -> list[Peer]:
    """Those with VENVS/NAME/bin/python, and bench_NAME.py in SCRIPTS or beside this file."""
    if args.peers is None:
        return []
    asked = {
        name: tuple(filter(None, models.split(","))) for name, _, models in (p.partition("=") for p in args.peer or [])
    }
    found: dict[str, Peer] = {}
    for folder in (args.peer_scripts.resolve(), Path(__file__).resolve().parent):
        for script in sorted(folder.glob("bench_*.py")):
            name = script.stem.removeprefix("bench_")
            python = args.peers.absolute() / name / "bin" / "python"  # not resolved: a venv is known by its link
            if python.exists() and (not asked or name in asked):
                found.setdefault(name, Peer(name, python, script, models=asked.get(name, ())))
    missing = sorted(asked.keys() - found.keys())
    if missing or not found:
        wanted = ", ".join(missing) or "any peer"
        sys.exit(f"benchmark: no {wanted} with {args.peers}/NAME/bin/python and {args.peer_scripts}/bench_NAME.py")
    more = [(name, FAST[name]) for name in found if args.fast and name in FAST]
    for text in args.peer_options:
        name, _, options = text.partition("=")
        if name not in found or not options:
            sys.exit(f"benchmark: --peer-options {text!r} is not NAME=OPTIONS of one of {', '.join(found)}")
        more.append((name, options))
    return [*found.values(), *(replace(found[name], options=options) for name, options in more)]


def who(peer: Peer, result: dict[str, Any]) -> str:
    return " ".join(filter(None, [peer.name, str(result.get("version", "")), peer.options]))


def speed_row(peer: Peer, result: dict[str, Any]) -> Row:
    """Its answer in our names. Of its two ways to rank (seen items in or out) the faster counts."""
    modes = [result[key] for key in ("eval_users_per_s", "eval_users_per_s_B") if result.get(key)]
    return {
        "who": who(peer, result),
        "windows": peer.way.windows,
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


def quality_row(peer: Peer, result: dict[str, Any]) -> Row:
    """Its best validation, when it got there, and its test."""
    return {
        "who": who(peer, result),
        "best_val": result.get("best_val_ndcg"),
        "seconds_to_best": result.get("time_to_best_s"),
        "test": (result.get("test_A") or {}).get("NDCG@10"),
        "test_hidden": (result.get("test_B") or {}).get("NDCG@10"),
        "epochs": result.get("epochs_run"),
        "stopped_by": "the time limit" if result.get("time_capped") else "patience",
        "raw": result,
    }
