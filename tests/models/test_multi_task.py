"""MultiTask: its loss is the weighted sum of its tasks', on one process and on several; and what can't be joined."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import polars as pl
import pytest
import torch
from found_models import small
from made_impressions import prepared_shop, shop_data, typed_shop
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.contracts import Samples, State
from recsys_lab.data.batches import joined, samplers
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation import OutcomeEvaluation, RankingEvaluation
from recsys_lab.losses import BCE
from recsys_lab.models import BERT4Rec, GRU4Rec
from recsys_lab.models.blocks.click_heads import ClickHead, DotHead, TargetAttention
from recsys_lab.models.tasks import MultiTask, NextItem, SequenceLabels
from recsys_lab.models.tasks.click_through import ClickThrough
from recsys_lab.words import ArgumentError, RecsysLabError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("several") / "d", made_events(num_users=30)).path


def both(*weights: float, **settings: Any) -> MultiTask:
    return MultiTask([NextItem(**settings), SequenceLabels("event_type")], weights or None)


def opened(folder: Path, task: Any) -> tuple[Any, Any]:
    data = SequenceDataModule(str(folder), max_length=5, batch_size=16, seed=0)  # whatever seed an earlier test left
    data.give(task.samples)
    torch.manual_seed(0)
    model = small(GRU4Rec, task=task)
    model._build(data.spec)
    return model, next(iter(data.train_dataloader()))


def test_the_loss_is_the_weighted_sum(folder: Path) -> None:
    model, batch = opened(folder, both(1.0, 0.3))
    state = State(None, model.hidden(batch))
    batch = dataclasses.replace(batch, target_labels={"event_type": batch.target_labels["event_type"].clone()})
    batch.target_labels["event_type"][0] = 0  # one window without labels: each mean is over its own targets
    items, labels = (task.loss(state, batch, model.scorer, None) for task in model.task.tasks)
    found = model.task.losses(state, batch, model.scorer, None)
    assert [part.name for part in found] == ["next_item", "event_type"]
    torch.testing.assert_close(found[0].mean, items[0])
    torch.testing.assert_close(found[1].mean, 0.3 * labels[0])
    assert [float(part.total) for part in found] == [float(items[1]), float(labels[1])]
    assert float(labels[1]) < float(items[1])
    torch.testing.assert_close(model.task.loss(state, batch, model.scorer, None)[0], items[0] + 0.3 * labels[0])


def test_processes_weigh_each_task_by_its_own_targets(folder: Path) -> None:
    """Two processes that see halves of a batch take the step of one that sees it whole."""
    model, batch = opened(folder, both(1.0, 0.5))
    batch.target_labels["event_type"][:5] = 0
    halves = [dataclasses.replace(batch.windows(rows), target_positions=None) for rows in torch.arange(16).split(8)]

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        return [g.clone() for g in torch.autograd.grad(loss, list(model.task.parameters()))]

    def step_of(one: Any, world: int, all_facts: list[list[torch.Tensor]] | None) -> tuple[Any, list[torch.Tensor]]:
        sent: list[torch.Tensor] = []

        def reduce(facts: torch.Tensor, reduce_op: str) -> torch.Tensor:
            sent.append(facts)
            return facts if all_facts is None else torch.stack([f[len(sent) - 1] for f in all_facts]).sum(0)

        trainer = SimpleNamespace(
            world_size=world,
            global_rank=0,
            strategy=SimpleNamespace(reduce=reduce),
            accumulate_grad_batches=1,
            fit_loop=SimpleNamespace(epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))),
            global_step=0,
            current_epoch=0,
        )
        model._trainer, model.log = trainer, lambda *_, **__: None
        return gradients(model.training_step(one, 0)), sent

    whole, _ = step_of(batch, 1, None)
    facts = [step_of(half, 2, None)[1] for half in halves]
    parts = [step_of(half, 2, facts)[0] for half in halves]
    for of_both, first, second in zip(whole, *parts, strict=True):
        torch.testing.assert_close((first + second) / 2, of_both, rtol=1e-4, atol=1e-7)  # DDP averages gradients


def test_one_fit_logs_each_loss(folder: Path, tmp_path: Path) -> None:
    L.seed_everything(0, verbose=False)
    trainer = quiet_trainer(tmp_path, limit_val_batches=0)
    trainer.fit(small(GRU4Rec, task=both(1.0, 0.5)), SequenceDataModule(str(folder), max_length=5))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["train/loss_epoch"] == pytest.approx(
        logged["train/loss_next_item"] + logged["train/loss_event_type"], rel=1e-5
    )


def test_loss_and_negatives_are_those_of_the_task_that_ranks() -> None:
    model = small(GRU4Rec, task=both(loss=BCE()))
    assert isinstance(model.loss, BCE) and model.negatives is not None
    assert model.task.samples == Samples(labels=("event_type",))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: MultiTask([NextItem()]), "tasks are 1, with 1 weights: name two or more"),
        (lambda: MultiTask([NextItem(), SequenceLabels("a")], [1.0]), "tasks are 2, with 1 weights"),
        (lambda: MultiTask([SequenceLabels("a"), SequenceLabels("b")]), "must hold one task that ranks items"),
        (lambda: MultiTask([NextItem(), SequenceLabels("a", "event")]), "mix labels of the event itself"),
        (lambda: MultiTask([NextItem(), SequenceLabels("a"), SequenceLabels("a")]), "name the label a twice"),
        (lambda: MultiTask([NextItem(), ClickThrough(), ClickThrough()]), "name ClickThrough twice: one is enough"),
    ],
)
def test_what_can_not_be_joined(make: Any, expected: str) -> None:
    with pytest.raises(ArgumentError, match=f"MultiTask: .*{expected}"):
        make()


def test_masked_items_have_no_labels(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="BERT4Rec learns from masked items, which have no labels"):
        quiet_trainer(tmp_path).fit(small(BERT4Rec, task=both()), SequenceDataModule(str(folder)))


# -- the next item and clicks ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("shop")
    prepared_shop(found, typed_shop())
    return found


def clicks_too(shop: Path, head: ClickHead | None = None, *others: Any) -> tuple[Any, SequenceDataModule]:
    """Untrained, with tables as training would have prepared them."""
    task = MultiTask([NextItem(), ClickThrough(head), *others], [1.0, 0.5, *[0.25] * len(others)])
    data = shop_data(shop)
    data.give(task.samples)
    torch.manual_seed(0)
    model = small(GRU4Rec, task=task)
    model._build(data.spec)
    task.prepare(data.item_counts)
    task.prepare_shown(data.learned_counts)
    return model, data


def test_a_step_is_the_weighted_sum_of_a_step_of_each(shop: Path) -> None:
    model, data = clicks_too(shop, None, SequenceLabels("event_type"))
    batch = next(iter(data.train_dataloader()))
    assert batch.shown_ids is None and batch.beside.labels is not None
    items, clicks, labels = model.task.tasks
    own = State(None, model.encode(batch)), State(model.encode_last(batch.beside))
    alone = [
        items.loss(own[0], batch, model.scorer, None)[0],
        clicks.loss(own[1], batch.beside, model.scorer, None)[0],
        labels.loss(own[0], batch, model.scorer, None)[0],
    ]
    found = model.task.losses(model.training_state(batch), batch, model.scorer, None)
    assert [part.name for part in found] == ["next_item", "click_through", "event_type"]
    assert float(found[1].total) == float(batch.beside.labels.isfinite().sum() - (batch.beside.shown_rows < 0).sum())
    weights = [p for p in model.parameters() if p.requires_grad]
    step = torch.autograd.grad(sum(part.mean for part in found), weights)
    each = [torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True) for loss in alone]
    for whole, *parts in zip(step, *each, strict=True):
        weighed = [weight * part for weight, part in zip((1, 0.5, 0.25), parts, strict=True) if part is not None]
        torch.testing.assert_close(whole, torch.stack(weighed).sum(0))


@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_has_each_window_and_each_impression_once(
    shop: Path, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data = clicks_too(shop)
    loader = data.train_dataloader()
    windows, shown = Counter[int](), Counter[int]()
    steps: list[list[int]] = []
    for rank in range(world):
        for module in (joined, samplers):
            monkeypatch.setattr(module, "rank_and_world", lambda rank=rank: (rank, world))
        batches = list(loader.sampler)
        steps.append([len(beside) for _, beside in batches])
        for own, beside in batches:
            windows.update(own)
            shown.update(beside)
        loader.sampler.skip = 2  # a run that goes on inside the epoch
        assert list(loader.sampler) == batches[2:]
    assert sorted(windows) == list(range(len(data.train_windows))) and set(windows.values()) == {1}
    assert sorted(shown) == list(range(len(data.impressions("train")))) and set(shown.values()) == {1}
    sizes = [sum(of) for of in zip(*steps, strict=True)]
    assert max(sizes) - min(sizes) <= 1 and min(map(min, steps)) > 0


@pytest.mark.parametrize(("head", "labels"), [(DotHead, []), (TargetAttention, [SequenceLabels])])
def test_each_part_is_evaluated_as_its_task_alone(
    shop: Path, head: type[ClickHead], labels: list[type[SequenceLabels]], tmp_path: Path
) -> None:
    model, data = clicks_too(shop, head(), *(one("event_type") for one in labels))
    ranking, outcomes = RankingEvaluation(cutoffs=[5]), OutcomeEvaluation()
    quiet_trainer(tmp_path, callbacks=[ranking, outcomes]).test(model, data, verbose=False)
    tables = outcomes.tables(data)
    for place, task in enumerate((NextItem(), ClickThrough(head()), *(one("event_type") for one in labels))):
        alone, own = small(GRU4Rec, task=task), shop_data(shop, shown=None)
        own.give(task.samples)
        alone._build(own.spec)
        prefix = f"task.tasks.{place}."
        held = {name.replace(prefix, "task."): value for name, value in model.state_dict().items()}
        alone.load_state_dict({name: value for name, value in held.items() if "task.tasks" not in name})
        callback = RankingEvaluation(cutoffs=[5]) if task.ranks else OutcomeEvaluation()
        quiet_trainer(tmp_path, callbacks=[callback]).test(alone, own, verbose=False)
        joint = ranking.last_metrics if task.ranks else outcomes.last_metrics
        if not task.ranks:
            start = "test/event_type_" if place == 2 else "test/click_through_"
            joint = {f"test/{n.removeprefix(start)}": v for n, v in joint.items() if n.startswith(start)}
            units = tables["values.parquet"].filter(
                pl.col("metric").cast(pl.String) == f"{start.removeprefix('test/')}log_loss"
            )
            assert units["unit"].equals(callback.tables(own)["outcomes.parquet"]["unit"], check_names=False)
        assert callback.last_metrics == pytest.approx(joint, abs=1e-6) and callback.last_metrics


def test_a_fit_learns_all_and_too_few_impressions_are_refused(shop: Path, tmp_path: Path) -> None:
    L.seed_everything(0, verbose=False)
    task = MultiTask([NextItem(), ClickThrough(), SequenceLabels("event_type")])
    trainer = quiet_trainer(tmp_path)
    trainer.fit(small(GRU4Rec, task=task), shop_data(shop, shown=None))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    parts = sum(logged[f"train/loss_{name}"] for name in ("next_item", "click_through", "event_type"))
    assert logged["train/loss_epoch"] == pytest.approx(parts, rel=5e-3)  # each is a mean over its own targets
    assert {"val/ndcg@10", "val/click_through_auc", "val/event_type_log_loss"} <= set(logged)
    assert task.tasks[1].trained.sum() < len(task.tasks[1].trained)
    few = shop_data(shop, batch_size=1)
    few.give(task.samples)
    loader = few.train_dataloader()
    loader.sampler.num_shown = 3
    with pytest.raises(RecsysLabError, match=r"3 impressions are too few for .* steps"):
        len(loader)
