"""What holds for every baseline: no look-ahead, checkpoints without data, test without fit, prediction.
tests/distributed has two processes."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from small_data import made_events, prepared, quiet_trainer

import recsys_lab.models.baselines as baselines
from recsys_lab.config import from_config, to_config
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal, LeaveOneOut
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.models import NextItemModule
from recsys_lab.models.baselines import EASE, CountingModel, RecentPopularity, RepeatLast
from recsys_lab.ops.rank_metrics import MISS
from recsys_lab.runs.baselines import MANDATORY, OF_TASK, ON_REQUEST
from recsys_lab.words import RecsysLabError


def label(config: dict[str, Any]) -> str:
    return "-".join([config["class_path"].rpartition(".")[2], *map(str, config["init_args"].values())])


EVERY = [*MANDATORY, *ON_REQUEST]
each = pytest.mark.parametrize("config", EVERY, ids=label)


def score_all(model: CountingModel, data: SequenceDataModule, loader: str = "test_dataloader") -> torch.Tensor:
    return torch.cat([model.score(model.query(batch)) for batch in getattr(data, loader)()])


def test_every_baseline_is_offered_under_its_public_name() -> None:
    offered = [*EVERY, *(config for of_task in OF_TASK.values() for config in of_task)]
    names = {config["class_path"].rpartition(".")[2] for config in offered}
    assert names == set(baselines.__all__) - {"CountingModel", "ClickBaseline"}, "those two are base classes"
    assert len({label(config) for config in EVERY}) == len(EVERY)


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The second has other events at the held-out positions, and the same item vocabulary."""
    frame = made_events(num_users=20, num_items=15, shortest=5)
    held_out = pl.int_range(pl.len()).over("user_id") >= pl.len().over("user_id") - 2
    other = frame.with_columns(pl.when(held_out).then(pl.col("item_id").reverse()).otherwise(pl.col("item_id")))
    assert not frame.equals(other)
    folder = tmp_path_factory.mktemp("two_sets")
    return [prepared(folder / name, events).path for name, events in (("one", frame), ("other", other))]


@each
def test_targets_are_never_counted(config: dict[str, Any], two_sets: list[Path], tmp_path: Path) -> None:
    """Of two sets that differ there alone: every buffer stays as it is."""
    states = []
    for folder in two_sets:
        model = from_config(config)
        data = SequenceDataModule(str(folder))
        quiet_trainer(tmp_path).fit(model, data)
        states.append((data.spec, model.state_dict(), score_all(model, data)))
    (spec, state, scores), (other_spec, other_state, other_scores) = states
    assert spec.vocabulary_hash == other_spec.vocabulary_hash and spec.data_hash != other_spec.data_hash
    assert state.keys() == other_state.keys()
    for name in state:
        assert torch.equal(state[name], other_state[name]), name
    if "history" in config["init_args"] or "EASE" in config["class_path"]:
        assert not torch.equal(scores, other_scores), "the validation event is part of the test history"


@each
@pytest.mark.parametrize("split", [LeaveOneOut(), GlobalTemporal(quantile=0.8, val_quantile=0.8, target="all")])
def test_fit_checkpoint_test_predict(config: dict[str, Any], split: Any, small_folder: Path, tmp_path: Path) -> None:
    model, data = from_config(config), SequenceDataModule(str(small_folder), split=split, max_length=3)
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    trainer.fit(model, data)
    assert trainer.current_epoch == 1 and "val/ndcg@10" in trainer.callback_metrics
    trainer.save_checkpoint(tmp_path / "model.ckpt")

    state = torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"]
    assert all(tensor.layout is torch.strided for tensor in state.values())
    loaded = NextItemModule.load_from_checkpoint(tmp_path / "model.ckpt")
    assert to_config(loaded) == to_config(model)
    for loader in ("test_dataloader", "predict_dataloader"):
        scores = score_all(model, data, loader)
        assert scores.dtype == torch.float32 and torch.isfinite(scores).all()
        assert torch.equal(scores, score_all(loaded, data, loader))

    after_fit = trainer.test(model, data, verbose=False)[0]
    assert after_fit == quiet_trainer(tmp_path).test(loaded, data, verbose=False)[0]
    assert after_fit == quiet_trainer(tmp_path).test(from_config(config), data, verbose=False)[0], "counts by itself"

    recommendations = Recommendations(tmp_path / "best.parquet", top_k=3)
    quiet_trainer(tmp_path, callbacks=[recommendations]).predict(loaded, data)
    assert len(pl.read_parquet(tmp_path / "best.parquet")) > data.processed.num_users


def test_a_baseline_loads_into_a_model_of_other_sizes(small_folder: Path, tmp_path: Path) -> None:
    """`trainer.test(ckpt_path=...)` restores into a model whose buffers are still empty, or hold another count."""
    for config in MANDATORY:
        data = SequenceDataModule(str(small_folder))
        trainer = quiet_trainer(tmp_path)
        trainer.fit(fitted := from_config(config), data)
        trainer.save_checkpoint(tmp_path / "model.ckpt")
        restored = from_config(config)
        quiet_trainer(tmp_path).test(restored, data, ckpt_path=tmp_path / "model.ckpt", verbose=False)
        for name, tensor in fitted.state_dict().items():
            assert torch.equal(tensor, restored.state_dict()[name]), f"{label(config)}: {name}"


def test_a_user_from_elsewhere_has_only_the_batch(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=50)
    for config in MANDATORY:
        model = from_config(config)
        quiet_trainer(tmp_path).fit(model, data)
        batch = next(iter(data.test_dataloader()))
        stranger = dataclasses.replace(
            batch, user_index=torch.full_like(batch.user_index, -1), seen_ids=None, seen_offsets=None
        )
        scores = model.score(model.query(stranger))
        if "SessionKNN" not in config["class_path"]:  # there the user's own events are a neighbour, as they should be
            assert torch.equal(scores, model.score(model.query(batch)))  # the window is the whole history
        assert torch.isfinite(scores).all()


def test_repeat_last_says_that_its_items_are_hidden(
    small_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hidden = {}
    for exclude_seen in ("history", "none"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="recsys_lab"):
            data = SequenceDataModule(str(small_folder), exclude_seen=exclude_seen)  # type: ignore[arg-type]
            evaluation = RankingEvaluation()
            quiet_trainer(tmp_path, callbacks=[evaluation]).test(RepeatLast(), data, verbose=False)
        hidden[exclude_seen] = "hides them" in caplog.text
        assert evaluation.last_ranks is not None
        _, greater, ties, candidates, _, _ = evaluation.last_ranks.T
        chance = (greater == MISS) | ((greater == 0) & (ties == candidates - 1))
        assert chance.all() == (exclude_seen == "history")
    assert hidden == {"history": True, "none": False}


@pytest.mark.parametrize("name", [n for n in baselines.__all__ if n != "CountingModel"])
def test_settings_out_of_range_are_named(name: str) -> None:
    cls = getattr(baselines, name)
    for parameter, about in inspect.signature(cls.__init__).parameters.items():
        if parameter in ("self", "seed", "max_items"):
            continue
        wrong: Any = "sideways" if isinstance(about.default, str) else -1
        with pytest.raises(RecsysLabError, match=parameter):
            cls(**{parameter: wrong})


def test_ease_refuses_a_catalogue_beyond_its_bound(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder))
    with pytest.raises(RecsysLabError, match=r"max_items.*min_item_events"):
        quiet_trainer(tmp_path).fit(EASE(max_items=5), data)


def test_recent_popularity_does_not_read_the_query_time() -> None:
    assert not RecentPopularity.uses_query_time
