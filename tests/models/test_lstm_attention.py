"""LSTMAttention's own promises: what `explain` gives, and which settings refuse which training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from found_models import SPEC, built, random_batch, small, trained_as
from small_data import quiet_trainer

import recsys_lab.models.blocks.state_attention as module
from recsys_lab.models import LSTMAttention
from recsys_lab.words import RecsysLabError

SETTINGS: list[dict[str, Any]] = [
    *({"attention": "self", "similarity": s} for s in ("dot", "scaled_dot", "additive", "bilinear")),
    {"attention": "self", "time": "relative", "reference": "query"},
    {"attention": "narm"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_explain_gives_the_weights_that_the_prediction_uses(settings: dict[str, Any]) -> None:
    model, batch = built(LSTMAttention, **settings), random_batch([5, 9, 1])
    with torch.no_grad():
        weights = model.attention.weights_at_last(model.states(batch), batch.lengths)
        shares = model.event_weights(batch).values
    torch.testing.assert_close(shares, weights.abs() / weights.abs().sum(1, keepdim=True))
    assert weights.shape == (3, 9)
    assert not weights[~batch.valid_mask].any()
    if settings["attention"] == "self":
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(3))
    with torch.no_grad():
        states = model.states(batch)
        context = (weights.unsqueeze(1) @ states).squeeze(1)  # c_t of the last state
        used = model.attention(states)[torch.arange(3), batch.lengths - 1]
    torch.testing.assert_close(context, used, rtol=1e-4, atol=1e-6)


def test_without_attention_the_gates_of_the_lstm_speak() -> None:
    found = built(LSTMAttention, attention="none").event_weights(random_batch([3]))
    assert found.what == "what the gates of the LSTM let in and keep" and found.values.shape == (1, 3)


@pytest.mark.parametrize("settings", [{"similarity": "additive"}, {"attention": "narm"}], ids=str)
def test_additive_attention_in_blocks_of_queries(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = built(LSTMAttention, **settings), random_batch([9, 7])
    with torch.no_grad():
        whole = model.encode(batch)
        monkeypatch.setattr(module, "ADDITIVE_BLOCK", 1000)
        torch.testing.assert_close(model.encode(batch), whole)


def test_relative_time_refuses_to_train_on_all_positions(small_folder: Path, tmp_path: Path) -> None:
    model, data = small(LSTMAttention, time="relative"), trained_as(LSTMAttention, small_folder)
    assert not model.causal and data.training_mode == "all_positions"
    with pytest.raises(RecsysLabError, match="last_position"):
        quiet_trainer(tmp_path).fit(model, data)


@pytest.mark.parametrize("reference", ["last", "query"])
def test_relative_time_trains_on_last_positions(reference: str, small_folder: Path, tmp_path: Path) -> None:
    data = trained_as(LSTMAttention, small_folder)
    data.training_mode = "last_position"
    trainer = quiet_trainer(tmp_path)
    trainer.fit(small(LSTMAttention, time="relative", reference=reference), data)
    assert 0 < float(trainer.callback_metrics["train/loss_epoch"]) < 10


def test_query_time_is_known_in_training(small_folder: Path) -> None:
    """A model that reads the time of the prediction must see it in training as it will in evaluation."""
    data = trained_as(LSTMAttention, small_folder)
    data.training_mode = "last_position"
    for batch in data.train_dataloader():
        assert batch.query_time is not None
        expected = data.events.timestamps[data.train_windows.stop]
        assert set(batch.query_time.tolist()) <= set(expected.tolist())
        assert (batch.query_time >= batch.timestamps.max(1).values).all()


def test_time_window_is_in_units_of_the_gaps() -> None:
    batch = random_batch([6, 4])
    slower = dataclasses.replace(batch, timestamps=batch.timestamps * 10, query_time=None)
    with torch.no_grad():
        one = built(LSTMAttention, time_window=5.0).encode(batch)
        ten = built(LSTMAttention, time_window=50.0).encode(slower)
        default = built(LSTMAttention).encode(batch)
        mean_gap = built(LSTMAttention, time_window=SPEC.mean_gap_seconds).encode(batch)
    torch.testing.assert_close(one, ten)
    assert torch.equal(default, mean_gap)


@pytest.mark.parametrize(
    "settings", [{"attention": "both"}, {"similarity": "cosine"}, {"time": "hour"}, {"reference": "now"}], ids=str
)
def test_unknown_settings_are_named(settings: dict[str, str]) -> None:
    (value,) = settings.values()
    with pytest.raises(RecsysLabError, match=f"must be one of .*not {value!r}"):
        built(LSTMAttention, **settings)
