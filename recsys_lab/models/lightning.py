"""NextItemModule: the LightningModule that every encoder shares, around its steps (`training_steps.py`,
`evaluation_steps.py`): what happens before the first and after the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from recsys_lab.arguments import Size
from recsys_lab.config import from_config
from recsys_lab.contracts import AuxiliaryLoss, Batch, DataSpec, Loss, NegativeSampler, Samples, Task
from recsys_lab.models import model_parallel, randomness, resume, sharding, table_files
from recsys_lab.models.accumulation import Accumulation
from recsys_lab.models.blocks.chosen_scorer import ChosenScorer
from recsys_lab.models.blocks.inputs import Inputs
from recsys_lab.models.blocks.item_parts import ItemField, VectorsMode
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.blocks.sharded_table import divided
from recsys_lab.models.checkpoint import check_trained
from recsys_lab.models.evaluation_steps import EvaluationSteps
from recsys_lab.models.item_vectors import ItemVectors, Missing
from recsys_lab.models.optimization import LearningRate, Optimization, make_optimizer
from recsys_lab.models.own_classes import check_encoder
from recsys_lab.models.stored_model import StoredModel
from recsys_lab.models.system import check_same_everywhere, identity_of
from recsys_lab.models.tasks.next_item import NextItem
from recsys_lab.models.training_steps import FiniteLoss, TrainingSteps
from recsys_lab.ops import allocation, compilation, row_sparse
from recsys_lab.words import ArgumentError, RecsysLabError

if TYPE_CHECKING:
    from lightning import Callback


def check_reads(model: NextItemModule) -> None:
    """Raises ArgumentError where a model is told what its task asks for, or what comes after it."""
    asked, name = model.task.samples, type(model).__name__
    for field in model.uses_target_fields:
        if field in asked.labels:
            problem = f"names {field!r}, which {type(model.task).__name__} is to predict: leave it out"
            raise ArgumentError(name, "target_fields", problem, field)
    if asked.with_target_event and (model.uses_query_time or model.uses_target_fields):
        reads = "the time" if model.uses_query_time else "fields"
        problem = f"labels events that its window holds, and {name} reads {reads} of the event behind each position"
        raise ArgumentError(name, "task", f"{problem}: leave that out, or predict the label of the next event", "")


def check_precision(precision: str) -> None:
    """Raises RecsysLabError for a precision of the Trainer that evaluation can't keep."""
    kind = precision.removesuffix("-true")
    if kind != precision and kind != "32":
        bits = f"{kind.removeprefix('bf')}-bit numbers"
        raise RecsysLabError(
            f"--trainer.precision {precision} keeps the weights as {bits}, and ranking compares float32 scores: use "
            "bf16-mixed or 16-mixed (weights stay in float32), or 32-true"
        )


class NextItemModule(StoredModel, TrainingSteps, EvaluationSteps, LearningRate):
    """Base of every model. A subclass gives `build(spec)` and `encode(batch)`: see `models/module.py`.

    The sizes of the tables come from the datamodule's `DataSpec`: from the Trainer in `configure_model()`, or from the
    checkpoint.

    Args:
        loss: None = full cross-entropy.
        negatives: sampler for losses that take negatives; None = uniform, as many as the loss's paper used.
        optimization: optimiser and schedule.
        compile_model: `torch.compile` the encoder and those losses that gain by it, for training (costs about a minute
            at the start; meant for GPUs: docs/batches.md has what it brings on a CPU).
        item_vectors: file with vectors of your own for the items (.parquet, .npy or .safetensors): docs/behaviours.md.
        item_vectors_mode: `frozen`: in place of the vectors that are learned for the ids; `delta`: beside them, which
            then start at zero; `concat`: both, through one linear map; `init`: where those of the ids start.
        item_vectors_width: how many numbers they have; None = as the file says. A checkpoint's configuration holds it,
            so that it needs no file.
        target_fields: event fields whose value of the event to predict is known, and is read: another task.
        task: what is predicted; None = `NextItem(loss, negatives)`.
        auxiliary: losses that are added to that of the task.
        inputs: how fields and time become the vector of an event; None = fields are added, and time is not read.
        item_vectors_preprocessing: `none`, `center`, `pca(D)`, `zca` or `unit_norm`, fitted on the items that train.
        scorer: how state and item become a score; None = their product (the table costs in `blocks/deep_scorer.py`).
        item_vectors_missing: what if the file lacks items: `error`, or `learn` a vector of their id alone.
        shard_items: on several processes each holds a part of the item table (docs/sharding.md).
    """

    describe_system = identity_of  # entries of a run's manifest

    def __init__(
        self,
        loss: Loss | None = None,
        negatives: NegativeSampler | None = None,
        optimization: Optimization | None = None,
        compile_model: bool = False,
        item_vectors: str | None = None,
        item_vectors_mode: VectorsMode = "frozen",
        item_vectors_width: Size | None = None,
        target_fields: Sequence[str] = (),
        task: Task | None = None,
        auxiliary: list[AuxiliaryLoss] | None = None,
        inputs: Inputs | None = None,
        item_vectors_preprocessing: str = "none",
        item_vectors_missing: Missing = "error",
        scorer: ChosenScorer | None = None,
        shard_items: bool = False,
    ) -> None:
        super().__init__()
        if task is not None and (loss is not None or negatives is not None):
            problem = "has a loss of its own: leave loss and negatives out, or give them to the task"
            raise ArgumentError(type(self).__name__, "task", problem, type(task).__name__)
        self.task = NextItem(loss, negatives) if task is None else task
        self.auxiliary = nn.ModuleList(auxiliary or ())
        self.optimization, self.inputs = optimization or Optimization(), inputs
        self._row_sparse = self.optimization.row_sparse
        if self._row_sparse:
            for part in (*([] if self.loss is None else [self.loss]), *self.auxiliary):
                row_sparse.check(self.optimization.optimizer, part, compile_model)
        self.compile_model = compile_model
        self.item_vectors = ItemVectors(
            item_vectors, item_vectors_mode, item_vectors_width, item_vectors_preprocessing, item_vectors_missing
        )
        if target_fields:
            again = next((name for name in target_fields if list(target_fields).count(name) > 1), None)
            if again is not None:
                problem = f"names {again!r} twice: one is enough"
                raise ArgumentError(type(self).__name__, "target_fields", problem, target_fields)
            self.uses_target_fields = tuple(target_fields)
        self._chosen_scorer = (scorer,)  # held in a tuple: as an attribute it would be a module before it is built
        self.shard_items = shard_items
        if shard_items:
            sharding.check_setting(self)
        self.spec: DataSpec | None = None
        self._train_tokens: Tensor | int = 0
        self._seed: int | None = None  # of the run, while it trains and afterwards
        self._finite, self._accumulation = FiniteLoss(), Accumulation()
        self._last_run: str | None = None  # which of the Trainer's functions was called last

    # -- Lightning -----------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        if isinstance(getattr(datamodule, "samples", None), Samples):
            datamodule.give(self.task.samples)

    def configure_model(self) -> None:
        if self.device.type == "cpu":
            allocation.keep_freed_memory()
            run = str(self.trainer.state.fn) if self._trainer is not None else ""
            if run != self._last_run:  # one test after another finds its blocks again
                allocation.give_freed_memory_back()
                self._last_run = run
        check_precision(str(getattr(self._trainer, "precision", "32-true")))
        datamodule = getattr(self._trainer, "datamodule", None)
        if datamodule is None or not isinstance(getattr(datamodule, "spec", None), DataSpec):
            if self.spec is None:
                raise RecsysLabError("the model takes its table sizes from the data: pass a SequenceDataModule")
            return
        if self.spec is None:
            with randomness.seeded(randomness.run_seed()):
                self._build(datamodule.spec)
            self._fill_item_tables(datamodule)
            if self.task.samples.shown:
                datamodule.check_served(self.task.samples.served)
                self.task.start_at(datamodule.click_rate)
            if self.starts_from is not None and self.trainer.ckpt_path is None:  # else it goes on
                self.started_from = self.starts_from.fill(self, datamodule)
        self.trained_on = check_trained(self.spec or datamodule.spec, self)
        if sharding.divides(self):
            model_parallel.begin(self)
            table_files.attach(self)
        resume.keep_buckets(self.trainer)
        if self.trainer.world_size > 1 and self.trainer.state.fn == "fit":
            check_same_everywhere(self)  # before DDP, which would wait for weights of the wrong size

    def configure_callbacks(self) -> list[Callback]:
        """Ranking metrics for whoever passes no callbacks: a notebook needs only data, model, Trainer."""
        from lightning import Callback

        wanted = [from_config({"class_path": path}, Callback) for path in self.task.evaluation.split()]
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return [one for one in wanted if not any(isinstance(callback, type(one)) for callback in callbacks)]

    def on_fit_start(self) -> None:
        self.item_vectors.require()
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        ends = not self.task.samples.windows or datamodule.training_mode == "last_position"
        if (self.last_positions_only or self.answers_at_the_end) and not ends:
            reads = "the time of the prediction" if self.causal else "later events of its window"
            raise RecsysLabError(
                f"{type(self).__name__} reads {reads}, so it must train with data.training_mode: last_position"
            )
        if self.compile_model:
            compilation.compile_training(self)
        item_counts = datamodule.item_counts.to(self.device)
        self.task.prepare(item_counts)
        if self.task.samples.shown:
            item_counts = datamodule.learned_counts.to(self.device)
            self.task.prepare_shown(item_counts)
        for module in self.modules():
            if isinstance(module, ItemTable):
                module.forget_untrained(item_counts)

    @property
    def loss(self) -> Loss | None:
        """Of the task, where it has one."""
        return getattr(self.task, "loss_function", None)

    @property
    def negatives(self) -> NegativeSampler | None:
        return getattr(self.task, "negatives", None)

    @property
    def train_tokens(self) -> int:
        """Real input events seen in training by this process."""
        return int(self._train_tokens)

    @property
    def compile_seconds(self) -> float:
        """What torch's compiler took of this process's training."""
        return compilation.clock.seconds

    def configure_optimizers(self) -> Any:
        return make_optimizer(self, self.optimization, lambda: float(self.trainer.estimated_stepping_batches))

    def on_train_start(self) -> None:
        resumed = self.__dict__.pop("_resumed", {})
        seed = resumed.get("seed")  # checkpoints of numbers version 1 have none
        self._seed = randomness.run_seed() if seed is None else seed
        self._states_outside = randomness.states(self.device)
        self._finite, self._accumulation = FiniteLoss(self.device, self.trainer.optimizers), Accumulation()
        resume.load(self.trainer, resumed.get("loaders", []))

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        if batch_idx == 0 and self.trainer.sanity_checking:  # the first batch that a fit meets
            check_encoder(self, batch)

    def on_train_epoch_start(self) -> None:
        resume.tell_length(self.trainer)

    def on_train_epoch_end(self) -> None:
        self._finite.look()
        resume.end_epoch(self.trainer)

    def on_validation_start(self) -> None:
        self._finite.look()
        self._begin_evaluation()

    def on_test_start(self) -> None:
        self._begin_evaluation()

    def on_predict_start(self) -> None:
        self._begin_evaluation()

    def _begin_evaluation(self) -> None:
        self.item_vectors.require()
        model_parallel.gather(self)

    def on_validation_end(self) -> None:
        model_parallel.release(self)

    def on_test_end(self) -> None:
        model_parallel.release(self)

    def on_predict_end(self) -> None:
        model_parallel.release(self)

    def on_train_end(self) -> None:
        self._keep_vocabulary()
        randomness.restore(self.__dict__.pop("_states_outside", []), self.device)

    # -- details -------------------------------------------------------------------------------------------------------

    def _build(self, spec: DataSpec) -> None:
        known = [field.name for field in spec.fields_of("event") if field.known_at == "query"]
        for name in self.uses_target_fields:
            if name not in known:
                found = ", ".join(known) or "none"
                problem = (
                    f"names {name!r}; in {spec.dataset} known of the event to predict: {found}. Say so of a field when "
                    f"the data is prepared (--fields {name}=categorical@query), and feed it (--data.fields)"
                )
                raise ArgumentError(type(self).__name__, "target_fields", problem, name)
        divides = sharding.divides(self)
        if divides:
            sharding.check_trainer(self, self.trainer)
        with divided(divides):
            self.build(spec if self.inputs is None else self.inputs.spec_to_build(spec))
        if not (hasattr(type(self), "scorer") or hasattr(self, "scorer")):  # a counted model's is a property
            way = "self.scorer = TiedScorer(self.embedding.items), for example"
            raise RecsysLabError(f"{type(self).__name__}.build(spec) must set self.scorer: {way}")
        if self.inputs is not None:
            self.inputs.add_to(self, spec)
        if self._chosen_scorer[0] is not None:
            self._chosen_scorer[0].replace_in(self)
        if self.task.samples != Samples():
            check_reads(self)
        self.task.build(spec, self)
        self.item_vectors.add_to(self)
        if self.item_vectors.width is not None:
            self._init_args["item_vectors_width"] = self.item_vectors.width
        if self.optimization.row_sparse:
            row_sparse.make_sparse(self, spec.num_rows)
            if not row_sparse.adds_sparse_gradients():
                row_sparse.keep_from_ddp(self)
        if divides:
            sharding.keep_from_ddp(self)
        self.spec = spec
        waiting = self.__dict__.pop("_waiting_weights", None)
        if waiting is not None:
            self.load_state_dict(waiting)

    def _fill_item_tables(self, datamodule: Any) -> None:
        """What a checkpoint brings by itself: the fields of the items, and vectors of the user's own."""
        tables = [module for module in self.modules() if isinstance(module, ItemField)]
        values = datamodule.item_fields if tables else {}  # made here and forgotten: the tables hold the one copy
        for module in tables:
            module.values.copy_(values[module.name])
        if self.item_vectors.path is not None:
            self.item_vectors.fill(self, datamodule.processed.item_ids_raw, datamodule.item_counts)
