"""CountingModel: a model that is computed from the training part in one go, under the same Trainer as any other."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from recsys_lab.models.base import NextItemModule
from recsys_lab.schema import Batch


class CountingModel(NextItemModule):
    """A subclass gives `build` (its buffers), `count(datamodule)`, `query(batch)` and `score(query)`.

    Its `fit` is one epoch without steps: the counts are made before the first batch, and validation follows.
    """

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def count(self, datamodule: Any) -> None:
        """Fills the buffers from the training part of a `SequenceDataModule`."""

    def encode(self, batch: Batch) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} counts; it has no hidden states")

    def on_fit_start(self) -> None:
        self.count(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.trainer.should_stop = True  # validates, then ends: there is nothing more to learn

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        return None

    def configure_optimizers(self) -> None:
        return None
