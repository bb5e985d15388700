"""EventWeights: how much a model's own attention or gates take of each event, as one number for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class EventWeights(NamedTuple):
    """values: (B, L) not negative, 0 at padding; a row sums to 1, unless all of it is 0. what: they are, in words."""

    values: Tensor
    what: str

    @classmethod
    def shares(cls, sizes: Tensor, what: str) -> EventWeights:
        """(B, L) of either sign -> the share of each in a row's sizes."""
        sizes = sizes.abs()
        return cls(sizes / sizes.sum(dim=1, keepdim=True).clamp_min(1e-30), what)

    @classmethod
    def of_attention(cls, weights: Sequence[Tensor], what: str = "attention") -> EventWeights:
        """(B, H, L) of each block: how its last position weighs the events. -> The mean over heads and blocks of the
        shares; what an earlier block had mixed into the later one's events is not followed."""
        shares = torch.stack([cls.shares(of_block.abs().mean(dim=1), "").values for of_block in weights])
        about = f"{what}, mean over {len(weights)} blocks and their heads" if len(weights) > 1 else what
        return cls.shares(shares.mean(dim=0), about)

    @classmethod
    def of_gates(cls, network: nn.GRU | nn.LSTM | nn.RNN, x: Tensor, lengths: Tensor) -> EventWeights:
        """What the gates of the last layer let in of each event and keep until the last one, the mean over the state's
        numbers: of a GRU (1 - z_s) z_{s+1} .. z_t, of an LSTM i_s f_{s+1} .. f_t. Without the size of what came in.

        Args:
            x: (B, L, inputs) of the first layer. lengths: (B,).
        """
        is_lstm = isinstance(network, nn.LSTM)
        options = (True, 1, 0.0, False, False, True)  # biases, layers, dropout, training, both ways, batch first
        start = x.new_zeros(1, len(x), network.hidden_size)
        for of_layer in network.all_weights:
            inputs, layer = x, list[Tensor](of_layer)
            x = (
                torch.lstm(x, (start, start), layer, *options)[0]
                if is_lstm
                else torch.gru(x, start, layer, *options)[0]
            )
        before = torch.cat([start.transpose(0, 1), x[:, :-1]], dim=1)  # (B, L, hidden_dim): h of the event before
        of_x, of_h, shift_x, shift_h = layer
        gates = torch.sigmoid(inputs @ of_x.T + shift_x + before @ of_h.T + shift_h).chunk(4 if is_lstm else 3, dim=2)
        enters, kept = (gates[0], gates[1]) if is_lstm else (1 - gates[1], gates[1])
        valid = (torch.arange(x.shape[1], device=x.device) < lengths[:, None]).unsqueeze(2)  # (B, L, 1)
        logs = kept.clamp_min(1e-30).log() * valid
        later = logs.flip(1).cumsum(dim=1).flip(1) - logs  # of the events after it
        sizes = (enters * torch.exp(later) * valid).mean(dim=2)
        return cls.shares(sizes, f"what the gates of the {'LSTM' if is_lstm else 'GRU'} let in and keep")
