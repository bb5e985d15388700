"""`event_weights` of every encoder: shares of the events; of gates and recurrences what is left, against a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from found_models import VARIANTS, built, random_batch, row_alone

from recsys_lab.models import LSTM, GRU4Rec, LRURec, Mamba4Rec
from recsys_lab.models.module import SequenceModel

NONE = {"Caser", "FMLPRec", "NextItNet", "RNN"}
"""No attention and no gates."""


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_shares_of_the_events(name: str) -> None:
    cls, settings = VARIANTS[name]
    model, batch = built(cls, **settings), random_batch([9, 4, 1])
    found = model.event_weights(batch)
    assert (found is None) is (name in NONE)
    if found is None:
        return
    assert found.values.shape == (3, 9) and found.what
    assert not found.values[~batch.valid_mask].any() and (found.values >= 0).all()
    torch.testing.assert_close(found.values.sum(1), torch.ones(3))
    alone = model.event_weights(row_alone(batch, 1)).values
    torch.testing.assert_close(found.values[1, :4], alone[0], rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_a_class_with_its_own_encode_has_none_of_its_base() -> None:
    class Other(GRU4Rec):
        def encode(self, batch: Any) -> Any:
            return super().encode(batch)

    assert Other.event_weights is SequenceModel.event_weights


@pytest.mark.parametrize("cls", [GRU4Rec, LSTM])
@torch.no_grad()
def test_gates_against_a_loop(cls: Any) -> None:
    model, batch = built(cls, num_layers=2), random_batch([6])
    network = model.gru if cls is GRU4Rec else model.rnn
    x = model.embedding(batch)
    below = type(network)(16, 24, 1, batch_first=True)
    below.load_state_dict({k: v for k, v in network.state_dict().items() if k.endswith("l0")})
    inputs = below(x)[0]
    of_x, of_h, shift_x, shift_h = network.all_weights[1]
    states, _ = network(x)
    left, before = [], torch.zeros(24)
    for place in range(6):
        gates = torch.sigmoid(of_x @ inputs[0, place] + shift_x + of_h @ before + shift_h).chunk(
            4 if cls is LSTM else 3
        )
        enters, kept = (gates[0], gates[1]) if cls is LSTM else (1 - gates[1], gates[1])
        left = [one * kept for one in left] + [enters]
        before = states[0, place]
    sizes = torch.stack(left).mean(1)
    torch.testing.assert_close(model.event_weights(batch).values[0], sizes / sizes.sum())


@pytest.mark.parametrize("cls", [LRURec, Mamba4Rec])
@torch.no_grad()
def test_what_a_recurrence_keeps_is_what_its_state_loses_without_the_event(cls: Any) -> None:
    """One layer: of each channel of the last state, what goes when the event's own input to it is zero."""
    model, batch = built(cls, num_layers=1), random_batch([6])
    x = model.norm(model.embedding(batch))
    if cls is LRURec:
        block = model.blocks[0]
        whole = block(x)[1][:, -1]
        enters = block._enters
        left = []
        for place in range(6):
            mask = torch.ones(1, 6, 1)
            mask[:, place] = 0
            block._enters = lambda x, mask=mask: tuple(part * mask for part in enters(x))
            gone = (whole - block(x)[1][:, -1]).chunk(2, dim=1)
            left.append(torch.hypot(*gone).mean())
        del block._enters
    else:
        space = model.spaces[0]
        chosen = space._chosen
        c = chosen(torch.nn.functional.silu(space.convolve(space.enter(x).chunk(2, dim=2)[0])).float())[2][:, -1]
        whole = space(x)[1][1]
        left = []
        for place in range(6):

            def without(x: Any, place: int = place) -> Any:
                decay, enters, c = chosen(x)
                enters = enters.clone()
                enters[:, place] = 0
                return decay, enters, c

            space._chosen = without
            left.append((((whole - space(x)[1][1]) * c[:, None]).sum(2)).abs().mean())
        del space._chosen
    sizes = torch.stack(left)
    torch.testing.assert_close(model.event_weights(batch).values[0], sizes / sizes.sum(), rtol=1e-3, atol=1e-5)
