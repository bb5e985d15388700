"""Row-sparse optimisers: the rows of a batch move as the rule says, all others stay, and training is as with any other
optimiser: schedules, clipping, resuming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from found_models import ENCODERS, SPEC, small, trained_as
from lightning.pytorch.callbacks import ModelCheckpoint
from small_data import quiet_trainer
from torch import Tensor, nn

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import BPR, CrossEntropy, SampledSoftmax
from recsys_lab.losses.negatives import UniformNegatives
from recsys_lab.models import GRU4Rec, NextItemModule, Optimization, SASRec
from recsys_lab.models.blocks.scoring import WholeRows
from recsys_lab.ops.row_sparse import RULES, RowSparse, clip_gradients
from recsys_lab.words import RecsysLabError

ROWS, D = 12, 3


def table(sparse: bool = True) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(ROWS, D, sparse=sparse)


def lookups(step: int) -> Tensor:
    """Item ids of a step, some of them twice."""
    return torch.randint(1, ROWS - 2, (8,), generator=torch.Generator().manual_seed(step))


def train(embedding: nn.Embedding, optimizer: torch.optim.Optimizer, steps: int = 5) -> Tensor:
    for step in range(steps):
        optimizer.zero_grad()
        (embedding(lookups(step)) - 1.0).square().sum().backward()
        optimizer.step()
    return embedding.weight.detach()


def only_table(embedding: nn.Embedding, rule: str, lr: float = 0.1) -> RowSparse:
    return RowSparse([{"params": [nn.Parameter(torch.zeros(1))]}], [embedding.weight], rule, lr=1.0, table_lr=lr)


def test_rowwise_adagrad_is_its_definition_on_the_dense_gradient() -> None:
    """A slow reference over all rows: rows without a gradient have one of 0, which changes nothing."""
    sparse, dense = table(), table(sparse=False)
    found = train(sparse, only_table(sparse, "rowwise_adagrad"))
    total = [0.0] * ROWS
    for step in range(5):
        dense.zero_grad()
        (dense(lookups(step)) - 1.0).square().sum().backward()
        for row in range(ROWS):
            gradient = dense.weight.grad[row]
            total[row] += sum(float(g) ** 2 for g in gradient) / D
            with torch.no_grad():
                dense.weight[row] -= 0.1 * gradient / (math.sqrt(total[row]) + 1e-8)
    torch.testing.assert_close(found, dense.weight.detach())
    assert not torch.equal(found, table().weight)


def test_sparse_adam_is_torchs() -> None:
    ours, theirs = table(), table()
    found = train(ours, only_table(ours, "sparse_adam"))
    torch.testing.assert_close(found, train(theirs, torch.optim.SparseAdam([theirs.weight], lr=0.1)))


def test_sparse_adam_is_adam_where_every_row_has_a_gradient() -> None:
    ours, theirs = table(), table(sparse=False)
    adam = torch.optim.Adam([theirs.weight], lr=0.1, eps=1e-12)  # they differ in where eps is added
    optimizer = only_table(ours, "sparse_adam")
    for _ in range(4):
        for embedding, one in ((ours, optimizer), (theirs, adam)):
            one.zero_grad()
            (embedding(torch.arange(ROWS)) - 1.0).square().sum().backward()
            one.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_other_rows_stay_and_other_parameters_get_adam(rule: str) -> None:
    embedding, before = table(), table().weight.detach()
    dense, expected = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = RowSparse([{"params": [dense]}], [embedding.weight], rule, lr=0.01, table_lr=0.1)
    adam = torch.optim.Adam([expected], lr=0.01, fused=True)
    for step in range(3):
        for parameter, one in ((dense, optimizer), (expected, adam)):
            one.zero_grad()
            (parameter.square().sum() + embedding(lookups(step)).sum()).backward()
            one.step()
    assert torch.equal(dense, expected) and not torch.equal(dense, torch.ones(2))
    touched = torch.cat([lookups(step) for step in range(3)]).unique()
    moved = (embedding.weight.detach() != before).any(1).nonzero().squeeze(1)
    assert torch.equal(moved, touched)
    if rule == "rowwise_adagrad":
        assert sum(value.numel() for value in optimizer.state[embedding.weight].values()) == ROWS


@pytest.mark.parametrize("rule", RULES)
def test_accumulated_gradients_are_one_step(rule: str) -> None:
    """Two backward passes before a step give the step of their sum, also for rows that came in both."""
    tables = [table(), table()]
    for embedding, parts in zip(tables, ([lookups(0), lookups(1)], [torch.cat([lookups(0), lookups(1)])]), strict=True):
        optimizer = only_table(embedding, rule)
        for ids in parts:
            (embedding(ids) - 1.0).square().sum().backward()
        optimizer.step()
    assert set(lookups(0).tolist()) & set(lookups(1).tolist())
    torch.testing.assert_close(tables[0].weight, tables[1].weight)


def test_a_dense_gradient_is_an_error() -> None:
    embedding = table(sparse=False)
    with pytest.raises(RecsysLabError, match="sampled loss"):
        train(embedding, only_table(embedding, "rowwise_adagrad"))


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_is_torchs_of_the_dense_gradients(algorithm: str) -> None:
    ours, theirs = table(), table(sparse=False)
    extra = [nn.Parameter(torch.full((4,), 2.0)) for _ in range(2)]
    for embedding, parameter in ((ours, extra[0]), (theirs, extra[1])):
        (embedding(torch.tensor([1, 1, 3])).square().sum() + parameter.square().sum()).backward()
    clip_gradients([ours.weight, extra[0]], 0.5, algorithm)
    if algorithm == "norm":
        torch.nn.utils.clip_grad_norm_([theirs.weight, extra[1]], 0.5)
    else:
        torch.nn.utils.clip_grad_value_([theirs.weight, extra[1]], 0.5)
    torch.testing.assert_close(ours.weight.grad.to_dense(), theirs.weight.grad)
    torch.testing.assert_close(extra[0].grad, extra[1].grad)


# -- in a model --------------------------------------------------------------------------------------------------------


def settings(optimizer: str, **more: Any) -> dict[str, Any]:
    sampler = UniformNegatives(num_negatives=8, per_position=False)
    return {"loss": SampledSoftmax(), "negatives": sampler, "optimization": Optimization(optimizer, lr=0.01, **more)}


def fitted(
    model: NextItemModule, small_folder: Path, tmp_path: Path, ckpt_path: Path | None = None, **more: Any
) -> list[float]:
    """Training losses of all steps."""
    losses: list[float] = []

    class Losses(L.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            losses.append(float(outputs["loss"]))

    data = SequenceDataModule(str(small_folder), max_length=6, batch_size=8, seed=0)
    callbacks = [Losses(), *more.pop("callbacks", [])]
    trainer = quiet_trainer(tmp_path, callbacks=callbacks, **{"max_epochs": 4, **more})
    L.seed_everything(0, verbose=False)
    trainer.fit(model, data, ckpt_path=None if ckpt_path is None else str(ckpt_path), weights_only=True)
    return losses


@pytest.mark.parametrize("per_position", [True, False])
@pytest.mark.parametrize("cls", ENCODERS)
def test_the_sparse_gradient_is_the_dense_one(
    cls: type[NextItemModule], per_position: bool, small_folder: Path
) -> None:
    """Input lookups, targets and negatives of the tied table, all in one sparse gradient; others are as they were."""
    data = trained_as(cls, small_folder)
    batch = next(iter(data.train_dataloader()))
    gradients = []
    for optimizer in ("adam", "rowwise_adagrad"):
        torch.manual_seed(0)
        sampler = UniformNegatives(num_negatives=8, per_position=per_position)
        model = small(cls, loss=BPR(), negatives=sampler, optimization=Optimization(optimizer))
        model._build(data.spec)
        sampler.prepare(data.item_counts)
        positions = (batch.target_ids != 0).flatten().nonzero().squeeze(1)
        targets = batch.target_ids.flatten()[positions]
        negatives = sampler.sample(targets, torch.Generator().manual_seed(1))
        model.task.objective(model.encode(batch), positions, targets, model.scorer, negatives).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    dense, sparse = gradients
    assert dense.keys() == sparse.keys()
    assert [name for name, g in sparse.items() if g.is_sparse] == ["embedding.items.weight"]
    for name, gradient in sparse.items():
        torch.testing.assert_close(gradient.to_dense() if gradient.is_sparse else gradient, dense[name])


@pytest.mark.parametrize("optimizer", RULES)
def test_a_model_learns(optimizer: str, small_folder: Path, tmp_path: Path) -> None:
    model = SASRec(embedding_dim=16, dropout=0.0, **settings(optimizer, table_lr=0.05))
    losses = fitted(model, small_folder, tmp_path, max_epochs=15, gradient_clip_val=5.0)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert (model.embedding.items.weight[0] == 0).all()  # padding


@pytest.mark.parametrize("optimizer", RULES)
def test_resume_goes_on_as_if_never_stopped(optimizer: str, small_folder: Path, tmp_path: Path) -> None:
    def model() -> GRU4Rec:
        return GRU4Rec(embedding_dim=8, **settings(optimizer, schedule="cosine", warmup_steps=2, table_lr=0.1))

    saved = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", every_n_train_steps=5)
    run: dict[str, Any] = {"enable_checkpointing": True, "gradient_clip_val": 0.5}
    whole = model()
    losses = fitted(whole, small_folder, tmp_path, callbacks=[saved], **run)
    assert len(losses) > 8
    rest = model()
    assert fitted(rest, small_folder, tmp_path / "rest", tmp_path / "step=5.ckpt", **run) == losses[5:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_a_loss_over_all_items_is_refused() -> None:
    with pytest.raises(RecsysLabError, match="sampled loss"):
        SASRec(loss=CrossEntropy(), optimization=Optimization("rowwise_adagrad"))


def test_compiling_is_refused() -> None:
    with pytest.raises(RecsysLabError, match="compile_model"):
        SASRec(compile_model=True, **settings("sparse_adam"))


def test_a_model_without_an_item_table_is_refused() -> None:
    class NoTable(NextItemModule):
        def build(self, spec: Any) -> None:
            self.layer = nn.Linear(2, 2)
            self.scorer = WholeRows(self.layer, spec.num_rows)

    with pytest.raises(RecsysLabError, match="no nn.Embedding"):
        NoTable(**settings("sparse_adam"))._build(SPEC)


def test_a_rate_for_the_table_needs_a_row_sparse_optimiser() -> None:
    with pytest.raises(RecsysLabError, match="table_lr"):
        Optimization("adam", table_lr=0.1)
