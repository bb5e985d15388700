"""BeyondAccuracy: what the recommended lists are like, in the scoring pass of the ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys_lab.arguments import NotNegative
from recsys_lab.evaluation import list_metrics as metrics
from recsys_lab.evaluation.list_facts import item_features
from recsys_lab.evaluation.measure import EvaluationSetting, Measure, ScoredRows
from recsys_lab.evaluation.popularity_ranks import PopularityRanks
from recsys_lab.evaluation.target_facts import target_facts
from recsys_lab.ops.processes import gather_rows, sum_over_processes
from recsys_lab.ops.rank_metrics import hit_rate

LISTS_AT_ONCE = 1 << 14
"""Lists whose diversity is computed at once: bounds the memory of their summed features."""


class BeyondAccuracy(Measure):
    """At each cutoff, of the lists: coverage, gini, entropy, average_popularity, average_popularity_share, novelty,
    repeat_share and (where the item table has features) diversity; of the targets: debiased_hit_rate, serendipity,
    repeat_hit_rate, explore_hit_rate, and repeat_target_share without a cutoff. docs/metrics.md defines each.

    Args:
        features: columns of the item table that diversity compares; None = those that hold names several items share.
        propensity_exponent: of debiased_hit_rate; 0 = the plain hit rate, 1 = a target counts 1 / its training events.
    """

    needs_scores = False

    def __init__(self, features: list[str] | None = None, propensity_exponent: NotNegative = 1.0) -> None:
        self.features, self.propensity_exponent = features, propensity_exponent
        self.last_popular: tuple[np.ndarray, np.ndarray] | None = None
        """`num_greater` and `num_ties` that popularity would give the targets of the last evaluation."""

    def start(self, setting: EvaluationSetting) -> None:
        self._setting = setting
        self._features = item_features(setting.datamodule.processed.item_table, self.features)
        counts = setting.datamodule.item_counts.to(setting.is_candidate.device)
        self._popularity = PopularityRanks(counts, setting.ties)
        self.last_popular = None
        self._lists: list[Tensor] = []
        self._rows: list[Tensor] = []

    def add(self, rows: ScoredRows) -> None:
        k = max(self._setting.cutoffs)
        items = rows.top(k)
        popular = self._popularity(rows.target_ids, rows.seen_ids, rows.seen_offsets)
        self._lists.append(items.int())
        columns = (rows.target_event, rows.ranks.num_greater, rows.ranks.num_ties, *popular)
        self._rows.append(torch.stack(columns, dim=1))

    def finish(self) -> dict[str, float]:
        lists = torch.cat(self._lists).cpu().numpy() if self._lists else np.zeros((0, 1), dtype=np.int32)
        rows = torch.cat(self._rows) if self._rows else torch.zeros(0, 5, dtype=torch.int64)
        self._lists, self._rows = [], []
        table = gather_rows(rows).numpy()
        found = self._of_lists(lists, rows[:, 0].cpu().numpy())
        return {**found, **self._of_targets(table[np.argsort(table[:, 0])])} if len(table) else {}

    # -- sums over the lists of this process, added up -----------------------------------------------------------------

    def _of_lists(self, lists: np.ndarray, position: np.ndarray) -> dict[str, float]:
        """(n, K) lists of this process, (n,) positions of their targets' events."""
        setting, found = self._setting, dict[str, float]()
        counts, is_candidate = setting.datamodule.item_counts.numpy(), setting.is_candidate.cpu().numpy()
        repeated = self._had_before(lists, position)
        for k in setting.cutoffs:
            exposed = self._sum(metrics.exposure(lists[:, :k], len(counts)))
            diversity_sum, diverse_lists = self._sum(self._diversity(lists[:, :k]))
            repeats = self._sum(np.array(repeated[:, :k].sum()))
            popularity = metrics.average_popularity(exposed, counts)
            found |= {
                f"coverage@{k}": metrics.coverage(exposed, is_candidate),
                f"gini@{k}": metrics.gini(exposed, is_candidate),
                f"entropy@{k}": metrics.entropy(exposed),
                f"average_popularity@{k}": popularity,
                f"average_popularity_share@{k}": popularity / max(int(counts.sum()), 1),
                f"novelty@{k}": metrics.novelty(exposed, counts),
                f"repeat_share@{k}": float(repeats / max(exposed.sum(), 1)),
            }
            if diverse_lists:
                found[f"diversity@{k}"] = float(diversity_sum / diverse_lists)
        return found

    def _diversity(self, lists: np.ndarray) -> np.ndarray:
        """Sum over the lists that have one, and their number."""
        total = np.zeros(2)
        if self._features is not None and lists.shape[1] > 1:
            for start in range(0, len(lists), LISTS_AT_ONCE):
                each = metrics.intra_list_diversity(lists[start : start + LISTS_AT_ONCE], self._features)
                total += (np.nansum(each), np.isfinite(each).sum())
        return total

    def _had_before(self, lists: np.ndarray, position: np.ndarray) -> np.ndarray:
        data = self._setting.datamodule
        if not len(lists) or data.exclude_seen == "history":  # then none is recommended
            return np.zeros(lists.shape, dtype=bool)
        user = np.searchsorted(data.events.offsets, position, side="right") - 1
        found: np.ndarray = data.events.had_before(user, position, lists)
        return found

    def _sum(self, values: np.ndarray) -> Any:
        return sum_over_processes(torch.from_numpy(values)).numpy()

    # -- of the targets of all processes -------------------------------------------------------------------------------

    def _of_targets(self, table: np.ndarray) -> dict[str, float]:
        """table: (N, 5) position, and `num_greater` and `num_ties` of the model and of popularity, by position."""
        position, greater, ties, popular_greater, popular_ties = table.T
        self.last_popular = (popular_greater, popular_ties)
        facts = target_facts(self._setting.datamodule, position)
        target_counts, is_repeat = facts["target_count"].to_numpy(), facts["is_repeat"].to_numpy()
        found = {"repeat_target_share": float(is_repeat.mean())}
        for k in self._setting.cutoffs:
            hit, popular_hit = hit_rate(greater, ties, k), hit_rate(popular_greater, popular_ties, k)
            found |= {
                f"debiased_hit_rate@{k}": metrics.debiased_hit_rate(hit, target_counts, self.propensity_exponent),
                f"serendipity@{k}": metrics.serendipity(hit, popular_hit),
            }
            for name, part in (("repeat", is_repeat), ("explore", ~is_repeat)):
                if part.any():
                    found[f"{name}_hit_rate@{k}"] = float(hit[part].mean())
        return found
