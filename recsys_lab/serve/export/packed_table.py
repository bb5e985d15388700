"""The table of items in fewer bytes: half precision, or 8 bits for a number and a scale for each row; and what that
costs in quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from recsys_lab.evaluation.row_blocks import scored_rows
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.serve.predictor import Predictor
from recsys_lab.statistics.resampling import bootstrap_interval, bootstrap_means, user_sums
from recsys_lab.words import RecsysLabError

Tables = Literal["float", "half", "int8"]
METRIC, CUTOFF, RESAMPLES = "ndcg", 10, 5_000
LARGEST = 127  # of 8 bits with a sign, the same on both sides of zero


class PackedItems(ItemTable):
    """An `ItemTable` without parts whose vectors are made of fewer bytes when they are asked for. `pack` makes one.

    packed: (V, D) float16 or int8. scales: (V, 1) float32 of int8: a number is packed x scale of its row.
    """

    packed: Tensor
    scales: Tensor | None

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return _unpacked(self.packed, self.scales)

    def forward(self, item_ids: Tensor) -> Tensor:
        return _unpacked(self.packed[item_ids], None if self.scales is None else self.scales[item_ids])


def pack(predictor: Predictor, tables: Tables) -> dict[str, int]:
    """Packs the table of the predictor's model, in place; -> `bytes` of it, and `bytes_before`.

    Raises:
        RecsysLabError: where there is no table of plain vectors that input and scores share.
    """
    found = [module for module in predictor.model.modules() if isinstance(module, ItemTable)]
    if not found or not all(items.is_plain for items in found):
        raise RecsysLabError(
            f"--tables {tables}: the vectors of the items of {type(predictor.model).__name__} are made of their fields "
            "or of vectors of your own, and are no plain table: take --tables float"
        )
    before = after = 0
    for items in found:
        weight = items.weight.detach()
        scales = None
        packed = weight.half()
        if tables == "int8":
            scales = weight.abs().amax(dim=1, keepdim=True) / LARGEST
            scales = torch.where(scales > 0, scales, torch.ones_like(scales))
            packed = (weight / scales).round().to(torch.int8)
        before += weight.nbytes
        after += packed.nbytes + (0 if scales is None else scales.nbytes)
        del items.weight
        items.__class__ = PackedItems
        items.register_buffer("packed", packed)
        items.register_buffer("scales", scales)
    return {"bytes": after, "bytes_before": before}


def _unpacked(packed: Tensor, scales: Tensor | None) -> Tensor:
    rows = packed.float()
    return rows if scales is None else rows * scales


@dataclass(frozen=True)
class TestValues:
    """values: (N,) ndcg@10 of the test targets, in the order of their events. users: (N,)."""

    values: np.ndarray
    users: np.ndarray


@torch.inference_mode()
def test_values(predictor: Predictor, data: Any) -> TestValues:
    """Of the model as it is. data: the `SequenceDataModule` of its run."""
    places, values = [], []
    for batch in data.test_dataloader():
        if batch.target_event is None:  # of another task
            continue
        query = predictor.query(batch)
        rows = scored_rows(predictor.model, query, batch, predictor.is_trained, predictor.max_score_bytes, "expected")
        for part in rows:
            outranked = (part.ranks.num_greater.numpy(), part.ranks.num_ties.numpy())
            values.append(RANKING_METRICS[METRIC](*outranked, CUTOFF))
            places.append(part.target_event.numpy())
    place = np.concatenate(places)
    order = np.argsort(place, kind="stable")
    users = np.searchsorted(np.asarray(data.processed.offsets), place[order], side="right") - 1
    return TestValues(np.concatenate(values)[order], users)


def quality_lost(before: TestValues, after: TestValues) -> dict[str, Any]:
    """The difference of the means, after less before, with a 95 % interval that is paired over the users."""
    difference = (after.values - before.values)[:, None]
    sums, counts = user_sums(difference, before.users)
    ((low, high),) = bootstrap_interval(bootstrap_means(sums, counts, RESAMPLES), sums, counts)
    return {
        "metric": f"test {METRIC}@{CUTOFF}",
        "before": float(before.values.mean()),
        "after": float(after.values.mean()),
        "difference": float(difference.mean()),
        "interval": [float(low), float(high)],
        "users": len(counts),
    }
