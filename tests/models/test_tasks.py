"""Tasks: weights of targets, means over accumulated steps and processes, auxiliary losses, and a task from outside."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from found_models import built, random_batch, small
from small_data import made_events, prepared, quiet_trainer
from torch import Tensor

from recsys_lab.cli import main
from recsys_lab.config import from_config, to_config
from recsys_lab.contracts import Batch, State
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import BCE, CrossEntropy
from recsys_lab.losses.contrastive import ContrastiveViews
from recsys_lab.models import GRU4Rec, Optimization, SASRec
from recsys_lab.models.accumulation import Accumulation
from recsys_lab.models.system import model_settings, system_of
from recsys_lab.models.tasks.next_item import NextItem
from recsys_lab.models.training_steps import GlobalLoss, over_processes
from recsys_lab.words import ArgumentError, RecsysLabError


class Newest(NextItem):
    """Only the last target of each window counts."""

    def weights(self, batch: Batch, positions: Tensor) -> Tensor:
        row, column = positions // batch.item_ids.shape[1], positions % batch.item_ids.shape[1]
        return (column == batch.lengths[row] - 1).float()


def training_batch(lengths: list[int]) -> Batch:
    batch = random_batch(lengths)
    targets = torch.where(batch.valid_mask, batch.item_ids.roll(1, 0).clamp_min(1), 0)
    return dataclasses.replace(batch, target_ids=targets)


def test_a_task_weighs_its_targets() -> None:
    model, batch = built(SASRec), training_batch([3, 9, 1])
    state = State(None, model.encode(batch))
    mean, total = NextItem().loss(state, batch, model.scorer, None)
    assert total == 13
    last, number = Newest().loss(state, batch, model.scorer, None)
    assert float(number) == 3.0
    by_hand = CrossEntropy()(
        state.history[torch.arange(3), batch.lengths - 1],  # type: ignore[index]
        batch.target_ids[torch.arange(3), batch.lengths - 1],
        model.scorer,
    )
    torch.testing.assert_close(last, by_hand)
    assert abs(float(mean - last)) > 1e-3


def test_evaluation_is_given_the_query() -> None:
    query = torch.ones(2, 3)
    assert NextItem().evaluate(State(query), None, None) is query  # type: ignore[arg-type]


def test_loss_and_negatives_are_those_of_the_task() -> None:
    model = SASRec(loss=BCE())
    assert isinstance(model.task, NextItem) and isinstance(model.loss, BCE)
    assert model.negatives is model.task.negatives and model.negatives is not None
    again = from_config(to_config(SASRec(task=NextItem(BCE()))))
    assert isinstance(again.task, NextItem) and isinstance(again.loss, BCE)
    with pytest.raises(ArgumentError, match="SASRec: task has a loss of its own: leave loss and negatives out"):
        SASRec(task=NextItem(), loss=BCE())


def test_a_model_that_names_no_task_is_the_system_it_was() -> None:
    assert not {"task", "auxiliary"} & set(model_settings(SASRec())["init_args"])
    assert {"task", "auxiliary"} <= set(
        model_settings(SASRec(task=NextItem(), auxiliary=[ContrastiveViews()]))["init_args"]
    )


# -- several batches, several processes --------------------------------------------------------------------------------


class Steps(L.Callback):
    """The gradients of each step, as the optimiser gets them."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        found = {n: p.grad.to_dense().clone() for n, p in pl_module.named_parameters() if p.grad is not None}
        if found:
            self.seen.append(found)


def stepped(folder: Path, work: Path, batch_size: int, accumulate: int, **settings: Any) -> list[dict[str, Tensor]]:
    L.seed_everything(0, verbose=False)
    data = SequenceDataModule(str(folder), max_length=6, stride=2, batch_size=batch_size, length_bucketing=False)
    steps = Steps()
    trainer = quiet_trainer(
        work, callbacks=[steps], accumulate_grad_batches=accumulate, limit_val_batches=0, max_epochs=1
    )
    settings.setdefault("optimization", Optimization(lr=1e-9))  # the weights stay, so that the steps can be compared
    trainer.fit(GRU4Rec(embedding_dim=8, dropout=0.0, **settings), data)
    return steps.seen


@pytest.mark.parametrize("settings", [{}, {"task": Newest()}], ids=["all alike", "weighted"])
def test_an_accumulated_step_is_that_of_the_joined_batch(settings: Any, tmp_path: Path) -> None:
    """Windows of 1 to 6 targets: a mean of the batches' means is another number."""
    folder = prepared(tmp_path / "d", made_events(num_users=30)).path
    joined = stepped(folder, tmp_path, 12, 1, **settings)
    parts = stepped(folder, tmp_path, 4, 3, **settings)
    assert len(joined) == len(parts) > 1
    for whole, accumulated in zip(joined, parts, strict=True):
        for name, gradient in whole.items():
            torch.testing.assert_close(accumulated[name], gradient, rtol=1e-4, atol=1e-7)


def test_batches_of_as_many_targets_are_left_as_they_are() -> None:
    accumulation, model = Accumulation(), torch.nn.Linear(2, 1)
    loss = GlobalLoss(torch.tensor(1.0), 7, 1.0, torch.tensor(False))
    assert [accumulation.add(loss) for _ in range(3)] == [1.0, 1.0, 1.0]
    model.weight.grad = torch.tensor([[0.1, 0.3]])
    before = model.weight.grad.clone()
    accumulation.finish(model, 3)
    assert torch.equal(model.weight.grad, before)
    assert accumulation.add(loss._replace(total=3)) == 1.0 and accumulation.add(loss._replace(total=6)) == 2.0
    accumulation.finish(model, 2)
    torch.testing.assert_close(model.weight.grad, before * 2 * 3 / 9)


def test_only_accumulated_runs_say_how_they_were_accumulated(small_folder: Path, tmp_path: Path) -> None:
    data, found = SequenceDataModule(str(small_folder)), []
    for batches in (1, 2):
        model = GRU4Rec(embedding_dim=8)
        trainer = quiet_trainer(tmp_path, accumulate_grad_batches=batches)
        trainer.fit(model, data)
        found.append(system_of(model, trainer, data).get("accumulation"))
    assert found == [None, "mean over targets"]


def test_weights_of_two_processes() -> None:
    """What one process of two gets, given what both say."""

    def reduce(facts: Tensor, reduce_op: str) -> Tensor:
        assert facts.tolist() == [3.0, 6.0, 0.0] and reduce_op == "sum"
        return facts + torch.tensor([1.0, 4.0, 0.0])

    trainer = SimpleNamespace(world_size=2, strategy=SimpleNamespace(reduce=reduce))
    whole = over_processes(trainer, torch.tensor(2.0), torch.tensor(3.0))
    assert float(whole.mean) == 2.5 and float(whole.total) == 4.0
    assert float(whole.weight) == 1.5 and not whole.is_bad  # DDP halves the sum of 1.5 x 2.0 and 0.5 x 4.0


# -- auxiliary losses --------------------------------------------------------------------------------------------------


def test_views_of_one_history_by_hand() -> None:
    model, batch = built(SASRec, dropout=0.5).train(), training_batch([3, 9, 1, 4])
    first, second = model.encode(batch), model.encode(batch)
    row = torch.arange(4)
    got = ContrastiveViews(temperature=0.5)(lambda _: second, State(None, first), batch, model.scorer, None)
    a, b = first[row, batch.lengths - 1], second[row, batch.lengths - 1]
    cosine = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2) / 0.5
    torch.testing.assert_close(got, -cosine.log_softmax(1).diagonal().mean())


def test_an_auxiliary_loss_is_added(small_folder: Path, tmp_path: Path) -> None:
    losses = []
    for share in (None, 0.0, 2.0):
        L.seed_everything(0, verbose=False)
        extra = [] if share is None else [ContrastiveViews(share)]
        trainer = quiet_trainer(tmp_path)
        model = SASRec(embedding_dim=8, auxiliary=extra)
        trainer.fit(model, SequenceDataModule(str(small_folder), max_length=6, batch_size=64))
        losses.append(float(trainer.callback_metrics["train/loss_epoch"]))
    assert losses[0] == losses[1] < losses[2]


def test_views_that_are_the_same_are_an_error(small_folder: Path, tmp_path: Path) -> None:
    model = small(SASRec, auxiliary=[ContrastiveViews()])
    with pytest.raises(RecsysLabError, match="needs two views of a history, and this model has no dropout"):
        quiet_trainer(tmp_path).fit(model, SequenceDataModule(str(small_folder)))


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = prepared(tmp_path / "d", made_events(num_users=30)).path
    line = [
        "fit",
        "--model",
        "SASRec",
        "--model.embedding_dim",
        "8",
        "--data.dataset",
        str(folder),
        "--run.folder",
        "run",
    ]
    line += ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    views = "recsys_lab.losses.contrastive.ContrastiveViews"
    task = ["--model.task", "NextItem", "--model.task.loss", "BCE"]
    assert main([*line, *task, "--model.auxiliary", f"[{{class_path: {views}, init_args: {{share: 0.2}}}}]"]) == 0
    assert main(["test", "run"]) == 0
    assert main(["verify", "run"]) == 0
    assert '"loss": "BCE + UniformNegatives"' in (tmp_path / "run" / "manifest.json").read_text()
