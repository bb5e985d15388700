"""LSTMAttention: an LSTM over events and time, and attention from each state over the states before it.

    x_t  = sum of the event's field embeddings
    h_t  = LSTM(h_{t-1}, [x_t ; time features])
    a_ts = softmax over s <= t of sim(h_t, h_s)
    c_t  = sum_s a_ts h_s
    out  = feed_forward([h_t ; c_t])  -> scores over items (softmax losses), or a sigmoid per item (BCE losses)

The project's own model; its `narm` setting is that of Li et al. 2017, "Neural Attentive Session-based Recommendation".

Time. With T the window in seconds, the normalised time of event s seen from a reference time r is t'_s = (r - t_s) / T.
`time="gap"` (default) gives the LSTM the gap to the previous event, (t_s - t_{s-1}) / T: it is causal, and the sum of
the later gaps *is* t'_s, so all positions train in one pass. `time="relative"` joins t'_s itself, with r the window's
last event (or the time of the prediction, `reference="query"`): every event then reads the end of the window, so it
trains on `last_position` windows only. Both are compressed by log(1 + x). Without timestamps, positions stand in:
each gap is 1.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Positive, Size
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.blocks.state_attention import CausalStateAttention, Similarity
from recsys_lab.models.blocks.time_features import compressed, gap_before, time_until
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.module import last_position


class LSTMAttention(NextItemModule):
    """LSTMAttention under any loss.

    Args:
        embedding_dim: D, width of the item table.
        hidden_dim: width of the LSTM state; None = D.
        num_layers: stacked LSTM layers.
        dropout: on the inputs, the states and in the head.
        attention: `self` (causal self-attention over the states), `narm` (NARM's), `none`.
        similarity: of states, for `self`: dot, scaled_dot, additive, bilinear.
        time: `gap`, `relative` (needs last_position training) or `none`; see the top of this file.
        reference: for `relative`: the window's `last` event or the `query` time, which reads when the prediction is
            made.
        time_window: T in seconds; None = the mean gap of the training data.
        item_bias: learn a bias per item.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 64,
        hidden_dim: Size | None = None,
        num_layers: Depth = 1,
        dropout: DropShare = 0.2,
        attention: Literal["self", "narm", "none"] = "self",
        similarity: Similarity = "scaled_dot",
        time: Literal["gap", "relative", "none"] = "gap",
        reference: Literal["last", "query"] = "last",
        time_window: Positive | None = None,
        item_bias: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.causal = time != "relative"
        self.uses_query_time = time == "relative" and reference == "query"

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim, width = s.embedding_dim, s.hidden_dim or s.embedding_dim
        self.time, self.reference, self.seconds = s.time, s.reference, s.time_window or spec.mean_gap_seconds
        self.window = spec.max_length
        self.embedding = EventEmbedding(spec, dim, std=dim**-0.5, target_fields=self.uses_target_fields)
        self.drop = Dropout(s.dropout)
        inputs = dim + {"none": 0, "gap": 1, "relative": 2}[s.time]
        between = s.dropout if s.num_layers > 1 else 0.0
        self.lstm = nn.LSTM(inputs, width, s.num_layers, batch_first=True, dropout=between)
        narm, none = s.attention == "narm", s.attention == "none"
        self.attention = None if none else CausalStateAttention(width, s.similarity, narm)
        joined = width if none else 2 * width
        # NARM decodes [global ; local] with one bilinear map; ours has a hidden layer and a residual to the state
        self.expand = None if narm else nn.Linear(joined, 2 * dim)
        self.contract = nn.Linear(joined if narm else 2 * dim, dim)
        self.skip = None if narm else nn.Linear(width, dim, bias=False)
        self.scorer = TiedScorer(self.embedding.items, bias=s.item_bias)

    def encode(self, batch: Batch) -> Tensor:
        states = self.states(batch)  # (B, L, hidden_dim)
        return self._head(states, None if self.attention is None else self.attention(states))  # (B, L, D)

    def encode_last(self, batch: Batch) -> Tensor:
        """Attention and head compute no position but each row's last."""
        states = self.states(batch)  # (B, L, hidden_dim)
        context = None if self.attention is None else self.attention.at_last(states, batch.lengths)
        return self._head(last_position(states, batch.lengths), context)

    def start(self, rows: int) -> State | None:
        """The states of earlier events are kept, for attention, while the window is not full; without attention that of
        the LSTM alone, without end. `relative` times move with each event, and nothing goes on."""
        return None if self.time == "relative" else State(query=None, memory=(None, None, None))

    def step(self, state: State, event: Batch) -> State | None:
        recurrent, before, time = state.memory  # (h, c), (B, t, hidden_dim), (B, 1) of the event before
        if before is not None and before.shape[1] == self.window:
            return None
        x = self.drop(self.embedding(event))  # (B, 1, D)
        if self.time == "gap":
            gap = torch.zeros_like(event.timestamps) if time is None else (event.timestamps - time).clamp_min(0)
            x = torch.cat([x, compressed([gap], self.seconds, event.valid_mask).to(x.dtype)], dim=2)
        newest, recurrent = self._lstm(x, recurrent)
        if self.attention is None:
            return State(self._head(newest.squeeze(1), None), memory=(recurrent, None, event.timestamps))
        states = newest if before is None else torch.cat([before, newest], dim=1)
        context = self.attention.at_last(states, torch.full_like(event.lengths, states.shape[1]))
        return State(self._head(newest.squeeze(1), context), memory=(recurrent, states, event.timestamps))

    def _head(self, states: Tensor, context: Tensor | None) -> Tensor:
        """(..., hidden_dim) twice -> (..., D)."""
        joined = states if context is None else torch.cat([states, context], dim=-1)
        hidden = joined if self.expand is None else F.gelu(self.expand(joined))
        out: Tensor = self.contract(self.drop(hidden))
        return out if self.skip is None else out + self.skip(states)

    def states(self, batch: Batch) -> Tensor:
        """h_t: (B, L, hidden_dim)."""
        states, _ = self._lstm(self._inputs(batch))
        dropped: Tensor = self.drop(states)
        return dropped

    def _lstm(self, x: Tensor, before: Any = None) -> tuple[Tensor, Any]:
        """(B, L, inputs) -> (B, L, hidden_dim), and what to go on from."""
        with torch.autocast("cpu", enabled=False):  # most CPUs have no bfloat16 LSTM
            states, after = self.lstm(x, before)
        return states, after

    def _inputs(self, batch: Batch) -> Tensor:
        """Of the LSTM: (B, L, D and the time features)."""
        x = self.drop(self.embedding(batch))  # (B, L, D)
        return x if self.time == "none" else torch.cat([x, self.time_features(batch).to(x.dtype)], dim=2)

    def time_features(self, batch: Batch) -> Tensor:
        """log(1 + gap / T), and with `relative` also log(1 + t'): (B, L, 1 or 2) float32."""
        features = [gap_before(batch)]
        if self.time == "relative":
            features.append(time_until(batch, self.reference))
        return compressed(features, self.seconds, batch.valid_mask)

    def event_weights(self, batch: Batch) -> EventWeights:
        """alpha of the last state; without attention what the gates of the LSTM keep."""
        if self.attention is None:
            return EventWeights.of_gates(self.lstm, self._inputs(batch), batch.lengths)
        weights = self.attention.weights_at_last(self.states(batch), batch.lengths)
        return EventWeights.of_attention([weights.unsqueeze(1)], "attention over the states of the LSTM")
