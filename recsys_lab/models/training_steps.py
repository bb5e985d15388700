"""TrainingSteps: what a model does with each batch in training: its random draws, the mean of the loss over all
processes, and the stop at a NaN or infinite loss before the weights are touched."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recsys_lab.contracts import Batch, State, Task
from recsys_lab.models import randomness
from recsys_lab.models.accumulation import Accumulation
from recsys_lab.models.base import Base
from recsys_lab.models.blocks.user_token import with_token
from recsys_lab.models.module import SequenceModel
from recsys_lab.models.own_classes import check_auxiliary, check_encoder, check_loss, check_task
from recsys_lab.models.sharding import divided_parameters
from recsys_lab.ops import row_sparse
from recsys_lab.words import RecsysLabError

LOOK_EVERY = 50
"""Batches between two looks at what an accelerator found: each look waits for it."""


class TrainingSteps(SequenceModel, Base):
    """The part of a `NextItemModule` that runs for each batch in training."""

    task: Task
    auxiliary: nn.ModuleList
    _finite: FiniteLoss
    _accumulation: Accumulation
    _row_sparse: bool
    shard_items: bool
    _seed: int | None  # of the run, while it trains and afterwards
    _train_tokens: Tensor | int

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loop: Any = self.trainer.fit_loop
        epoch = loop.epoch_progress.current.processed  # `current_epoch` lags behind it in resumed runs
        is_first = epoch == batch_idx == 0
        if is_first:
            check_encoder(self, batch)
            check_task(self, batch)
        draws = start_batch(self.run_seed, epoch, batch_idx, self.global_rank, self.device)
        as_it_is = self.answers_at_the_end or not self.task.samples.windows
        shown, batch = batch, batch if as_it_is else self.training_batch(batch, draws)
        state = self.training_state(batch)
        (mean, total, _), *others = parts = self.task.losses(state, batch, self.scorer, draws)
        if is_first:
            check_loss(mean, self.task, self, state)
        for extra in self.auxiliary:
            value = extra(self.hidden, state, batch, self.scorer, draws)
            if is_first:
                check_auxiliary(value, extra, self, state)
            mean = mean + extra.share * value
        whole = over_processes(self.trainer, mean, total)
        more = [over_processes(self.trainer, part.mean, part.total) for part in others]
        if more:
            for part, own in zip(parts, (whole, *more), strict=True):
                size: Any = own.total
                self.log(f"train/loss_{part.name}", own.mean, on_epoch=True, on_step=False, batch_size=size)
            is_bad = torch.stack([own.is_bad for own in (whole, *more)]).any()
            whole = whole._replace(mean=whole.mean + sum(own.mean for own in more), is_bad=is_bad)
        self._finite.see(whole, self.global_step, self.current_epoch)
        self._train_tokens = self._train_tokens + shown.lengths.sum()  # on the device: a sum that nobody waits for
        if batch.beside is not None:
            self._train_tokens = self._train_tokens + batch.beside.lengths.sum()
        count: Any = whole.total  # so that the epoch's loss is the mean over its targets
        self.log("train/loss", whole.mean, prog_bar=True, on_step=True, on_epoch=True, batch_size=count)
        alone = self.trainer.accumulate_grad_batches == 1
        weight = whole.weight if alone else self._accumulation.add(whole)
        loss = mean * weight
        for part, own in zip(others, more, strict=True):  # a batch among several weighs by the targets of the first
            loss = loss + part.mean * own.weight * (weight / whole.weight)
        return loss

    @property
    def answers_at_the_end(self) -> bool:
        """Trained to answer where a window ends: an encoder that looks ahead, where nothing is ranked."""
        return not (self.causal or self.task.ranks) and self.task.samples.windows

    def training_batch(self, batch: Batch, draws: torch.Generator | None) -> Batch:
        """What a training step encodes, and whose targets it predicts: the batch, or for a masked model a copy with
        other inputs and targets. draws: for random numbers."""
        return batch

    def training_state(self, batch: Batch) -> State:
        """What the task is given: the states at all positions; where it asks for what a window ends with, that alone,
        which many encoders have without the other positions."""
        if self.answers_at_the_end:
            return self._state_at_the_end(batch)
        if not self.task.samples.windows:
            return self.training_state_of_shown(batch)
        state = State(query=None, history=self.training_states(batch))
        return state if batch.beside is None else state._replace(beside=self.training_state_of_shown(batch.beside))

    def training_state_of_shown(self, batch: Batch) -> State:
        """Of impressions: the state behind each history, and where the task wants it the history."""
        if self.task.reads_history:
            return State(query=None, history=self.training_states(batch))
        return self._state_at_the_end(batch)

    def _state_at_the_end(self, batch: Batch) -> State:
        return State(query=self.encode_last(with_token(batch) if self.begins_with_user else batch))

    def training_states(self, batch: Batch) -> Tensor:
        """`hidden` in training: what `compile_model` compiles."""
        return self.hidden(batch) if self.begins_with_user else self.encode(batch)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.trainer.accumulate_grad_batches > 1:
            self._accumulation.finish(self, self.trainer.accumulate_grad_batches)
        self._finite.guard(optimizer)
        if self._row_sparse and not row_sparse.adds_sparse_gradients():
            row_sparse.average_over_processes(self)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        divided = divided_parameters(self) if self.shard_items else []
        if (self._row_sparse or divided) and gradient_clip_val:  # torch's own clipping knows neither
            row_sparse.clip_gradients(self.parameters(), gradient_clip_val, gradient_clip_algorithm or "norm", divided)
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


class GlobalLoss(NamedTuple):
    """Of one batch, over all processes; nothing here waits for the device."""

    mean: Tensor  # over all targets of the batches of all processes
    total: Tensor | float  # weights of the targets of all processes; where they have none, their number
    weight: Tensor | float  # of this process's loss: DDP averages gradients, and processes differ in targets
    is_bad: Tensor  # () bool: NaN or infinite on one of them


def over_processes(trainer: Any, loss: Tensor, total: Tensor | int) -> GlobalLoss:
    """With `weight`, N processes take the very step that one process would take on the joined batch.

    Args:
        loss: (), the mean over this process's targets.
        total: of their weights; how many there are, where they have none.
    """
    mean = loss.detach()
    if trainer.world_size == 1:
        return GlobalLoss(mean, total, 1.0, ~mean.isfinite())
    own = torch.as_tensor(total, dtype=mean.dtype, device=mean.device).detach()
    facts = torch.stack([own, mean * own, ~mean.isfinite()]).float()
    of_all, summed, bad = trainer.strategy.reduce(facts, reduce_op="sum").unbind()
    of_all = of_all.clamp_min(torch.finfo(of_all.dtype).tiny)  # where no process has a target
    return GlobalLoss(summed / of_all, of_all, total * trainer.world_size / of_all, bad > 0)


class FiniteLoss:
    """Stops training at the first loss that is NaN or infinite.

    On a CPU, and under an optimiser that can't be told to skip a step, each loss is looked at: there that costs
    nothing, or is waited for anyway. On an accelerator a look makes it run dry. There the optimiser itself gets the
    news, on the device (`found_inf`, by which a GradScaler makes fused optimisers skip a step), and from the first bad
    loss on leaves weights and moments as they are. The error comes with the next look: every `LOOK_EVERY` batches,
    before a validation, at an epoch's end, and before a checkpoint is written.
    """

    def __init__(self, device: torch.device | None = None, optimizers: Sequence[Any] = ()) -> None:
        can_skip = all(getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in optimizers)
        self.at_once = device is None or device.type == "cpu" or not can_skip
        self._first_bad = torch.full((), -1, device=device)  # step of the first bad loss, on the device
        self._epoch = self._seen = 0

    def see(self, loss: GlobalLoss, step: int, epoch: int) -> None:
        """A batch's loss, before its backward pass.

        Raises:
            NonFiniteLossError: on every process, when the loss of one of them is NaN or infinite.
        """
        self._first_bad = torch.where(loss.is_bad & (self._first_bad < 0), step, self._first_bad)
        self._epoch, self._seen = epoch, self._seen + 1
        if self.at_once or self._seen % LOOK_EVERY == 0:
            self.look()

    def guard(self, optimizer: Any) -> None:
        """Before a step of the optimiser."""
        if not self.at_once:
            optimizer.found_inf = (self._first_bad >= 0).float()

    def look(self) -> None:
        """Raises NonFiniteLossError when a loss was bad."""
        step = int(self._first_bad)
        if step >= 0:
            self._first_bad = torch.full_like(self._first_bad, -1)  # said once
            raise NonFiniteLossError(
                f"the training loss became NaN or infinite at step {step} (epoch {self._epoch}): stopped before the "
                "weights were touched. Lower optimization.lr, add warm-up, or set trainer.gradient_clip_val"
            )


class NonFiniteLossError(RecsysLabError):
    """Training stopped at a NaN or infinite loss; the last good checkpoint is untouched."""

    exit_code = 1  # of the command line: the run failed, not the way it was called
    stopped_by = "nan"  # in the run's manifest
