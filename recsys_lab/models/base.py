"""NextItemModule: the LightningModule that every encoder shares. One training step, one optimiser, no metric names.

training_step:  batch -> encode -> hidden (B, L, D) -> hidden at counted targets (N, D) -> loss -> scalar
evaluation:     batch -> query (B, ...) ; the ranking callback then asks for score(query rows) -> (rows, V)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from recsys_lab.schema import (
    PAD_ID,
    Batch,
    Configurable,
    DataSpec,
    Loss,
    NegativeSampler,
    RecsysLabError,
    Scorer,
    from_config,
    to_config,
)

# Named, not imported: models know no loss, no sampler and no callback (tests/test_design.py).
DEFAULT_LOSS = "recsys_lab.losses.CrossEntropy"
DEFAULT_SAMPLER = "recsys_lab.data.negatives.UniformNegatives"
DEFAULT_EVALUATION = "recsys_lab.callbacks.RankingEvaluation"


@dataclass(frozen=True)
class Optimization:
    """How the weights are updated.

    Args:
        optimizer: `adam`, or `adamw` (decoupled weight decay).
        lr: learning rate after warm-up.
        weight_decay: not applied to biases, norms and embeddings.
        betas: of Adam.
        warmup_steps: the rate rises linearly from 0 over so many steps.
        schedule: `constant`, or `cosine` down to `final_lr_fraction` of `lr` over the Trainer's planned steps.
        final_lr_fraction: where cosine ends.
    """

    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    final_lr_fraction: float = 0.0


class NextItemModule(Configurable, L.LightningModule):
    """Base of every model. A subclass gives `build(spec)` and `encode(batch)`; see `models/gru4rec.py` for the
    shortest.

    The sizes of the tables come from the datamodule's `DataSpec`: from the Trainer in `configure_model()`, or from the
    checkpoint. `build` is called once when they are known.

    Args:
        loss: None = full cross-entropy.
        negatives: sampler for losses that take negatives; None = uniform, as many as the loss's paper used.
        optimization: optimiser and schedule.
        compile_model: `torch.compile` the encoder (costs about a minute at the start; pays on long runs and GPUs).
    """

    causal: bool = True
    """hidden[:, t] depends on events 0..t only. A model that is not causal trains on `last_position` windows."""
    uses_query_time: bool = False
    """Reads `batch.query_time`, the time of the event to predict. Tables say so: such numbers are another task."""
    scorer: Scorer

    def __init__(
        self,
        loss: Loss | None = None,
        negatives: NegativeSampler | None = None,
        optimization: Optimization | None = None,
        compile_model: bool = False,
    ) -> None:
        super().__init__()
        self.loss: Loss = loss if loss is not None else from_config({"class_path": DEFAULT_LOSS})
        if negatives is None and self.loss.default_negatives:
            count = self.loss.default_negatives
            negatives = from_config({"class_path": DEFAULT_SAMPLER, "init_args": {"num_negatives": count}})
        self.negatives = negatives
        self.optimization = optimization or Optimization()
        self.compile_model = compile_model
        self.spec: DataSpec | None = None
        self.train_tokens = 0  # real input events seen in training by this process
        self._encode = self.encode

    # -- what an encoder gives -----------------------------------------------------------------------------------------

    def build(self, spec: DataSpec) -> None:
        """Creates the modules whose sizes depend on the data; must set `self.scorer`."""
        raise NotImplementedError(f"{type(self).__name__} must define build(spec)")

    def encode(self, batch: Batch) -> Tensor:
        """-> hidden (B, L, D); what stands at padding is ignored."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(batch)")

    # -- what evaluation asks for; baselines override these ------------------------------------------------------------

    def query(self, batch: Batch) -> Tensor:
        """What the scores of each row depend on, (B, D): the hidden state at the last real event."""
        return last_position(self.encode(batch), batch.lengths)

    def score(self, query: Tensor) -> Tensor:
        """(rows, D) -> (rows, V) scores of all items in float32; column 0 is padding and means nothing."""
        with torch.autocast(query.device.type, enabled=False):  # ranking is always float32
            return self.scorer.all_items(query.float())

    # -- Lightning -----------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        datamodule = getattr(self._trainer, "datamodule", None)
        if datamodule is None or not isinstance(getattr(datamodule, "spec", None), DataSpec):
            if self.spec is None:
                raise RecsysLabError("the model takes its table sizes from the data: pass a SequenceDataModule")
            return
        if self.spec is not None:
            check_same_data(self.spec, datamodule.spec)
            return
        self._build(datamodule.spec)

    def configure_callbacks(self) -> list[L.Callback]:
        """Ranking metrics for whoever passes no callbacks: a notebook needs only data, model, Trainer."""
        evaluation = from_config({"class_path": DEFAULT_EVALUATION})
        callbacks: list[L.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return [] if any(isinstance(callback, type(evaluation)) for callback in callbacks) else [evaluation]

    def on_fit_start(self) -> None:
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        if (not self.causal or self.uses_query_time) and datamodule.training_mode != "last_position":
            reads = "the time of the prediction" if self.causal else "later events of its window"
            raise RecsysLabError(
                f"{type(self).__name__} reads {reads}, so it must train with data.training_mode: last_position"
            )
        if self.negatives is not None:
            self.negatives.prepare(datamodule.item_counts.to(self.device))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        hidden = self._encode(batch)  # (B, L, D)
        counted = batch.target_ids != PAD_ID  # (B, L)
        target_ids = batch.target_ids[counted]  # (N,)
        negatives = self.negatives.sample(target_ids, None) if self.negatives is not None else None
        loss: Tensor = self.loss(hidden[counted], target_ids, self.scorer, negatives)
        # The mean over this process's targets becomes the mean over all processes' targets, and stays finite or stops.
        self._stop_if_not_finite(loss)
        self.train_tokens += int(batch.lengths.sum())
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(target_ids))
        return loss * self._share(len(target_ids))

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.query(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.query(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.query(batch)

    def configure_optimizers(self) -> Any:
        settings = self.optimization
        decay: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        embeddings = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)}
        for parameter in self.parameters():
            decays = parameter.ndim > 1 and id(parameter) not in embeddings
            (decay if decays else plain).append(parameter)
        groups = [
            {"params": decay, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
        optimizer = kind([g for g in groups if g["params"]], lr=settings.lr, betas=settings.betas, fused=True)
        if settings.schedule == "constant" and not settings.warmup_steps:
            return optimizer
        total = float(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(settings, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # -- checkpoints: plain data only, so they load with weights_only=True and without the data ------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.spec is not None
        checkpoint["data_spec"] = self.spec.as_dict()
        checkpoint["model_config"] = to_config(self)
        checkpoint["rng_state"] = torch.get_rng_state()
        checkpoint["train_tokens"] = self.train_tokens
        if torch.cuda.is_available():
            checkpoint["cuda_rng_state"] = torch.cuda.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "data_spec" not in checkpoint:
            raise RecsysLabError("this checkpoint was not written by recsys_lab: it names no data set")
        spec = DataSpec(**checkpoint["data_spec"])
        if self.spec is None:
            self._build(spec)
        else:
            check_same_data(spec, self.spec)
        self.train_tokens = checkpoint.get("train_tokens", 0)
        if self._trainer is not None and self._trainer.state.fn == "fit":  # not where a test loads its weights
            self._resume: dict[str, Any] = {k: v for k, v in checkpoint.items() if k.endswith("rng_state")}
            self._resume["loaders"] = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])

    def on_train_start(self) -> None:
        # Lightning hands a loader its state when it makes it; a schedule that asks for the number of steps makes it
        # before the state was read, and the run would go on with the first batches of the epoch again.
        loader: Any = self.trainer.train_dataloader
        for state in self.__dict__.get("_resume", {}).get("loaders", []):
            loader.load_state_dict(state)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        resume = self.__dict__.pop("_resume", {})  # once, at the first batch after a resume
        if "rng_state" in resume:
            torch.set_rng_state(resume["rng_state"].cpu())
        if "cuda_rng_state" in resume and torch.cuda.is_available():
            torch.cuda.set_rng_state(resume["cuda_rng_state"].cpu())

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", **overrides: Any
    ) -> Any:
        """The model of a checkpoint, ready to score, without the data and without pickle.

        Args:
            checkpoint_path: file written by a Trainer.
            map_location: device.
            overrides: constructor arguments to change, e.g. `loss=`.

        Raises:
            RecsysLabError: when it is not a recsys_lab checkpoint, or holds another class than `cls`.
        """
        checkpoint = read_checkpoint(checkpoint_path, map_location)
        config = checkpoint["model_config"]
        if overrides:
            config = {**config, "init_args": {**config["init_args"], **overrides}}
        model = from_config(config)
        if not isinstance(model, cls):
            raise RecsysLabError(f"{checkpoint_path} holds a {type(model).__name__}, not a {cls.__name__}")
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        return model.eval()

    # -- details -------------------------------------------------------------------------------------------------------

    def _build(self, spec: DataSpec) -> None:
        self.build(spec)
        self.spec = spec
        if self.compile_model:
            self._encode = torch.compile(self.encode, dynamic=True)

    def _share(self, num_targets: int) -> Tensor | float:
        """Weight of this process's loss: DDP averages gradients over processes, whose batches differ in targets.

        With it, N processes take the very step that one process would take on the joined batch.
        """
        if self.trainer.world_size == 1:
            return 1.0
        count = torch.tensor(float(num_targets), device=self.device)
        total: Tensor = self.trainer.strategy.reduce(count.clone(), reduce_op="sum")
        return count * self.trainer.world_size / total

    def _stop_if_not_finite(self, loss: Tensor) -> None:
        if not math.isfinite(loss.item()):
            raise NonFiniteLossError(
                f"the training loss became {loss.item()} at step {self.global_step} (epoch "
                f"{self.current_epoch}): stopped "
                "before the weights were touched. Lower optimization.lr, add warm-up, or set trainer.gradient_clip_val"
            )


class NonFiniteLossError(RecsysLabError):
    """Training stopped at a NaN or infinite loss; the last good checkpoint is untouched."""

    exit_code = 1  # of the command line: the run failed, not the way it was called
    stopped_by = "nan"  # in the run's manifest


def learning_rate_factor(settings: Optimization, total_steps: float) -> Callable[[int], float]:
    """Linear warm-up, then constant or cosine, as a factor of `lr`. A function: schedulers don't pickle functions."""

    def factor(step: int) -> float:
        warmup = settings.warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        if settings.schedule == "constant" or not math.isfinite(total_steps):
            return 1.0
        progress = min(1.0, (step - warmup) / max(1.0, total_steps - warmup))
        low = settings.final_lr_fraction
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def last_position(hidden: Tensor, lengths: Tensor) -> Tensor:
    """(B, L, D), (B,) -> (B, D): each row at its last real event."""
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]


def check_same_data(expected: DataSpec, actual: DataSpec) -> None:
    """Raises RecsysLabError when a model's tables belong to another data set or vocabulary."""
    for name, what in (("vocabulary_hash", "item vocabulary"), ("data_hash", "data")):
        if getattr(expected, name) != getattr(actual, name):
            raise RecsysLabError(
                f"the checkpoint belongs to another data set: its {what} is {expected.dataset} "
                f"({getattr(expected, name)}), the data module's is {actual.dataset} ({getattr(actual, name)}). "
                "Use the data set (and prepare settings) that it was trained on"
            )


def read_checkpoint(path: Any, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint's dict, read with `weights_only=True`.

    Raises:
        RecsysLabError: when the file is missing, is not a checkpoint, or was not written by recsys_lab.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise RecsysLabError(f"no checkpoint at {path}") from error
    except Exception as error:
        raise RecsysLabError(f"{path} is not a readable checkpoint: {error}") from error
    if not isinstance(checkpoint, dict) or "model_config" not in checkpoint:
        raise RecsysLabError(f"{path} was not written by recsys_lab: it holds no model configuration")
    return checkpoint
