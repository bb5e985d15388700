"""RecTools' fast_transformers as a peer of peers.py: SASRec of its `FlatSASRecNet`, in an environment of its own.

    python3.11 -m venv VENVS/rectools_fast
    VENVS/rectools_fast/bin/pip install torch "rectools[torch]==0.19.0" "pyarrow<22"
    scripts/benchmarks/peers.py --data ... --peers VENVS --peer-scripts scripts/benchmarks

The package (0.19) has the network, sequences made by tensor operations and a trainer for text vectors only, so the
training step is written here as that trainer has it: full cross-entropy of `h @ items.T` where there is a target, Adam
1e-3. Its feed-forward layer is four times the width, whatever one asks for. A test user's list is the top 10 of all
items, seen ones too (which is the faster way), in batches of 512. Called by peers.py with its options; prints one JSON
line.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
import warnings

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import rectools
import torch
import torch.nn.functional as F
from rectools.fast_transformers import FlatSASRecNet, SequenceBatchDataset, build_sequences
from torch.utils.data import DataLoader

EVAL_BATCH = 512


def main() -> None:
    warnings.filterwarnings("ignore")
    args = parse_args()
    torch.set_num_threads(args.threads)
    pl.seed_everything(args.seed)
    started = time.perf_counter()
    events = read(args.data, args.min_user)
    train = events[events.from_end >= 2]
    x, y, items, users = sequences(train, args.maxlen)
    loader = DataLoader(SequenceBatchDataset(x, y), batch_size=args.batch_size or 128, shuffle=True)
    next(iter(loader))
    preparation = time.perf_counter() - started
    net = FlatSASRecNet(len(items), n_factors=64, n_blocks=2, n_heads=2, session_max_len=args.maxlen, dropout=0.2)
    clock = Clock()
    limit = {"limit_train_batches": args.max_batches} if args.max_batches else {}
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = pl.Trainer(max_epochs=args.max_epochs, accelerator="cpu", devices=1, callbacks=[clock], **quiet, **limit)
    trainer.fit(Training(net), loader)
    rate = statistics.median(targets / seconds for seconds, targets in clock.epochs[1:] or clock.epochs)
    found = {
        "version": f"{rectools.__version__} fast_transformers",
        "n_users": int(events.user.nunique()),
        "targets_per_epoch": int((y > 0).sum()),
        "targets_per_s": rate,
        "eval_users_per_s": evaluated(net.eval(), events, args.maxlen),
        "n_params": sum(parameter.numel() for parameter in net.parameters()),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "prep_s": preparation,
    }
    print(json.dumps(found))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "dataset", "model", "out", "work"):
        parser.add_argument(f"--{name}")
    for name, default in {"maxlen": 50, "batch-size": 0, "max-epochs": 4, "max-batches": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in {"threads": 2, "seed": 42, "min-user": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--max-seconds", type=float)
    return parser.parse_args()


def read(file: str, min_user: int) -> pd.DataFrame:
    """Columns user, item (from 0), time (the place in the user's order) and from_end (0 = the newest)."""
    events = pd.read_parquet(file)[["user_id", "item_id", "timestamp"]]
    events = events[events.groupby("user_id").item_id.transform("size") >= min_user]
    events = events.sort_values(["user_id", "timestamp"], kind="stable")
    made = pd.DataFrame({name: pd.factorize(events[f"{name}_id"], sort=True)[0] for name in ("user", "item")})
    made["time"] = made.groupby("user").cumcount()
    made["from_end"] = made.groupby("user").item.transform("size") - 1 - made.time
    return made


def sequences(events: pd.DataFrame, length: int) -> tuple[torch.Tensor, ...]:
    return build_sequences(*(torch.from_numpy(events[name].to_numpy()) for name in ("user", "item", "time")), length)


class Training(pl.LightningModule):
    def __init__(self, net: FlatSASRecNet) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        hidden, targets = self.net.encode(batch["x"]), batch["y"]
        there = targets > 0
        return F.cross_entropy(hidden[there] @ self.net.all_item_embeddings().T, targets[there] - 1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Clock(pl.Callback):
    """Seconds and targets of each epoch, making its batches included."""

    def __init__(self) -> None:
        self.epochs: list[tuple[float, int]] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.started, self.targets = time.perf_counter(), 0

    def on_train_batch_start(self, trainer: object, module: object, batch: dict[str, torch.Tensor], _: int) -> None:
        self.targets += int((batch["y"] > 0).sum())

    def on_train_epoch_end(self, *_: object) -> None:
        self.epochs.append((time.perf_counter() - self.started, self.targets))


@torch.no_grad()
def evaluated(net: FlatSASRecNet, events: pd.DataFrame, length: int) -> float:
    """Users a second: the top 10 of all trained items, seen ones too, after training and validation events. Better of
    two."""
    known = np.unique(events.item[events.from_end >= 2])
    history = events[(events.from_end >= 1) & events.item.isin(known)].assign(item=lambda e: known.searchsorted(e.item))
    recent = history[history.groupby("user").cumcount(ascending=False) < length]
    rows = np.zeros((events.user.nunique(), length), dtype=np.int64)
    rows[recent.user, length - 1 - recent.groupby("user").cumcount(ascending=False)] = recent.item + 1
    windows = torch.from_numpy(rows)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        table = net.all_item_embeddings()
        for first in range(0, len(windows), EVAL_BATCH):
            scores = net.encode_last(windows[first : first + EVAL_BATCH]) @ table.T
            scores.topk(10)
        seconds.append(time.perf_counter() - started)
    return len(windows) / min(seconds)


if __name__ == "__main__":
    main()
