"""Calibration: next-item probabilities against what came, in the scoring pass of the ranks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recsys_lab.arguments import Count, Positive
from recsys_lab.evaluation.calibration_metrics import (
    AUC_BINS,
    ReliabilityBins,
    auc_histograms,
    equal_mass_bins,
    equal_width_bins,
    grouped_auc,
    next_item_probabilities,
    pooled_auc,
)
from recsys_lab.evaluation.measure import EvaluationSetting, Measure, ScoredRows
from recsys_lab.ops.processes import gather_rows, sum_over_processes


class Calibration(Measure):
    """nll (log-loss of the next item, natural log), brier, ece, ece_equal_mass, confidence, top_accuracy, auc_pooled
    and gauc of the softmax of scores / temperature over the candidates; docs/metrics.md defines each.

    Targets that are no candidates (cold, or seen and hidden) have no probability and are left out of all of them;
    `probability_share` is the share of targets that had one.

    Args:
        temperature: what the scores are divided by; see `fit_temperature`.
        num_bins: of the calibration error.
    """

    def __init__(self, temperature: Positive = 1.0, num_bins: Count = 15) -> None:
        self.temperature, self.num_bins = temperature, num_bins
        self.bins: dict[str, ReliabilityBins] = {}
        """Of the last evaluation: `equal_width` and `equal_mass`."""
        self.auc_error = 0.0
        """How far `auc_pooled` of the last evaluation can be from the exact value."""

    def start(self, setting: EvaluationSetting) -> None:
        device, self._offsets = setting.is_candidate.device, np.asarray(setting.datamodule.events.offsets)
        self._rows: list[Tensor] = [torch.zeros(0, 7, dtype=torch.float64)]
        self._targets = torch.zeros(1, dtype=torch.int64, device=device)
        self._histograms = torch.zeros(2, AUC_BINS, dtype=torch.int64, device=device)

    def add(self, rows: ScoredRows) -> None:
        self._targets += len(rows.target_ids)
        rows = rows.reachable()
        if not len(rows.target_ids):
            return
        p = next_item_probabilities(rows.candidate_scores, rows.target_ids, self.temperature)
        self._histograms += auc_histograms(p.log_p, rows.target_ids)
        position, num_candidates = rows.target_event.cpu().double(), rows.ranks.num_candidates.cpu().double()
        rank = torch.from_numpy(rows.ranks.rank)
        columns = [position, p.nll, p.brier, p.confidence, p.correct, rank, num_candidates]
        self._rows.append(torch.stack(columns, dim=1))

    def finish(self) -> dict[str, float]:
        table = gather_rows(torch.cat(self._rows)).numpy()
        histograms = sum_over_processes(self._histograms).numpy()
        targets = int(sum_over_processes(self._targets))
        self._rows = []
        if not len(table):
            return {"probability_share": 0.0} if targets else {}
        # in one order, so that sums and bins are the same on any number of processes
        position, nll, brier, confidence, correct, rank, num_candidates = table[np.argsort(table[:, 0])].T
        user = np.searchsorted(self._offsets, position, side="right")
        self.bins = {
            "equal_width": equal_width_bins(confidence, correct, self.num_bins),
            "equal_mass": equal_mass_bins(confidence, correct, self.num_bins),
        }
        auc, self.auc_error = pooled_auc(histograms)
        return {
            "nll": float(nll.mean()),
            "brier": float(brier.mean()),
            "ece": self.bins["equal_width"].error,
            "ece_equal_mass": self.bins["equal_mass"].error,
            "confidence": float(confidence.mean()),
            "top_accuracy": float(correct.mean()),
            "auc_pooled": auc,
            "gauc": grouped_auc(user, rank, num_candidates),
            "probability_share": len(table) / targets,
        }
