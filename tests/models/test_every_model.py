"""What holds for every encoder, whatever the loss. Encoders and losses are found by scanning the package."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from found_models import (
    BASELINES,
    ENCODERS,
    LOSSES,
    MODELS,
    VARIANTS,
    asked,
    built,
    random_batch,
    row_alone,
    small,
    trained_as,
)
from small_data import quiet_trainer

import recsys_lab.models
from recsys_lab.config import from_config, to_config
from recsys_lab.contracts import Batch, Loss, State
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import CrossEntropy
from recsys_lab.models import GRU4Rec, NextItemModule, Optimization, SASRec
from recsys_lab.models.module import last_position
from recsys_lab.words import RecsysLabError

STEPS = 30
LEARN_SLOWLY = {"Caser", "NARM", "STAMP"}
"""Their states begin so small that losses of differences hardly change in the first steps."""
LATER = [pytest.mark.slow]
"""No loss knows an encoder: each encoder is tried with one, and one with all; a second with all, and a third of the
other pairs, are later."""
CASES = [
    pytest.param(
        model,
        loss,
        id=f"{model.__name__}-{loss.__name__}",
        marks=[] if loss is CrossEntropy or model is SASRec else LATER,
    )
    for place, model in enumerate(ENCODERS)
    for turn, loss in enumerate(LOSSES)
    if loss is CrossEntropy or model in (GRU4Rec, SASRec) or (place + turn) % 3 == 0
]
CAUSAL = [name for name, (cls, settings) in VARIANTS.items() if small(cls, **settings).causal]
each_variant = pytest.mark.parametrize("name", VARIANTS)
GO_ON = {"GRU4Rec", "RNN", "LSTM", "Caser", "NextItNet", "LRURec", "Mamba4Rec", "SASRec", "TiSASRec", "HSTU"}
GO_ON |= {"NARM", "STAMP", "CORE", "LSTMAttention"}
"""Encoders with `start` and `step`."""
CAN_NOT = {"SASRec-positions-from-end", "HSTU-query-time", "LSTMAttention-relative", "LSTMAttention-query-time"}


class Watch(L.Callback):
    """Keeps each step's loss, and the gradients of the first step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: dict[str, torch.Tensor | None] = {}

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.gradients:
            self.gradients = {n: None if p.grad is None else p.grad.clone() for n, p in pl_module.named_parameters()}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))


def test_every_model_is_found_by_its_name() -> None:
    assert all(getattr(recsys_lab.models, cls.__name__) is cls for cls in MODELS)
    with pytest.raises(AttributeError, match="module 'recsys_lab.models' has no attribute 'SASRek'"):
        recsys_lab.models.SASRek  # noqa: B018
    assert len(ENCODERS) >= 3 and BASELINES and len(LOSSES) >= 7


@pytest.mark.parametrize(("cls", "loss"), CASES)
def test_one_batch_overfits_and_its_checkpoint_loads(
    cls: type[NextItemModule], loss: type[Loss], small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    L.seed_everything(1, verbose=False)
    model = small(cls, loss=loss(), optimization=Optimization(lr=2e-2))
    data = trained_as(cls, small_folder, batch_size=256)
    watch = Watch()
    steps = STEPS if cls.__name__ not in LEARN_SLOWLY or loss is CrossEntropy else 3 * STEPS
    (one,) = data.train_dataloader()
    # in one epoch: an epoch of its own costs more than a step
    repeated: Any = torch.utils.data.DataLoader([one] * steps, batch_size=None)  # type: ignore[arg-type]
    monkeypatch.setattr(data, "train_dataloader", lambda: repeated)
    trainer = quiet_trainer(tmp_path, limit_val_batches=0, callbacks=[watch])
    trainer.fit(model, data)

    assert len(watch.losses) == steps
    for name, gradient in watch.gradients.items():
        assert gradient is not None, f"{name} has no gradient"
        assert torch.isfinite(gradient).all(), f"{name} has a gradient that is not finite"
        assert gradient.any(), f"{name} has a gradient of zeros only"
    start, end = sum(watch.losses[:3]) / 3, sum(watch.losses[-3:]) / 3
    assert end < 0.8 * start, f"loss went from {start:.3f} to {end:.3f}"

    trainer.save_checkpoint(tmp_path / "model.ckpt")
    stored = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert stored["data_spec"] == data.spec.as_dict()
    loaded = cls.load_from_checkpoint(tmp_path / "model.ckpt")
    assert type(loaded) is cls and to_config(loaded) == to_config(model) == stored["model_config"]
    batch = next(iter(data.test_dataloader()))
    model.eval()
    with torch.no_grad():
        before, after = model.score(model.query(batch)), loaded.score(loaded.query(batch))
    assert torch.equal(before, after)
    assert before.shape == (len(batch), data.spec.num_rows) and before.dtype == torch.float32
    assert torch.isfinite(before).all()


@pytest.mark.parametrize("cls", BASELINES)
def test_a_baseline_is_fitted_stored_and_loaded(cls: type[NextItemModule], small_folder: Path, tmp_path: Path) -> None:
    model, data = cls(), trained_as(cls, small_folder)
    trainer = quiet_trainer(tmp_path, max_epochs=5)
    trainer.fit(model, data)
    assert trainer.current_epoch == 1 and "val/auc" in trainer.callback_metrics, "one epoch, and its validation"
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = NextItemModule.load_from_checkpoint(tmp_path / "model.ckpt")
    assert type(loaded) is cls and to_config(from_config(to_config(model))) == to_config(model)
    batch = next(iter(data.test_dataloader()))
    scores = loaded.score(loaded.query(batch))
    assert scores.shape == (len(batch), data.spec.num_rows) and torch.isfinite(scores).all()
    assert torch.equal(scores, model.score(model.query(batch)))
    assert len(scores[:, 1:].unique()) > 1, "a model that was never fitted scores all items alike"
    metrics = trainer.test(loaded, data, verbose=False)[0]
    assert 0 < metrics["test/auc"] < 1
    if not cls.uses_query_time:
        later = dataclasses.replace(batch, query_time=batch.query_time + 10**6)
        assert torch.equal(model.score(model.query(later)), scores)


@pytest.mark.parametrize("cls", MODELS)
def test_configuration_round_trip(cls: type[NextItemModule]) -> None:
    for model in (cls(), small(cls)):
        config = to_config(model)
        again = from_config(config)
        assert type(again) is cls and to_config(again) == config


@each_variant
def test_shapes(name: str) -> None:
    cls, settings = VARIANTS[name]
    model, batch = built(cls, **settings), random_batch([3, 9, 1, 6])
    with torch.no_grad():
        hidden, query = model.encode(batch), model.query(batch)
        scores = model.score(query)
    assert hidden.shape == (4, 9, 16)
    assert query.shape == (4, 16)
    assert scores.shape == (4, 41) and torch.isfinite(scores).all()
    torch.testing.assert_close(query, asked(model, batch).detach(), rtol=1e-5, atol=1e-6)
    shared, own = torch.tensor([1, 7, 40]), torch.tensor([[1, 7], [2, 3], [40, 4], [5, 5]])
    assert torch.allclose(model.scorer.scores(query, shared), scores[:, shared], atol=1e-6)
    assert torch.allclose(model.scorer.scores(query, own), scores.gather(1, own), atol=1e-6)


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("field", ["item_ids", "event_type", "timestamps"])
def test_no_look_ahead(name: str, field: str) -> None:
    cls, settings = VARIANTS[name]
    model, batch = built(cls, **settings), random_batch([9, 9, 7])
    early = int(field == "timestamps" and model.uses_query_time)  # a state then reads the time of the event after it
    with torch.no_grad():
        before = model.encode(batch)
        for t in range(early, 9):
            values = (batch.event[field] if field in batch.event else getattr(batch, field)).clone()
            values[:, t] = values[:, t] % 3 + 1 if field != "timestamps" else values[:, t] + 50
            values *= batch.valid_mask
            change = {"event": {field: values}} if field in batch.event else {field: values}
            after = model.encode(dataclasses.replace(batch, **change))
            torch.testing.assert_close(after[:, : t - early], before[:, : t - early], rtol=0, atol=0)
            if field == "item_ids":
                assert not torch.allclose(after[0, t], before[0, t]), "the input at t must matter at t"


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in CAUSAL])
def test_what_looks_ahead_says_so_and_trains_where_it_may(name: str, small_folder: Path, tmp_path: Path) -> None:
    cls, settings = VARIANTS[name]
    model, batch = built(cls, **settings), random_batch([9, 9])
    items, times = batch.item_ids.clone(), batch.timestamps.clone()
    items[:, -1], times[:, -1] = items[:, -1] % 3 + 1, times[:, -1] + 50
    later = dataclasses.replace(batch, item_ids=items, timestamps=times, query_time=times[:, -1] + 1_000)
    with torch.no_grad():
        assert not torch.allclose(model.encode(later)[:, :-1], model.encode(batch)[:, :-1])
    if cls.__name__ == "BERT4Rec":  # what it is to predict is masked
        assert not model.last_positions_only
        return
    data = SequenceDataModule(str(small_folder), max_length=8)
    with pytest.raises(RecsysLabError, match=f"{cls.__name__} reads later events.*training_mode: last_position"):
        quiet_trainer(tmp_path).fit(small(cls, **settings), data)


@each_variant
def test_padding_changes_nothing(name: str) -> None:
    cls, settings = VARIANTS[name]
    model, batch = built(cls, **settings), random_batch([2, 9, 1, 5])
    with torch.no_grad():
        together = model.encode(batch)
        for row, length in enumerate(batch.lengths.tolist()):
            alone = model.encode(row_alone(batch, row))
            assert alone.shape == (1, length, 16)
            torch.testing.assert_close(alone[0], together[row, :length], rtol=1e-5, atol=1e-6)


@each_variant
def test_query_time_is_read_only_by_models_that_say_so(name: str) -> None:
    cls, settings = VARIANTS[name]
    model, batch = built(cls, **settings), random_batch([4, 8, 6])
    later = dataclasses.replace(batch, query_time=batch.query_time + 12_345)
    with torch.no_grad():
        same = torch.equal(model.query(batch), model.query(later))
        without = dataclasses.replace(batch, query_time=None)
        assert model.uses_query_time or torch.equal(model.query(batch), model.query(without))
    assert same is not model.uses_query_time


@each_variant
def test_data_without_times_and_types(name: str) -> None:
    """Positions then stand in for time, and there is no event type table."""
    cls, settings = VARIANTS[name]
    batch = random_batch([5, 3])
    positions = torch.arange(5).expand(2, 5) * batch.valid_mask
    bare = dataclasses.replace(batch, timestamps=positions, event={}, query_time=batch.lengths)
    spec = dataclasses.replace(
        built(cls).spec,
        fields=(),
        has_timestamps=False,
        mean_gap_seconds=1.0,  # type: ignore[type-var]
    )
    model = built(cls, spec, **settings)
    assert not len(model.embedding.fields)
    assert torch.isfinite(model.encode(bare)).all()


def test_a_model_without_data_says_what_it_needs(tmp_path: Path) -> None:
    loader = torch.utils.data.DataLoader([0])  # type: ignore[arg-type]
    with pytest.raises(RecsysLabError, match="SequenceDataModule"):
        quiet_trainer(tmp_path).fit(small(ENCODERS[0]), loader)


@pytest.mark.parametrize("cls", ENCODERS)
def test_mixed_precision_is_a_flag(cls: type[NextItemModule], small_folder: Path, tmp_path: Path) -> None:
    model, data = small(cls), trained_as(cls, small_folder)
    trainer = quiet_trainer(tmp_path, precision="bf16-mixed")
    trainer.fit(model, data)
    assert 0 < float(trainer.callback_metrics["train/loss_epoch"]) < 10
    assert 0 < float(trainer.callback_metrics["val/auc"]) < 1
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@each_variant
def test_one_event_at_a_time_is_the_whole_window(name: str) -> None:
    """Models that can go on from a state: after each event the query is that of the window so far."""
    cls, settings = VARIANTS[name]
    model, batch = built(cls, **settings), random_batch([7, 7, 7])
    with torch.no_grad():
        state = model.start(3)
        if state is None:
            assert cls.__name__ not in GO_ON or name in CAN_NOT
            if cls.__name__ in GO_ON or issubclass(cls, SASRec):
                return
            with pytest.raises(NotImplementedError, match=f"{cls.__name__} can't go on from a state"):
                model.step(State(None), batch)
            return
        for t in range(7):
            state = model.step(state, part_of(batch, slice(t, t + 1)))
            so_far = part_of(batch, slice(0, t + 1))
            torch.testing.assert_close(state.query, model.encode_last(so_far), rtol=1e-5, atol=1e-6)


def part_of(batch: Batch, columns: slice) -> Batch:
    """Some columns of a batch without padding."""
    cut = {name: getattr(batch, name)[:, columns] for name in ("item_ids", "valid_mask", "timestamps")}
    event = {name: values[:, columns] for name, values in batch.event.items()}
    return dataclasses.replace(batch, **cut, event=event, lengths=torch.full((len(batch),), cut["item_ids"].shape[1]))


def test_the_shortcuts_of_a_base_class_are_those_of_its_own_encode() -> None:
    class Doubled(GRU4Rec):
        def encode(self, batch: Batch) -> torch.Tensor:
            return 2 * super().encode(batch)

    class Halved(SASRec):
        def encode(self, batch: Batch) -> torch.Tensor:
            return super().encode(batch) / 2

        def encode_last(self, batch: Batch) -> torch.Tensor:
            return super().encode_last(batch) / 2

    batch = random_batch([3, 9, 1, 6])
    for cls in (Doubled, Halved):
        model = built(cls)
        with torch.no_grad():
            expected = last_position(model.encode(batch), batch.lengths)
            torch.testing.assert_close(model.query(batch), expected, rtol=1e-5, atol=1e-6)
        assert model.start(4) is None


def test_weights_under_the_names_of_before(tmp_path: Path) -> None:
    model, other = built(SASRec), built(SASRec, seed=1)
    before = {f"encoder.{n}" if not n.startswith("scorer") else n: v for n, v in model.state_dict().items()}
    other.load_state_dict(before)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
