"""RankedTargets: every target of one evaluation with its rank, and what comes of that: metrics, ranks.parquet and
values.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.evaluation.target_facts import event_types, queries, target_facts
from recsys_lab.evaluation.unit_values import unit_values
from recsys_lab.ops.query_metrics import unit_metrics
from recsys_lab.ops.rank_metrics import RankMetric, mean_place, means

COLUMNS = ("position", "num_greater", "num_ties", "num_candidates", "is_cold", "is_hidden")
"""What is kept of each target, as int64. `position`: where its event stands in the data, which says whose it is, of
which item and when."""


@dataclass(frozen=True)
class RankedTargets:
    """Of all processes, each target once, by user and time."""

    ranks: np.ndarray  # (N, 6) int64, in the order of `COLUMNS`
    query: np.ndarray | None  # (N,) the position where each target's history ends; None: at the target itself
    cutoffs: tuple[int, ...]
    drop_cold: bool  # metrics leave targets without training events out
    own: tuple[RankMetric, ...] = ()  # of other packages, beside those that are always there

    @classmethod
    def of(
        cls,
        rows: np.ndarray,
        datamodule: Any,
        stage: str,
        cutoffs: tuple[int, ...],
        drop_cold: bool,
        own: tuple[RankMetric, ...] = (),
    ) -> RankedTargets:
        """rows: (N, 6) in any order. stage: val or test."""
        ranks = rows[np.argsort(rows[:, 0], kind="stable")]
        return cls(ranks, queries(datamodule, stage, ranks[:, 0]), cutoffs, drop_cold, own)

    @cached_property
    def of_units(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(N,) position of each target that counts, or (Q,) of each query, and the metrics of each."""
        table, query = self.ranks, self.query
        if self.drop_cold:
            counts = table[:, 4] == 0
            table, query = table[counts], None if query is None else query[counts]
        position, greater, ties, num_candidates, _, _ = table.T
        values = unit_metrics(greater, ties, num_candidates, query, self.cutoffs, self.own)
        return position if query is None else np.unique(query), values

    def metrics(self, datamodule: Any, every_item: bool = False) -> dict[str, float]:
        """The mean of each metric, of all targets and of those that stand for themselves, and the shares of targets
        that are cold and that are hidden. every_item: items without a training event are candidates."""
        found = means(self.of_units[1]) | self._of_groups(datamodule, every_item)
        if len(self.ranks):
            found["cold_target_share"] = float((self.ranks[:, 4] > 0).mean())
            found["hidden_target_share"] = float((self.ranks[:, 5] > 0).mean())
        return found

    def _of_groups(self, datamodule: Any, every_item: bool) -> dict[str, float]:
        """The metrics of some targets alone: of those without a training event, where all items are candidates; of each
        type, where several are named as targets. Queries with several targets have none."""
        position, greater, ties, num_candidates, _, _ = self.ranks.T
        groups: dict[str, np.ndarray] = {}
        if every_item:
            counts = datamodule.item_counts.numpy()[np.asarray(datamodule.events.item_ids)[position]]
            groups["cold"] = counts == 0
        if len(datamodule.target_types or ()) > 1:
            types = event_types(datamodule, position)
            groups |= {name: (types == name).to_numpy() for name in datamodule.target_types}
        found: dict[str, float] = {}
        for name, is_in in groups.items():
            found[f"target_share_{name}"] = float(is_in.mean()) if len(is_in) else 0.0
            if is_in.any() and self.query is None:
                of_group = (greater[is_in], ties[is_in], num_candidates[is_in])
                values = means(unit_metrics(*of_group, None, self.cutoffs, self.own))
                found |= {f"{metric}_{name}": value for metric, value in values.items()}
        return found

    def values_frame(self, datamodule: Any, metrics: dict[str, float]) -> pl.DataFrame:
        """One table of values: what `values.parquet` holds (see `unit_values`). metrics: all, those of measures too."""
        unit, of_units = self.of_units
        user = np.searchsorted(datamodule.events.offsets, unit, side="right") - 1
        return unit_values(user, unit, of_units, metrics)

    def ranks_frame(self, datamodule: Any) -> pl.DataFrame:
        """One row per target with the data's own ids: what `ranks.parquet` holds. Behind what was ranked come the facts
        that slices need (see `target_facts`), and where queries have several targets, `query`."""
        position, greater, ties, num_candidates, is_cold, is_hidden = self.ranks.T
        data, events, query = datamodule.processed, datamodule.events, self.query
        facts = target_facts(datamodule, position, query)
        times = events.timestamps[position if query is None else query]
        frame = pl.DataFrame(
            {
                "user_id": data.user_ids.gather(facts["user_index"]),
                "target_item_id": data.item_ids_raw.gather(events.item_ids[position] - 1),
                "query_time": times.astype(np.int64),
                "rank": mean_place(greater, ties),
                "num_greater": greater,
                "num_ties": ties,
                "num_candidates": num_candidates,
                "is_cold": is_cold > 0,
                "is_hidden": is_hidden > 0,
            }
        ).hstack(facts.drop("user_index"))
        return frame if query is None else frame.with_columns(query=np.unique(query, return_inverse=True)[1])
