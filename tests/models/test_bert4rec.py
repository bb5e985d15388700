"""BERT4Rec: which events are masked, what is hidden of them, and what a query is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from found_models import built, random_batch, small, trained_as
from small_data import quiet_trainer
from test_fields_of_models import WITH_FIELDS, batch_with_fields

from recsys_lab.contracts import Batch
from recsys_lab.models import BERT4Rec
from recsys_lab.models.blocks.masking import is_masked, one_more
from recsys_lab.models.blocks.user_token import with_token

LENGTHS = [4, 9, 1, 7]


def in_training(batch: Batch, targets: torch.Tensor | None = None) -> Batch:
    """Each event's successor is its target; 40 comes after the last."""
    following = batch.item_ids.roll(-1, dims=1)
    following[torch.arange(len(batch)), batch.lengths - 1] = 40
    following *= batch.valid_mask
    return dataclasses.replace(batch, target_ids=following if targets is None else following * targets, target={})


def masked_by(model: BERT4Rec, batch: Batch, seed: int = 0) -> Batch:
    return model.training_batch(batch, torch.Generator().manual_seed(seed))


def whole(batch: Batch) -> torch.Tensor:
    """(B, L + 1): the items of a window, and the one after its last."""
    return one_more(batch, (), item_ids=torch.full((len(batch),), 40)).item_ids


def test_masked_events_are_the_targets_and_nothing_else_changes() -> None:
    batch, model = in_training(random_batch(LENGTHS)), built(BERT4Rec, mask_share=0.5, last_share=0.0)
    for seed in range(20):
        shown = masked_by(model, batch, seed)
        masked = shown.target_ids != 0
        assert masked.any(dim=1).all() and not masked[:, 0].any(), "each row has a target, the first event is none"
        assert torch.equal(is_masked(shown), masked) and torch.equal(shown.lengths, batch.lengths + 1)
        assert torch.equal(torch.where(masked, shown.target_ids, shown.item_ids), whole(batch))
        types = torch.where(masked[:, :-1], 0, batch.event["event_type"])
        assert torch.equal(shown.event["event_type"][:, :-1], types), "of a masked event nothing is known"


def test_the_shares_of_masks() -> None:
    batch = in_training(random_batch([9] * 400))
    masked = masked_by(built(BERT4Rec, mask_share=0.3, last_share=0.0), batch).target_ids != 0
    assert abs(float(masked[:, 1:].float().mean()) - 0.3) < 0.03
    alone = masked_by(built(BERT4Rec, mask_share=0.3, last_share=1.0), batch).target_ids != 0
    assert alone[:, 9].all() and not alone[:, :9].any()
    some = masked_by(built(BERT4Rec, mask_share=0.9, last_share=0.25), batch).target_ids != 0
    assert 0.15 < float((some.sum(dim=1) == 1).float().mean()) < 0.35


def test_only_what_the_data_gives_as_a_target_is_masked_with_its_weight() -> None:
    batch = random_batch(LENGTHS)
    targets = torch.arange(9).remainder(3) == 2  # the events at places 3, 6 and 9
    batch = in_training(batch, targets)
    weights = torch.rand(4, 9) * (batch.target_ids != 0)
    batch = dataclasses.replace(batch, target_weights=weights)
    shown = masked_by(built(BERT4Rec, mask_share=0.999999, last_share=0.0), batch)
    masked = shown.target_ids != 0
    assert torch.equal(masked[:, 1:], batch.target_ids != 0) and not masked[2].any(), "a row may be without a target"
    assert shown.target_weights is not None
    assert torch.equal(shown.target_weights[masked], weights[batch.target_ids != 0])
    last = masked_by(built(BERT4Rec, mask_share=0.5, last_share=1.0), batch).target_ids != 0
    assert last.nonzero().tolist() == [[0, 3], [1, 9], [3, 6]]


def test_a_query_is_the_state_of_a_masked_event_behind_the_history() -> None:
    model, batch = built(BERT4Rec), random_batch(LENGTHS)
    longer = one_more(batch, ())
    assert is_masked(longer).nonzero().tolist() == [[row, length] for row, length in enumerate(LENGTHS)]
    with torch.no_grad():
        expected = model.encode(longer)[torch.arange(4), batch.lengths]
        torch.testing.assert_close(model.query(batch), expected, rtol=1e-5, atol=1e-6)
        model.mask_vector += 1.0
        assert not torch.allclose(model.query(batch), expected), "the mask is read"
    assert not is_masked(with_token(batch)).any(), "a token of the user is no masked event"


def test_fields_and_time_of_the_event_to_predict_only_where_they_are_known() -> None:
    batch = batch_with_fields([4, 9])
    known = one_more(batch, ("price",), at_query_time=True)
    row = torch.arange(2)
    assert torch.equal(known.event["price"][row, batch.lengths], batch.target["price"])
    assert torch.equal(known.timestamps[row, batch.lengths], batch.query_time)  # type: ignore[arg-type]
    unknown = one_more(batch, ())
    assert not any(values[row, batch.lengths].any() for values in unknown.event.values())
    assert torch.equal(unknown.timestamps[row, batch.lengths], batch.timestamps[row, batch.lengths - 1])
    hidden = masked_by(built(BERT4Rec, WITH_FIELDS, mask_share=0.999999), in_training(batch))
    gone = is_masked(hidden)
    assert gone.any() and not any(values[gone].any() for values in hidden.event.values())


@pytest.mark.parametrize("mode", ["all_positions", "last_position"])
def test_it_trains_on_both_kinds_of_windows(mode: str, small_folder: Path, tmp_path: Path) -> None:
    model = small(BERT4Rec, last_share=0.1)
    data = trained_as(BERT4Rec, small_folder)
    data.training_mode = mode  # type: ignore[assignment]
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, data)
    assert 0 < float(trainer.callback_metrics["train/loss_epoch"]) < 10
