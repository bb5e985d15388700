"""What `shard_items` can't be combined with is refused in one line; on one process the table is whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy, Strategy
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation import divided_items
from recsys_lab.models import SASRec
from recsys_lab.models.blocks.deep_scorer import DeepScorer
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.sharding import check_built, check_trainer
from recsys_lab.models.tasks import SequenceLabels
from recsys_lab.words import RecsysLabError


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"item_vectors": "file.npy"}, "--model.item_vectors"),
        ({"scorer": DeepScorer()}, "leave out --model.scorer"),
        ({"compile_model": True}, "--model.compile_model false"),
        ({"task": SequenceLabels("event_type")}, "SequenceLabels asks for labels"),
    ],
    ids=["vectors", "scorer", "compiled", "task"],
)
def test_settings_that_need_the_whole_table(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RecsysLabError, match=told):
        SASRec(shard_items=True, **settings)


@pytest.mark.parametrize(
    ("strategy", "settings", "told"),
    [
        (FSDPStrategy(), {}, "FSDPStrategy does so in another way"),
        (DDPStrategy(start_method="spawn"), {}, "--trainer.strategy ddp"),
        (DDPStrategy(), {"precision": "16-mixed"}, "bf16-mixed"),
        (DDPStrategy(), {"callbacks": [EMAWeightAveraging()]}, "EMAWeightAveraging copies the whole model"),
    ],
    ids=["fully sharded", "spawned", "half precision", "averages"],
)
def test_trainers_that_can_not_divide_it(strategy: Strategy, settings: dict[str, Any], told: str) -> None:
    trainer = SimpleNamespace(**({"strategy": strategy, "precision": "32-true", "callbacks": []} | settings))
    with pytest.raises(RecsysLabError, match=told):
        check_trainer(SASRec(shard_items=True), trainer)
    for good in (DDPStrategy(), ModelParallelStrategy()):
        check_trainer(SASRec(shard_items=True), SimpleNamespace(strategy=good, precision="32-true", callbacks=[]))


def test_one_process_has_the_whole_table_and_the_same_numbers(small_folder: Path, tmp_path: Path) -> None:
    weights = []
    for shard_items in (False, True):
        torch.manual_seed(0)
        model = SASRec(embedding_dim=8, shard_items=shard_items)
        data = SequenceDataModule(str(small_folder), max_length=5, seed=0, num_workers=0)
        quiet_trainer(tmp_path, gradient_clip_val=0.1).fit(model, data)
        assert type(model.embedding.items) is ItemTable
        weights.append(model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(RecsysLabError, match="it has 0, and TiedScorer"):
        check_built(model)


def test_a_row_comes_with_its_seen_items_once_for_each_target() -> None:
    ids, offsets = torch.tensor([1, 2, 3, 4, 5, 6]), torch.tensor([0, 2, 2, 5, 6])
    found, ends = divided_items.repeated(ids, offsets, torch.tensor([0, 2, 2, 1, 3]))
    assert found.tolist() == [1, 2, 3, 4, 5, 3, 4, 5, 6] and ends.tolist() == [0, 2, 5, 8, 8, 9]
