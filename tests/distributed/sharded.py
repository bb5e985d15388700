"""Divided item tables on some processes; test_sharded_processes.py starts it.

python sharded.py <prepared folder> <output folder> <processes> <strategy>
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from joined_batch import GivenNegatives
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.tensor import distribute_tensor

sys.path.insert(0, str(Path(__file__).parent.parent))
from made_fields import WithFields

import recsys_lab.models
from recsys_lab import losses
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import LeaveKOut, LeaveOneOut
from recsys_lab.evaluation.beyond_accuracy import BeyondAccuracy
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.models import NextItemModule, Optimization, SASRec
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.model_parallel import is_part
from recsys_lab.models.sharding import sharded_tables
from recsys_lab.ops.processes import parts_of_all

MODEL_PARALLEL = sys.argv[4:] == ["model_parallel"]
BATCH, STEPS = 6, 20
"""BATCH: of all processes together."""

CASES: dict[str, dict[str, Any]] = {
    "cross-entropy": {},
    "bias, smoothing, temperature": {
        "encoder": "GRU4Rec",
        "item_bias": True,
        "loss": losses.CrossEntropy(label_smoothing=0.1, temperature=0.5, chunk_size=7),
    },
    "cosine": {"encoder": "CORE"},
    "own negatives": {"loss": losses.SampledSoftmax(), "negatives": GivenNegatives(shared=False)},
    "shared negatives": {"loss": losses.BPR(), "negatives": GivenNegatives(shared=True)},
    "two batches a step": {"batches": 2},
    "fields of the items": {"fields": ["item.tags", "item.price"]},
    "adam": {
        "encoder": "GRU4Rec",
        "optimization": Optimization("adamw", lr=0.01, weight_decay=0.1, warmup_steps=5, schedule="cosine"),
        "clip": 0.05,
    },
    "clipped values": {"clip": 0.001, "clip_by": "value"},
    **{
        rule: {
            # a key's bias has a gradient of rounding alone, which Adam would scale up: the dense part stands still
            "optimization": Optimization(rule, lr=1e-30, table_lr=0.05),  # type: ignore[arg-type]
            "loss": losses.SampledSoftmax(),
            "negatives": GivenNegatives(shared=False),
            "clip": 0.05,
        }
        for rule in ("sparse_adam", "rowwise_adagrad")
    },
}

STORED: dict[str, dict[str, Any]] = {
    "adam": {"optimization": Optimization(warmup_steps=3)},
    "rowwise_adagrad": {key: value for key, value in CASES["rowwise_adagrad"].items() if key != "clip"},
}


class LastItem(NextItemModule):
    """The state is the vector of the last item: where these are whole numbers, so are the scores."""

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        self.embedding = EventEmbedding(spec, 8)
        self.scorer = TiedScorer(self.embedding.items, bias=True)

    def encode(self, batch: Batch) -> Tensor:
        return self.embedding(batch)


def whole_numbers(model: NextItemModule, num_rows: int) -> None:
    """Fills table and bias, whoever holds the rows."""
    rows = torch.randint(-2, 3, (num_rows, 8), generator=torch.Generator().manual_seed(1)).float()
    rows[0] = 0.0
    tables = sharded_tables(model)
    weight: Any = model.embedding.items.weight  # type: ignore[union-attr]
    weight.data.copy_(rows[tables[0].division.held] if tables else rows)
    bias: Any = model.scorer.bias  # type: ignore[union-attr]
    values = (torch.arange(num_rows) % 3).float()
    if is_part(bias):  # of ModelParallelStrategy
        values = distribute_tensor(values, bias.device_mesh, bias.placements)
    bias.data.copy_(values)


def whole(model: NextItemModule) -> dict[str, Tensor]:
    """The weights, with the table put together."""
    tables = {id(table.weight) for table in sharded_tables(model)}

    def put_together(value: Any) -> Tensor:
        if is_part(value):
            return value.detach().full_tensor().clone()
        return torch.cat(parts_of_all(value.detach())) if id(value) in tables else value.detach().clone()

    return {name: put_together(value) for name, value in model.named_parameters()}


def trainer_of(folder: Path, devices: int, **settings: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": -1}
    quiet |= {"enable_checkpointing": False, "default_root_dir": folder, "accelerator": "cpu"}
    strategy: Any = "ddp" if devices > 1 else "auto"
    if MODEL_PARALLEL:
        strategy = ModelParallelStrategy(data_parallel_size=devices, tensor_parallel_size=1)
    return L.Trainer(devices=devices, strategy=strategy, **(quiet | settings))


def data_of(folder: str, devices: int, **settings: Any) -> SequenceDataModule:
    settings = {"batch_size": BATCH // devices, **settings}
    data = SequenceDataModule(folder, max_length=4, seed=0, num_workers=0, **settings)
    if settings.get("fields"):
        data.__dict__["processed"] = WithFields(data.processed)
    return data


def trained(data_folder: str, case: dict[str, Any], devices: int, output: Path) -> dict[str, Any]:
    """Weights, loss and metrics after twenty steps."""
    case = {"encoder": "SASRec", "batches": 1, "clip": None, "clip_by": "norm", "fields": [], **case}
    encoder, batches, clip, by, fields = (
        case.pop(name) for name in ("encoder", "batches", "clip", "clip_by", "fields")
    )
    L.seed_everything(0, verbose=False)
    model = getattr(recsys_lab.models, encoder)(embedding_dim=8, dropout=0.0, shard_items=devices > 1, **case)
    if "optimization" not in case:
        model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.05)
    settings = {"max_steps": STEPS // batches, "accumulate_grad_batches": batches, "num_sanity_val_steps": 1}
    trainer = trainer_of(
        output, devices, gradient_clip_val=clip, gradient_clip_algorithm=by, callbacks=[RankingEvaluation()], **settings
    )
    trainer.fit(model, data_of(data_folder, devices, fields=fields))
    assert bool(sharded_tables(model)) == (devices > 1)
    numbers = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {"weights": whole(model), "numbers": numbers}


def evaluated(data_folder: str, devices: int, output: Path, ties: Any, seen: Any, targets: int) -> dict[str, Any]:
    """Ranks, metrics and lists of a table of whole numbers."""
    split = LeaveKOut(targets) if targets > 1 else LeaveOneOut()
    evaluation = RankingEvaluation(ties=ties, measures=[BeyondAccuracy()])
    lists = Recommendations(output / f"{devices}-{ties}-{seen}-{targets}.parquet", top_k=12)
    trainer = trainer_of(output, devices, callbacks=[evaluation, lists], max_steps=1, limit_val_batches=0)
    L.seed_everything(0, verbose=False)
    model, size = LastItem(shard_items=devices > 1), {1: 4, 2: 5, 3: 3}[devices]  # the last process has fewer batches
    data = data_of(data_folder, devices, exclude_seen=seen, batch_size=size, fields=[], split=split)
    trainer.fit(model, data)
    whole_numbers(model, data.spec.num_rows)
    trainer.limit_val_batches = 1.0
    found: dict[str, Any] = {}
    for evaluate in (trainer.validate, trainer.test):
        evaluate(model, data, verbose=False)
        found |= evaluation.last_metrics | {f"{evaluation.last_stage} ranks": torch.from_numpy(evaluation.last_ranks)}
    trainer.predict(model, data, return_predictions=False)
    return found


def fitted(
    data_folder: str, name: str, devices: int, output: Path, epochs: int, checkpoint: Path | None = None
) -> tuple[L.Trainer, dict[str, Tensor]]:
    """-> the Trainer; weights, and what the optimiser keeps of the table."""
    L.seed_everything(0, verbose=False)
    model = SASRec(embedding_dim=8, shard_items=True, **STORED[name])  # with dropout
    trainer = trainer_of(output, devices, max_epochs=epochs, limit_val_batches=0)
    trainer.fit(model, data_of(data_folder, devices, batch_size=2), ckpt_path=checkpoint)
    return trainer, whole(model) | kept_of_table(model, trainer)


def stored(data_folder: str, name: str, devices: int, output: Path) -> dict[str, Any]:
    """After two epochs at once, after two with a checkpoint between them, and as it comes out of the checkpoint of each
    number of processes that was there before."""
    given, written = (data_folder, name, devices, output), {n: output / f"{n}-{name}.ckpt" for n in (1, 2, 3)}
    trainer, first = fitted(*given, 1)
    trainer.save_checkpoint(written[devices])
    trainer.save_checkpoint(written[devices])  # the rows of the first one go
    found = {"one epoch": first, "two epochs": fitted(*given, 2)[1], "resumed": fitted(*given, 2, written[devices])[1]}
    there = {number: path for number, path in written.items() if path.exists()}
    return found | {f"read from {number}": fitted(*given, 1, path)[1] for number, path in there.items()}


def kept_of_table(model: NextItemModule, trainer: L.Trainer) -> dict[str, Tensor]:
    weight: Any = model.embedding.items.weight  # type: ignore[union-attr]
    kept = {key: value for key, value in trainer.optimizers[0].state[weight].items() if value.ndim}
    if sharded_tables(model):
        kept = {key: torch.cat(parts_of_all(value)) for key, value in kept.items()}
    return {f"optimizer {key}": value.clone() for key, value in kept.items()}


EVALUATED = [("expected", "history", 1), ("conservative", "none", 1), ("expected", "none", 2)]


def everything(data_folder: str, output: Path, devices: int) -> dict[str, Any]:
    found: dict[str, Any] = {name: trained(data_folder, case, devices, output) for name, case in CASES.items()}
    for name in STORED:
        found[f"stored {name}"] = stored(data_folder, name, devices, output)
    for how in EVALUATED:
        found[str(how)] = evaluated(data_folder, devices, output, *how)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    own = everything(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    torch.save(own, Path(sys.argv[2]) / f"{sys.argv[3]}-rank{torch.distributed.get_rank()}.pt")
