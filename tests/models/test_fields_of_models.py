"""Fields of every kind and scope in every encoder: they matter, padding doesn't, and the checkpoint holds them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from found_models import ENCODERS, SPEC, built, random_batch, small, trained_as
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.contracts import Batch, DataSpec, Field
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import BCE, CrossEntropy
from recsys_lab.models import SASRec
from recsys_lab.models.blocks import item_table
from recsys_lab.models.blocks.field_vectors import MeanOfRows
from recsys_lab.models.blocks.item_parts import ItemField
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.blocks.target_fields import target_at_each_position
from recsys_lab.words import ArgumentError, RecsysLabError

FIELDS = (
    Field("type", "event", "categorical", 5),
    Field("tags.of event", "event", "multi", 6, 3),
    Field("price", "event", "numeric", known_at="query"),
    Field("image", "event", "vector", 4),
    Field("note", "event", "text"),
    Field("type", "item", "categorical", 7),
    Field("tags", "item", "multi", 6, 3),
    Field("price", "item", "numeric"),
    Field("image", "item", "vector", 4),
    Field("age", "user", "numeric"),
    Field("type", "user", "categorical", 30),
)
WITH_FIELDS = dataclasses.replace(SPEC, fields=FIELDS)


def values_of(field: Field, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Made values as `contracts.Field` says."""
    draw = torch.Generator().manual_seed(seed)
    if field.kind == "categorical":
        return torch.randint(1, field.size, shape, generator=draw)
    if field.kind == "multi":
        return torch.randint(1, field.size, (*shape, field.width), generator=draw)
    return torch.randn(*shape, 2 if field.kind == "numeric" else field.size, generator=draw)


def batch_with_fields(lengths: list[int], seed: int = 0) -> Batch:
    batch = random_batch(lengths, SPEC, seed)
    event, shape = {}, tuple(batch.item_ids.shape)
    for number, field in enumerate(WITH_FIELDS.fields_of("event", "categorical", "multi", "numeric", "vector")):
        values = values_of(field, shape, number)
        event[field.name] = values * batch.valid_mask.reshape(*shape, *[1] * (values.ndim - 2))
    user = {f.name: values_of(f, shape[:1], 9) for f in WITH_FIELDS.fields_of("user")}
    return dataclasses.replace(batch, event=event, user=user, target={"price": values_of(FIELDS[2], shape[:1])})


def filled(model: Any) -> Any:
    """The model with values for the fields of the items; row 0 is padding."""
    parts = [module for module in model.modules() if isinstance(module, ItemField)]
    parts = list({id(part): part for part in parts}.values())
    for number, (part, field) in enumerate(zip(parts, WITH_FIELDS.fields_of("item"), strict=True)):
        part.values.copy_(values_of(field, (WITH_FIELDS.num_rows,), number))
        part.values[0] = 0
    return model


def outcome(model: Any, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return model.score(model.query(batch))[:, 1:]


@pytest.mark.parametrize("cls", ENCODERS)
def test_every_field_of_every_kind_reaches_the_scores(cls: Any) -> None:
    model, batch = filled(built(cls, WITH_FIELDS)), batch_with_fields([5, 9, 2])
    before = outcome(model, batch)
    for scope, held in (("event", batch.event), ("user", batch.user)):
        for name, values in held.items():
            other = values.flip(0) if scope == "user" else values.roll(1, dims=1)
            mask = batch.valid_mask.reshape(*batch.valid_mask.shape, *[1] * (values.ndim - 2))
            changed = {**held, name: other if scope == "user" else other * mask}
            assert not torch.allclose(outcome(model, dataclasses.replace(batch, **{scope: changed})), before), name
    for part in [m for m in model.modules() if isinstance(m, ItemField)]:
        kept = part.values.clone()
        part.values.copy_(kept.roll(1, dims=0))
        assert not torch.allclose(outcome(model, batch), before), part.name
        part.values.copy_(kept)
    assert torch.equal(outcome(model, batch), before), "what was kept of the table is made anew when values change"


@pytest.mark.parametrize("cls", ENCODERS)
def test_padding_has_no_fields(cls: Any) -> None:
    model, batch = filled(built(cls, WITH_FIELDS)), batch_with_fields([3, 9])
    with torch.no_grad():
        x = model.embedding(dataclasses.replace(batch, user={n: torch.zeros_like(v) for n, v in batch.user.items()}))
    assert not x[~batch.valid_mask].any() and x[batch.valid_mask].any()


def test_the_mean_of_several_values_by_hand() -> None:
    table = MeanOfRows(4, 2, padding_idx=0)
    got = table(torch.tensor([[1, 3, 0], [0, 0, 0], [2, 0, 0]]))
    torch.testing.assert_close(got[0], (table.weight[1] + table.weight[3]) / 2)
    assert not got[1].any() and torch.equal(got[2], table.weight[2])


def test_one_table_serves_the_input_and_the_scores() -> None:
    model = filled(built(SASRec, WITH_FIELDS))
    table, ids = model.embedding.items, torch.arange(WITH_FIELDS.num_rows)
    assert model.scorer.items is table
    (block,) = model.scorer.linear_blocks()
    torch.testing.assert_close(block.weight, table(ids))
    by_hand = table.weight[3] + sum(part.vectors(part.values[3:4])[0] for part in table.parts)
    torch.testing.assert_close(table(torch.tensor([3]))[0], by_hand)


@pytest.mark.parametrize("loss", [CrossEntropy, BCE])
def test_blocks_of_a_table_with_fields_train_as_one(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, gradients = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)), []
    targets = torch.tensor([1, 40, 3, 17, 22])
    for rows in (1 << 16, 15):
        monkeypatch.setattr(item_table, "BLOCK_ROWS", rows)
        model = filled(built(SASRec, WITH_FIELDS, loss=loss()))
        negatives = None
        if model.negatives is not None:
            model.negatives.prepare(torch.ones(WITH_FIELDS.num_rows, dtype=torch.int64))
            negatives = model.negatives.sample(targets, torch.Generator().manual_seed(0))
        model.loss(hidden, targets, model.scorer, negatives).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        assert len(list(model.scorer.linear_blocks())) == (1 if rows > 41 else 3)
        scores = model.scorer.all_scores(hidden)
        parts = [hidden @ block.weight.T for block in model.scorer.linear_blocks()]
        torch.testing.assert_close(torch.cat(parts, dim=1), scores)
        own = torch.tensor([[1, 2], [40, 40], [3, 9], [17, 1], [22, 5]])
        torch.testing.assert_close(model.scorer.scores(hidden, own), scores.gather(1, own))
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) >= 4
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_an_item_without_training_events_has_its_fields_only() -> None:
    table = filled(built(SASRec, WITH_FIELDS)).embedding.items
    counts = torch.ones(WITH_FIELDS.num_rows, dtype=torch.int64)
    counts[[0, 7]] = 0
    table.forget_untrained(counts)
    assert not table.weight[7].any() and table.weight[8].any() and table(torch.tensor([7])).any()
    plain = ItemTable(5, 2)
    before = plain.weight.clone()
    plain.forget_untrained(counts[:5])
    assert torch.equal(plain.weight, before)


def test_a_training_step_makes_the_row_of_each_item_once() -> None:
    ids = torch.randint(0, WITH_FIELDS.num_rows, (3, 40), generator=torch.Generator().manual_seed(0))
    gradients, made = [], []
    for training in (False, True):
        table = filled(built(SASRec, WITH_FIELDS)).embedding.items.train(training)
        table.parts[1].register_forward_pre_hook(lambda _, given: made.append(given[1].numel()))
        rows = table(ids)
        rows.mul(torch.arange(rows.numel()).reshape(rows.shape).sin()).sum().backward()
        gradients.append({"rows": rows.detach(), **{n: p.grad for n, p in table.named_parameters()}})
    assert made == [ids.numel(), WITH_FIELDS.num_rows] and len(gradients[0]) == 6
    for name, each in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], each, rtol=1e-4, atol=1e-5)


def test_without_fields_the_table_is_an_embedding() -> None:
    table = ItemTable(9, 4)
    assert list(table.state_dict()) == ["weight"] and table.weight_block(slice(0, 9)) is table.weight
    assert TiedScorer(table).one_block().weight is table.weight  # type: ignore[union-attr]


# -- fields of the event to predict ------------------------------------------------------------------------------------


def test_a_target_field_in_training_and_in_evaluation() -> None:
    batch = batch_with_fields([2, 4])
    price = batch.event["price"]  # (2, 4, 2)
    in_evaluation = target_at_each_position(batch, "price")
    assert torch.equal(in_evaluation[1, :3], price[1, 1:]) and torch.equal(in_evaluation[0, 0], price[0, 1])
    assert torch.equal(in_evaluation[0, 1], batch.target["price"][0])
    each = price.roll(-1, dims=1)
    each[torch.arange(2), batch.lengths - 1] = batch.target["price"]
    in_training = dataclasses.replace(batch, target={"price": each})
    assert torch.equal(target_at_each_position(in_training, "price"), in_evaluation)


@pytest.mark.parametrize("cls", ENCODERS)
def test_only_a_model_that_says_so_reads_the_event_to_predict(cls: Any) -> None:
    batch = batch_with_fields([4, 6])
    other = dataclasses.replace(batch, target={"price": batch.target["price"] + 1})
    for names in ((), ("price",)):
        model = filled(built(cls, WITH_FIELDS, target_fields=names))
        assert torch.equal(outcome(model, batch), outcome(model, other)) is not bool(names)
        assert model.uses_target_fields == names
    with pytest.raises(RecsysLabError, match="reads the field 'price' of the event to predict"):
        model.query(dataclasses.replace(batch, target={}))


def test_a_target_field_must_be_known_at_query_time(small_folder: Path, tmp_path: Path) -> None:
    model = small(SASRec, target_fields=["event_type"])
    with pytest.raises(ArgumentError, match="target_fields.*event_type.*in small known of the event to predict: none"):
        quiet_trainer(tmp_path).fit(model, SequenceDataModule(str(small_folder)))


# -- under the Trainer -------------------------------------------------------------------------------------------------


class Filled(SequenceDataModule):
    """A datamodule with made fields of the items."""

    @property
    def spec(self) -> DataSpec:  # type: ignore[override]
        spec = super().spec
        return dataclasses.replace(spec, fields=(*spec.fields, *WITH_FIELDS.fields_of("item")))

    @property
    def item_fields(self) -> dict[str, torch.Tensor]:  # type: ignore[override]
        rows = self.processed.num_items + 1
        return {f.name: values_of(f, (rows,)) for f in WITH_FIELDS.fields_of("item")}


@pytest.mark.parametrize("loss", [CrossEntropy, BCE])
def test_fields_train_and_lie_in_the_checkpoint(loss: Any, tmp_path: Path) -> None:
    folder = prepared(tmp_path / "many", made_events(num_users=40)).path
    data = Filled(str(folder), max_length=8, batch_size=8, eval_batch_size=50)
    model, trainer = small(SASRec, loss=loss()), quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    loaded = SASRec.load_from_checkpoint(tmp_path / "m.ckpt")
    for part, other in zip(model.embedding.items.parts, loaded.embedding.items.parts, strict=True):
        assert torch.equal(part.values, other.values) and part.values.any()
    batch = next(iter(trained_as(SASRec, folder).test_dataloader()))
    assert torch.equal(outcome(model.eval(), batch), outcome(loaded, batch))
    tested = quiet_trainer(tmp_path).test(loaded, data, verbose=False)[0]
    assert tested == quiet_trainer(tmp_path).test(model, data, verbose=False)[0] and 0 < tested["test/auc"] < 1
