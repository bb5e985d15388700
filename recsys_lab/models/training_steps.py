"""Steps: what a model does with each batch, in training and in evaluation; no metric names, nothing of one encoder."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from recsys_lab.contracts import Batch, State, Task
from recsys_lab.models import randomness
from recsys_lab.models.accumulation import Accumulation
from recsys_lab.models.finite_loss import FiniteLoss, over_processes
from recsys_lab.models.module import SequenceModel
from recsys_lab.ops import row_sparse


class Steps(SequenceModel, L.LightningModule):
    """The part of a `NextItemModule` that runs for each batch."""

    task: Task
    auxiliary: nn.ModuleList
    _finite: FiniteLoss
    _accumulation: Accumulation
    _row_sparse: bool
    _seed: int | None  # of the run, while it trains and afterwards
    _train_tokens: Tensor | int

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loop: Any = self.trainer.fit_loop
        epoch = loop.epoch_progress.current.processed  # `current_epoch` lags behind it in resumed runs
        draws = start_batch(self.run_seed, epoch, batch_idx, self.global_rank, self.device)
        state = State(query=None, history=self.training_states(batch))
        mean, total = self.task.loss(state, batch, self.scorer, draws)
        for extra in self.auxiliary:
            mean = mean + extra.share * extra(self.hidden, state, batch, self.scorer, draws)
        whole = over_processes(self.trainer, mean, total)
        self._finite.see(whole, self.global_step, self.current_epoch)
        self._train_tokens = self._train_tokens + batch.lengths.sum()  # on the device: a sum that nobody waits for
        count: Any = whole.total  # so that the epoch's loss is the mean over its targets
        self.log("train/loss", whole.mean, prog_bar=True, on_step=True, on_epoch=True, batch_size=count)
        alone = self.trainer.accumulate_grad_batches == 1
        return mean * (whole.weight if alone else self._accumulation.add(whole))

    def training_states(self, batch: Batch) -> Tensor:
        """`hidden` in training: what `compile_model` compiles."""
        return self.hidden(batch) if self.begins_with_user else self.encode(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        return self._evaluated(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        return self._evaluated(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        return self._evaluated(batch)

    def _evaluated(self, batch: Batch) -> Any:
        with torch.autocast(self.device.type, enabled=False):  # mixed precision is for training only
            return self.task.evaluate(State(query=self.query(batch)), batch, self.scorer)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.trainer.accumulate_grad_batches > 1:
            self._accumulation.finish(self, self.trainer.accumulate_grad_batches)
        self._finite.guard(optimizer)
        if self._row_sparse and not row_sparse.adds_sparse_gradients():
            row_sparse.average_over_processes(self)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        if self._row_sparse and gradient_clip_val:  # torch's own clipping knows no sparse gradients
            row_sparse.clip_gradients(self.parameters(), gradient_clip_val, gradient_clip_algorithm or "norm")
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    @property
    def run_seed(self) -> int:
        """Of this model's run: what dropout and negatives are drawn from, with epoch, batch and process."""
        return randomness.run_seed() if self._seed is None else self._seed


def start_batch(seed: int, epoch: int, batch: int, rank: int, device: torch.device) -> torch.Generator:
    """Seeds torch's generators of the CPU and of `device` for one training batch; -> a further one for negatives.

    Args:
        seed: of the run. epoch: counted from 0. batch: its index in the epoch. rank: of this process, among all.
        device: where the model is, and the generator that is given back.
    """
    digest = hashlib.blake2b(struct.pack("<4q", seed, epoch, batch, rank), digest_size=16).digest()
    masks, negatives = (number >> 1 for number in struct.unpack("<2Q", digest))
    torch.default_generator.manual_seed(masks)  # not torch.manual_seed: it takes 0.1 ms where there is no GPU
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(masks)
    return torch.Generator(device).manual_seed(negatives)
