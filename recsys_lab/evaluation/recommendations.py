"""Recommendations: `trainer.predict` -> a Parquet file with each user's best items, under the data's own ids."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl

from recsys_lab.arguments import Count, Megabytes
from recsys_lab.config import Configurable
from recsys_lab.contracts import Batch
from recsys_lab.evaluation.candidates import Candidates, candidate_mask
from recsys_lab.evaluation.divided_items import answer_others
from recsys_lab.evaluation.spilled_lists import SpilledLists
from recsys_lab.evaluation.top_lists import top_lists
from recsys_lab.words import PAD_ID, ArgumentError, RecsysLabError

log = logging.getLogger("recsys_lab")


class Recommendations(Configurable, L.Callback):
    """Writes `user_id, position, item_id, score, query_time`, best first, sorted by user; `query_time` is the time of
    the user's last event.

    Candidates are those of the evaluation (`--evaluation.candidates`), without what the datamodule's `exclude_seen`
    names. A user for whom fewer than `top_k` candidates are left gets fewer rows.

    Memory does not grow with the users: lists go to a folder beside the file as they come, and are joined at the end.
    The file appears whole or not at all. Several processes must see the same folder.

    Args:
        path: the Parquet file.
        top_k: items per user.
        max_score_mb: bound on the memory of one block of scores.
    """

    def __init__(
        self, path: str | Path = "recommendations.parquet", top_k: Count = 10, max_score_mb: Megabytes = 64
    ) -> None:
        super().__init__()
        if Path(path).suffix not in (".parquet", ""):
            problem = f"is {path}, and a Parquet file is written: name it {Path(path).with_suffix('.parquet')}"
            raise ArgumentError("Recommendations", "path", problem, str(path))
        self.path, self.top_k, self.max_score_bytes = Path(path), top_k, max_score_mb << 20

    @property
    def scratch(self) -> Path:
        """The folder that holds the lists while they are made."""
        return self.path.with_name(self.path.name + ".partial")

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.check_ranks()  # type: ignore[operator]
        ranking = next((c for c in getattr(trainer, "callbacks", ()) if hasattr(c, "candidates")), None)
        asked: Candidates = getattr(ranking, "candidates", "trained")
        self._is_candidate = candidate_mask(trainer.datamodule, pl_module, asked)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            self._clear()  # of a prediction that was killed
            (self.scratch / "lists").mkdir(parents=True)
        trainer.strategy.barrier("recommendations: the folder is there")
        if not self.scratch.is_dir():
            raise RecsysLabError(f"process {trainer.global_rank} does not see {self.scratch}, which process 0 has made")
        k = min(self.top_k, len(self._is_candidate))
        self._lists = SpilledLists(self.scratch / "lists", k, trainer.global_rank)

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
        assert batch.query_time is not None
        lists = top_lists(pl_module, outputs, batch, self._is_candidate, self.top_k, self.max_score_bytes)
        for rows, items, scores in lists:
            columns = (batch.user_index[rows], batch.query_time[rows], items, scores)
            self._lists.add(*(column.cpu().numpy() for column in columns))

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        answer_others(pl_module, self._is_candidate, self.top_k)
        self._lists.flush()
        trainer.strategy.barrier("recommendations: every process has written its lists")
        if trainer.is_global_zero:
            self._join(trainer.datamodule)  # type: ignore[attr-defined]
        trainer.strategy.barrier("recommendations: the file is there")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero and trainer.predicting:
            self._clear()

    def _join(self, datamodule: Any) -> None:
        """Each range of users becomes a part, and the parts one file."""
        parts: list[Path] = []
        for lists in self._lists.ranges():
            parts.append(self.scratch / f"part{len(parts):06d}.parquet")
            _table(lists, datamodule.processed).write_parquet(parts[-1])
        if not parts:
            parts.append(self.scratch / "part.parquet")
            _table(np.empty(0, dtype=self._lists.record), datamodule.processed).write_parquet(parts[-1])
        whole = self.scratch / "whole.parquet"
        pl.scan_parquet(parts).sink_parquet(whole, maintain_order=True)
        whole.replace(self.path)
        self._clear()

    def _clear(self) -> None:
        if self.scratch.is_dir():
            shutil.rmtree(self.scratch)
        self.scratch.unlink(missing_ok=True)  # a file of that name: of an older version


def _table(lists: np.ndarray, data: Any) -> pl.DataFrame:
    """(n,) records of `SpilledLists` -> a row for each place of a list that holds an item."""
    filled = lists["items"] != PAD_ID  # (n, K)
    length = filled.sum(axis=1)
    user, place = lists["user"], np.arange(1, filled.shape[1] + 1, dtype=np.int32)
    return pl.DataFrame(
        {
            "user_id": data.user_ids.gather(np.repeat(user, length)),
            "position": np.broadcast_to(place, filled.shape)[filled],
            "item_id": data.item_ids_raw.gather(lists["items"][filled] - 1),
            "score": lists["scores"][filled],
            "query_time": np.repeat(lists["time"], length),
        }
    )
