"""The LightningModule that every model shares, encoders (one a file), and baselines that only count."""

from recsys_lab.models.baselines import Popularity
from recsys_lab.models.encoders.gru4rec import GRU4Rec
from recsys_lab.models.encoders.lstm_attention import LSTMAttention
from recsys_lab.models.encoders.sasrec import SASRec
from recsys_lab.models.finite_loss import NonFiniteLossError
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.optimization import Optimization

__all__ = ["GRU4Rec", "LSTMAttention", "NextItemModule", "NonFiniteLossError", "Optimization", "Popularity", "SASRec"]
