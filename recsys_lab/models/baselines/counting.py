"""CountingModel: a model that is computed from the training part in one go, under the same Trainer as any other."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from typing import Any, Self

import torch
from torch import Tensor, nn

from recsys_lab.contracts import Batch, DataSpec, Scorer
from recsys_lab.models.blocks.scoring import WholeRows
from recsys_lab.models.lightning import NextItemModule

log = logging.getLogger("recsys_lab")


class GrowingBuffers(nn.Module):
    """Buffers whose sizes are known only once the data is counted: loading takes the sizes of the checkpoint."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in self._buffers.items():
            stored = state_dict.get(prefix + name)
            if buffer is not None and stored is not None and buffer.shape != stored.shape:
                self._buffers[name] = torch.empty(stored.shape, dtype=buffer.dtype, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class CountingModel(GrowingBuffers, NextItemModule):
    """A subclass gives `build` (its buffers), `count(datamodule)`, `query(batch)` and `score(query)`.

    Its `fit` is one epoch without steps: the counts are made before the first batch, and validation follows.
    A model that was neither fitted nor loaded counts before it validates, tests or predicts, so that
    `trainer.test(EASE(), data)` is a whole run.

    Each process counts the whole training part by itself, to the same numbers.
    """

    scores_whole_rows = True
    is_counted: Tensor

    def __init__(self) -> None:
        super().__init__()
        # DistributedDataParallel refuses a module in which nothing can be trained.
        self.unused = nn.Parameter(torch.zeros(()))

    @abstractmethod
    def count(self, datamodule: Any) -> None:
        """Fills the buffers from the training part of a `SequenceDataModule`."""

    def counted(self, datamodule: Any) -> Self:
        """This model, counted without a Trainer: it ranks what the datamodule's loaders give."""
        self._build(datamodule.spec)
        self.count(datamodule)
        self.is_counted = torch.ones_like(self.is_counted)
        return self

    @property
    def scorer(self) -> Scorer:  # type: ignore[override]
        assert self.spec is not None
        return WholeRows(self.score, self.spec.num_rows)

    @abstractmethod
    def score(self, query: Tensor) -> Tensor:
        """(rows, ...) of `query` -> (rows, V) float32."""

    def encode(self, batch: Batch) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} counts; it has no hidden states")

    def on_fit_start(self) -> None:
        start = time.perf_counter()
        self.count(self.trainer.datamodule)  # type: ignore[attr-defined]
        self.is_counted = torch.ones_like(self.is_counted)
        log.info("%s: counted in %.2f s", type(self).__name__, time.perf_counter() - start)

    def on_validation_start(self) -> None:
        self._count_once()

    def on_test_start(self) -> None:
        self._count_once()

    def on_predict_start(self) -> None:
        self._count_once()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.trainer.should_stop = True  # validates, then ends: there is nothing more to learn

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.unused * 0.0  # with several processes Lightning wants a loss

    def configure_optimizers(self) -> None:
        return None

    def _build(self, spec: DataSpec) -> None:
        self.register_buffer("is_counted", torch.zeros((), dtype=torch.int64))
        super()._build(spec)  # may load weights that wait for the sizes, this buffer among them

    def _count_once(self) -> None:
        if not self.is_counted:
            self.on_fit_start()
