"""Some devices (Apple GPUs) have no float64: nothing of ranking a batch and of drawing
negatives, which happen on the model's device, may make it. A CPU stands in for the device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_data import made_events, prepared
from torch.overrides import TorchFunctionMode

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.popularity_ranks import PopularityRanks
from recsys_lab.losses.negatives import InBatchNegatives, PopularityNegatives, UniformNegatives
from recsys_lab.models import GRU4Rec


class NoFloat64(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise AssertionError(f"{getattr(func, '__name__', func)} made a float64 tensor")
        return result


def test_the_guard_sees_it() -> None:
    with pytest.raises(AssertionError, match="double made a float64"), NoFloat64():
        torch.ones(2).double()


@pytest.mark.parametrize("by_product", [True, False])
def test_ranking_a_batch(by_product: bool, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "many", made_events(num_users=60, num_items=50, shortest=4)).path
    data = SequenceDataModule(str(folder), max_length=8, eval_batch_size=60)
    model = GRU4Rec(embedding_dim=8)
    model.build(data.spec)
    model.eval()
    evaluation, (batch,) = RankingEvaluation(), data.test_dataloader()
    evaluation._is_candidate = data.item_counts > 0
    if not by_product:
        model.scorer.linear_blocks = lambda: None  # type: ignore[method-assign,assignment,return-value]
    popular = PopularityRanks(data.item_counts)
    assert batch.seen_ids is not None and batch.seen_offsets is not None
    with torch.no_grad(), NoFloat64():
        rows = evaluation.rank_batch(model, model.query(batch), batch)
        popular(batch.target_ids, batch.seen_ids, batch.seen_offsets)
    assert rows.dtype == torch.int64 and len(rows) == 60


@pytest.mark.parametrize("sampler", [UniformNegatives(7), PopularityNegatives(7), InBatchNegatives(3)])
def test_drawing_negatives(sampler: Any) -> None:
    sampler.prepare(torch.tensor([0, 3, 1, 0, 9]))
    with NoFloat64():
        sample = sampler.sample(torch.tensor([1, 2, 4, 4]), torch.Generator().manual_seed(0))
    assert sample.log_q.dtype == torch.float32
