"""NextItemModule: the LightningModule that every encoder shares. One training step, one optimiser, no metric names.

training_step:  batch -> encode -> hidden (B, L, D) -> hidden at counted targets (N, D) -> loss -> scalar
evaluation:     batch -> query (B, ...) ; the ranking callback then asks for score(query rows) -> (rows, V)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from recsys_lab.config import Configurable, from_config, to_config
from recsys_lab.contracts import Batch, DataSpec, Loss, Negatives, NegativeSampler, Scorer
from recsys_lab.models import randomness, resume
from recsys_lab.models.checkpoint import accept, check_trained, read_checkpoint
from recsys_lab.models.finite_loss import FiniteLoss, over_processes
from recsys_lab.models.optimization import LearningRate, Optimization, make_optimizer
from recsys_lab.models.system import identity_of, system_of
from recsys_lab.ops import allocation, compilation, row_sparse
from recsys_lab.words import PAD_ID, RecsysLabError

# Named, not imported: models know no loss, no sampler and no callback (tests/test_design.py).
DEFAULT_LOSS = "recsys_lab.losses.CrossEntropy"
DEFAULT_SAMPLER = "recsys_lab.losses.negatives.UniformNegatives"
DEFAULT_EVALUATION = "recsys_lab.evaluation.callback.RankingEvaluation"


class NextItemModule(Configurable, LearningRate, L.LightningModule):
    """Base of every model. A subclass gives `build(spec)` and `encode(batch)`; see `models/encoders/gru4rec.py` for the
    shortest.

    The sizes of the tables come from the datamodule's `DataSpec`: from the Trainer in `configure_model()`, or from the
    checkpoint. `build` is called once when they are known.

    Args:
        loss: None = full cross-entropy.
        negatives: sampler for losses that take negatives; None = uniform, as many as the loss's paper used.
        optimization: optimiser and schedule.
        compile_model: `torch.compile` the encoder and those losses that gain by it, for training (costs about a minute
            at the start; meant for GPUs: docs/batches.md has what it brings on a CPU).
    """

    causal: bool = True
    """hidden[:, t] depends on events 0..t only. A model that is not causal trains on `last_position` windows."""
    encodes_prefixes: bool = True
    """hidden[:, t] does not depend either on how many events follow: a causal model then answers for each prefix of a
    window in one pass. False where positions are counted from the window's end, for example."""
    uses_query_time: bool = False
    """Reads `batch.query_time`, the time of the event to predict. Tables say so: such numbers are another task."""
    uses_target_fields: tuple[str, ...] = ()
    """Names of the fields that it reads of `batch.target`, which are known of the event to predict: another task."""
    scores_whole_rows: bool = False
    """Counted models define `score(query)`, and their scorer is made of it."""
    scorer: Scorer
    allow_other_training: bool = False
    trained_on: dict[str, Any] | None = None
    """What it was trained on, where a test asks for something else and may: see `models.checkpoint.check_trained`."""
    describe_system = identity_of  # entries of a run's manifest

    def __init__(
        self,
        loss: Loss | None = None,
        negatives: NegativeSampler | None = None,
        optimization: Optimization | None = None,
        compile_model: bool = False,
    ) -> None:
        super().__init__()
        self.loss: Loss = loss if loss is not None else from_config({"class_path": DEFAULT_LOSS}, Loss)
        if negatives is None and self.loss.default_negatives:
            count = {"num_negatives": self.loss.default_negatives}
            negatives = from_config({"class_path": DEFAULT_SAMPLER, "init_args": count}, NegativeSampler)
        self.negatives = negatives
        self.optimization = optimization or Optimization()
        if self.optimization.row_sparse:
            row_sparse.check(self.optimization.optimizer, self.loss, compile_model)
        self.compile_model = compile_model
        self.spec: DataSpec | None = None
        self._train_tokens: Tensor | int = 0
        self._seed: int | None = None  # of the run, while it trains and afterwards
        self._finite = FiniteLoss()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "score" in cls.__dict__ and not cls.scores_whole_rows:
            raise RecsysLabError(
                f"{cls.__name__} defines score(query), which losses, ranks and lists would not ask: set self.scorer in "
                "build(spec) to a Scorer of its own"
            )

    # -- what an encoder gives -----------------------------------------------------------------------------------------

    def build(self, spec: DataSpec) -> None:
        """Creates the modules whose sizes depend on the data; must set `self.scorer`."""
        raise NotImplementedError(f"{type(self).__name__} must define build(spec)")

    def encode(self, batch: Batch) -> Tensor:
        """-> hidden (B, L, D); what stands at padding is ignored."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(batch)")

    # -- what evaluation asks for; baselines override these ------------------------------------------------------------

    def query(self, batch: Batch) -> Tensor:
        """What the scores of each row depend on, (B, D): the hidden state at the last real event.

        Rows that are prefixes of another row are read off that row's states, where the model allows it.
        """
        if batch.prefix_of is None or not self.shares_prefixes:
            return last_position(self.encode(batch), batch.lengths)
        rows, row = batch.prefix_of.unique(return_inverse=True)
        return self.encode(batch.windows(rows))[row, batch.lengths - 1]  # (R, L, D) -> (B, D)

    @property
    def shares_prefixes(self) -> bool:
        """One row's states answer for its prefixes too."""
        return self.causal and self.encodes_prefixes and not (self.uses_query_time or self.uses_target_fields)

    def _float32_query(self, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):  # mixed precision is for training only
            return self.query(batch)

    def score(self, query: Tensor) -> Tensor:
        """(rows, D) -> (rows, V) scores of all items in float32; column 0 is padding and means nothing.

        For whoever wants to look. A model that scores in another way has another `scorer`, which losses, ranks and
        lists ask as well.
        """
        with torch.autocast(query.device.type, enabled=False):  # ranking is always float32
            return self.scorer.all_scores(query.float() if query.is_floating_point() else query)

    # -- Lightning -----------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        if self.device.type == "cpu":
            allocation.keep_freed_memory()
            allocation.give_freed_memory_back()
        precision = str(getattr(self._trainer, "precision", "32-true"))
        if precision.endswith("-true") and precision != "32-true":
            raise RecsysLabError(
                f"trainer.precision {precision} keeps the weights in {precision.removesuffix('-true')} numbers, and "
                "ranking compares float32 scores: use bf16-mixed or 16-mixed (weights stay in float32), or 32-true"
            )
        datamodule = getattr(self._trainer, "datamodule", None)
        if datamodule is None or not isinstance(getattr(datamodule, "spec", None), DataSpec):
            if self.spec is None:
                raise RecsysLabError("the model takes its table sizes from the data: pass a SequenceDataModule")
            return
        if self.spec is None:
            with randomness.seeded(randomness.run_seed()):
                self._build(datamodule.spec)
        self.trained_on = check_trained(self.spec or datamodule.spec, self)

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
        if self.compile_model:
            compilation.compile_training(self)
        item_counts = datamodule.item_counts.to(self.device)
        self.loss.prepare(item_counts)
        if self.negatives is not None:
            self.negatives.prepare(item_counts)
            self.negatives.check_number(datamodule.spec.num_items)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        epoch = resume.epoch(self.trainer)
        draws = randomness.start_batch(self.run_seed, epoch, batch_idx, self.global_rank, self.device)
        positions = batch.target_positions  # (N,); found when the batch is made: here it would be a wait for the device
        if positions is None:
            positions = (batch.target_ids != PAD_ID).flatten().nonzero().squeeze(1)
        target_ids = batch.target_ids.flatten()[positions]  # (N,)
        negatives = self.negatives.sample(target_ids, draws) if self.negatives is not None else None
        loss = self.training_loss(batch, positions, target_ids, negatives)
        whole = over_processes(self.trainer, loss, len(target_ids))
        self._finite.see(whole, self.global_step, self.current_epoch)
        self._train_tokens = self._train_tokens + batch.lengths.sum()  # on the device: a sum that nobody waits for
        count: Any = whole.num_targets  # so that the epoch's loss is the mean over its targets
        self.log("train/loss", whole.mean, prog_bar=True, on_step=True, on_epoch=True, batch_size=count)
        return loss * whole.weight

    def training_loss(self, batch: Batch, positions: Tensor, target_ids: Tensor, negatives: Negatives | None) -> Tensor:
        """The loss of the targets at `positions` (N,) of the flattened batch."""
        hidden = self.hidden_at(batch, positions)
        loss: Tensor = self.loss(hidden, target_ids, self.scorer, negatives)
        return loss

    def hidden_at(self, batch: Batch, positions: Tensor) -> Tensor:
        """-> (N, D)."""
        # not `[positions]`: its backward pass adds rows one by one
        return self.encode(batch).flatten(0, 1).index_select(0, positions)  # (B, L, D) -> (N, D)

    @property
    def run_seed(self) -> int:
        """Of this model's run: what dropout and negatives are drawn from, with epoch, batch and process."""
        return randomness.run_seed() if self._seed is None else self._seed

    @property
    def train_tokens(self) -> int:
        """Real input events seen in training by this process."""
        return int(self._train_tokens)

    @property
    def compile_seconds(self) -> float:
        """What torch's compiler took of this process's training."""
        return compilation.clock.seconds

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._float32_query(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._float32_query(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._float32_query(batch)

    def configure_optimizers(self) -> Any:
        return make_optimizer(self, self.optimization, lambda: float(self.trainer.estimated_stepping_batches))

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        if self.optimization.row_sparse and gradient_clip_val:  # torch's own clipping knows no sparse gradients
            row_sparse.clip_gradients(self.parameters(), gradient_clip_val, gradient_clip_algorithm or "norm")
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # -- checkpoints: plain data only, so they load with weights_only=True and without the data ------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self.spec is not None
        checkpoint["data_spec"] = self.spec.as_dict()
        checkpoint["model_config"] = to_config(self)
        self._finite.look()
        checkpoint["seed"] = self.run_seed
        if self._trainer is not None:
            checkpoint["system"] = system_of(self)
            resume.save(self._trainer, checkpoint)
        checkpoint["train_tokens"] = self.train_tokens

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        accept(checkpoint, self)
        self._train_tokens = checkpoint.get("train_tokens", 0)
        if self._trainer is not None and self._trainer.state.fn == "fit":  # not where a test loads its weights
            self._resumed: dict[str, Any] = {"seed": checkpoint.get("seed"), "loaders": resume.read(checkpoint)}

    def on_train_start(self) -> None:
        resumed = self.__dict__.pop("_resumed", {})
        seed = resumed.get("seed")  # checkpoints of numbers version 1 have none
        self._seed = randomness.run_seed() if seed is None else seed
        self._states_outside = randomness.states(self.device)
        self._finite = FiniteLoss(self.device, self.trainer.optimizers)
        resume.load(self.trainer, resumed.get("loaders", []))

    def on_train_epoch_start(self) -> None:
        resume.tell_length(self.trainer)

    def on_train_epoch_end(self) -> None:
        self._finite.look()
        resume.end_epoch(self.trainer)

    def on_validation_start(self) -> None:
        self._finite.look()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self._finite.guard(optimizer)
        if self.optimization.row_sparse and not row_sparse.adds_sparse_gradients():
            row_sparse.average_over_processes(self)

    def on_train_end(self) -> None:
        randomness.restore(self.__dict__.pop("_states_outside", []), self.device)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As torch's. Weights that come before the sizes are known wait for `build`: so they come back to a notebook
        from processes that it spawned, where only the copies in those processes were built."""
        if self.spec is None:
            self._waiting_weights = dict(state_dict)
            return torch.nn.modules.module._IncompatibleKeys([], [])
        return super().load_state_dict(state_dict, *args, **kwargs)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", allow_classes: Sequence[str] = (), **overrides: Any
    ) -> Any:
        """The model of a checkpoint, ready to score, without the data and without pickle.

        Args:
            checkpoint_path: file written by a Trainer.
            map_location: device.
            allow_classes: classes or packages of others that it may name: you trust them. Imported ones need no leave.
            overrides: constructor arguments to change, e.g. `loss=`.

        Raises:
            RecsysLabError: when it is not a recsys_lab checkpoint, names a class that is not `cls` or below it, or one
                that is not allowed. Nothing that it names was called then.
        """
        checkpoint = read_checkpoint(checkpoint_path, map_location)
        config = checkpoint["model_config"]
        if overrides and isinstance(config, dict):
            config = {**config, "init_args": {**config.get("init_args", {}), **overrides}}
        model = from_config(config, cls, allow_classes, where=str(checkpoint_path))
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        return model.eval()

    # -- details -------------------------------------------------------------------------------------------------------

    def _build(self, spec: DataSpec) -> None:
        self.build(spec)
        if self.optimization.row_sparse:
            row_sparse.make_sparse(self, spec.num_rows)
            if not row_sparse.adds_sparse_gradients():
                row_sparse.keep_from_ddp(self)
        self.spec = spec
        waiting = self.__dict__.pop("_waiting_weights", None)
        if waiting is not None:
            self.load_state_dict(waiting)


def last_position(hidden: Tensor, lengths: Tensor) -> Tensor:
    """(B, L, D), (B,) -> (B, D): each row at its last real event."""
    return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
