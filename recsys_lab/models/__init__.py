"""The LightningModule that every model shares, encoders (one a file), tasks, and baselines that only count.

Those below are named for editors and type checkers; any other class of a file in here is found by its name as well.
"""

from __future__ import annotations

from typing import Any

from recsys_lab.config import class_in
from recsys_lab.models.baselines import Popularity
from recsys_lab.models.encoders.gru4rec import GRU4Rec
from recsys_lab.models.encoders.lstm_attention import LSTMAttention
from recsys_lab.models.encoders.sasrec import SASRec
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.optimization import Optimization
from recsys_lab.models.training_steps import NonFiniteLossError

__all__ = ["GRU4Rec", "LSTMAttention", "NextItemModule", "NonFiniteLossError", "Optimization", "Popularity", "SASRec"]


def __getattr__(name: str) -> Any:
    return class_in(__name__, name)
