"""The reference set: what a commit computes, as hashes, so that a refactor can be compared with its parent bit for bit.

    python scripts/reference.py --out before.json            # on the parent commit
    python scripts/reference.py --out after.json             # on the new commit, on the same machine
    python scripts/reference.py --compare before.json after.json

It holds: three encoders x every loss for 20 steps on synthetic data, two epochs and the test of three encoders on
MovieLens-100K, the ranks of every counted baseline, the hashes of `prepare`, and the tables of one small study.
Everything goes through the command line, which a refactor keeps, and not through the layout of the package, which it
may change. Hashes are of one machine: another processor rounds sums in another order.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
import torch

from recsys_lab.cli import main

ENCODERS = {"GRU4Rec": ["hidden_dim=16"], "LSTMAttention": [], "SASRec": []}
LOSSES = ("CrossEntropy", "SampledSoftmax", "BCE", "GBCE", "BPR", "BPRMax", "TOP1Max")
BASELINES = ("Popularity", "RecentPopularity", "RepeatLast", "Markov", "ItemKNN", "SessionKNN", "EASE")
QUIET = ["--trainer.accelerator", "cpu"]
QUIET += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
TIMES = re.compile(r"seconds|started|written|tokens_per_second|commit|dirty|version|device|command")
STUDY = """
name: small
question: Is the reference study the same?
base:
  model: GRU4Rec
  model.embedding_dim: 8
  model.hidden_dim: 8
  data.dataset: synthetic
  data.max_length: 20
  trainer.max_epochs: 1
axes:
  loss: {cross_entropy: {loss: CrossEntropy}, bpr: {loss: BPR}}
seeds: 2
select: val/ndcg@10
"""


def lab(*arguments: str) -> str:
    """Runs one command of recsys-lab in this process and returns what it printed.

    Raises:
        RuntimeError: when it fails, with its last words.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    if code != 0:
        raise RuntimeError(f"recsys-lab {' '.join(arguments)} ended with {code}:\n{err.getvalue()[-2000:]}")
    return out.getvalue()


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def weights(checkpoint: Path) -> str:
    """Of all weights, whatever the modules are called: a renamed module keeps its numbers."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    return digest(*(tensor.contiguous().numpy().tobytes() for tensor in state.values()))


def ranks(folder: Path) -> str:
    frame = pl.read_parquet(folder / "ranks.parquet")
    return digest(*(np.asarray(frame[name].cast(pl.Float64)).tobytes() for name in ("rank", "num_candidates")))


def metrics(folder: Path) -> str:
    """Of every number that is no time."""
    found = json.loads((folder / "metrics.json").read_text())
    return digest(json.dumps({k: v for k, v in sorted(found.items()) if not TIMES.search(k)}).encode())


def of_run(folder: Path) -> dict[str, str]:
    best = folder / "checkpoints" / "best.ckpt"
    found = {"metrics": metrics(folder)}
    if best.is_file():
        found["weights"] = weights(best)
    if (folder / "ranks.parquet").is_file():
        found["ranks"] = ranks(folder)
    return found


def computed(work: Path, data_dir: str) -> Iterator[tuple[str, Any]]:
    """Every entry of the reference set: its name and what it holds."""
    data = ["--data.data_dir", data_dir]
    for name in ("synthetic", "ml-100k"):
        lab("prepare", name, "--data_dir", data_dir)
        manifest = json.loads((Path(data_dir) / name / "manifest.json").read_text())
        arrays = sorted((Path(data_dir) / name).glob("*.npy"))
        yield (
            f"prepare/{name}",
            {
                **{name: manifest[name] for name in ("num_users", "num_items", "num_events")},
                "arrays": {name: about for name, about in manifest["arrays"].items() if "/" not in name},
                **{path.name: digest(path.read_bytes()) for path in arrays},
            },
        )
    few = ["--data.max_length", "20", "--data.batch_size", "32", "--trainer.max_epochs", "1"]
    few += ["--trainer.limit_train_batches", "20"]
    for encoder, own in ENCODERS.items():
        sizes = ["--model.embedding_dim", "16", *(f"--model.{setting}" for setting in own)]
        for loss in LOSSES:
            folder = work / encoder / loss
            settings = [*QUIET, *few, *data, "--data.dataset", "synthetic", "--run.folder", str(folder)]
            lab("fit", "--model", encoder, *sizes, "--model.loss", loss, *settings)
            yield f"steps/{encoder}/{loss}", of_run(folder)
    for encoder, own in ENCODERS.items():
        folder = work / "ml-100k" / encoder
        sizes = ["--model.embedding_dim", "32", *(f"--model.{setting}" for setting in own)]
        settings = [
            *QUIET,
            *data,
            "--data.dataset",
            "ml-100k",
            "--trainer.max_epochs",
            "2",
            "--run.folder",
            str(folder),
        ]
        lab("fit", "--model", encoder, *sizes, *settings)
        yield f"epochs/ml-100k/{encoder}", of_run(folder)
    for baseline in BASELINES:
        folder = work / "baselines" / baseline
        lab("fit", "--model", baseline, *QUIET, *data, "--data.dataset", "ml-100k", "--run.folder", str(folder))
        yield f"baselines/ml-100k/{baseline}", of_run(folder)
    study = work / "study"
    study.mkdir()
    (study / "study.yaml").write_text(STUDY)
    places = ["--root", str(work / "runs"), "--data_dir", data_dir]
    lab("study", "run", str(study), *places, "--workers", "1")
    lab("study", "report", str(study), *places, "--output", str(work / "report"), "--no-figures")
    table = pl.read_parquet(work / "report" / "results.parquet")
    numbers = [name for name in table.columns if name.startswith(("test/", "val/")) and not TIMES.search(name)]
    by_name = table.sort("variant", "seed", "model")
    yield "study/results", digest(*(np.asarray(by_name[name].cast(pl.Float64)).tobytes() for name in sorted(numbers)))


def compare(before: Path, after: Path) -> int:
    """Prints what differs; the exit code is 1 when anything does."""
    old, new = (json.loads(path.read_text())["entries"] for path in (before, after))
    names = old.keys() | new.keys()
    differing = sorted(name for name in names if old.get(name) != new.get(name))
    for name in differing:
        print(f"differs: {name}: {old.get(name)} -> {new.get(name)}")
    print(f"{len(names) - len(differing)} of {len(names)} entries are equal bit for bit")
    return int(bool(differing))


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the reference set of this checkout to this JSON file")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="compare two such files")
    parser.add_argument("--data_dir", default="data", help="folder of raw and prepared data (default: data)")
    args = parser.parse_args()
    if args.compare:
        return compare(*args.compare)
    if args.out is None:
        parser.error("give --out FILE to compute, or --compare BEFORE AFTER")
    torch.set_num_threads(1)
    work = Path(tempfile.mkdtemp(prefix="reference-"))
    entries = {}
    try:
        for name, value in computed(work, args.data_dir):
            entries[name] = value
            print(f"{name}  {json.dumps(value)}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    args.out.write_text(json.dumps({"torch": torch.__version__, "entries": entries}, indent=2) + "\n")
    print(f"{len(entries)} entries in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run())
