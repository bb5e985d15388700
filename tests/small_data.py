"""Small made-up data sets, prepared on disk the way a user's own are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import lightning as L
import numpy as np
import polars as pl

from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading.source import RawTables, Source
from recsys_lab.ops.rank_metrics import MISS, RANKING_METRICS


def outranked(rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole ranks, halves (one tie) and inf (a miss) -> `num_greater` and `num_ties`."""
    greater = np.where(np.isinf(rank), MISS, np.floor(np.where(np.isinf(rank), 1, rank)) - 1).astype(np.int64)
    return greater, (rank % 1 == 0.5).astype(np.int64)


def value_of(metric: str, rank: np.ndarray, k: int) -> np.ndarray:
    """(N,) ranks as `outranked` takes them -> (N,) metric."""
    return RANKING_METRICS[metric](*outranked(rank), k)


def ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    return value_of("ndcg", rank, k)


class FrameSource(Source):
    """Interactions from a frame in memory."""

    licence = "made for tests"
    homepage = citation = checked_by = ""
    urls = ()
    has_timestamps = True

    def __init__(self, frame: pl.DataFrame, name: str) -> None:
        self.name, self.frame = name, frame.with_row_index("order")

    def tables(self, raw_dir: Path) -> RawTables:
        return RawTables(self.frame.lazy())

    def fingerprint(self, raw_dir: Path) -> str:
        return hashlib.sha256(self.frame.write_csv().encode()).hexdigest()


def made_events(
    num_users: int = 13, num_items: int = 30, shortest: int = 2, longest: int = 14, event_types: int = 3, seed: int = 0
) -> pl.DataFrame:
    """Events with a pattern to learn: the next item is mostly the last one plus one."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(num_users):
        length = shortest if user == 0 else int(rng.integers(shortest, longest + 1))
        item, time = int(rng.integers(num_items)), 1_000_000 + int(rng.integers(5_000))
        for _ in range(length):
            rows.append((f"u{user:03d}", 100 + item, time, f"type{rng.integers(event_types)}"))
            item = (item + 1) % num_items if rng.random() < 0.8 else int(rng.integers(num_items))
            time += int(rng.integers(0, 900))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "event_type"], orient="row")
    return frame if event_types > 1 else frame.drop("event_type")


def prepared(folder: Path, frame: pl.DataFrame, name: str = "small") -> ProcessedDataset:
    return prepare(FrameSource(frame, name), PrepareSettings(), folder, folder.parent / "raw")


def quiet_trainer(folder: Path, **settings: object) -> L.Trainer:
    """A Trainer that prints and writes nothing unless told to."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 1,
    }
    return L.Trainer(**{**quiet, **settings})  # type: ignore[arg-type]
