"""LSTM: a recurrent network with memory cells, without attention and without time.

Paper: Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", with the forget gate of Gers et al. 2000.

What differs from the papers: as in `encoders/rnn.py`. `LSTMAttention` has time, attention and a head of its own.
"""

from __future__ import annotations

from torch import Tensor, nn

from recsys_lab.contracts import Batch
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.encoders.rnn import RNN


class LSTM(RNN):
    """A recurrent network of LSTM cells under any loss; the arguments are those of `RNN`."""

    network = nn.LSTM

    def event_weights(self, batch: Batch) -> EventWeights:
        return EventWeights.of_gates(self.rnn, self.drop(self.embedding(batch)), batch.lengths)

    def _zeros(self, rows: int) -> tuple[Tensor, Tensor]:
        """The states and the memory cells."""
        return super()._zeros(rows), super()._zeros(rows)
