"""`--model.inputs`: how fields, time and user join in the vector of an event, in every encoder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from found_models import ENCODERS, SPEC, asked, built, random_batch, small
from small_data import made_events, prepared, quiet_trainer
from test_fields_of_models import WITH_FIELDS, batch_with_fields, filled, outcome

from recsys_lab.cli import main
from recsys_lab.config import from_config, to_config
from recsys_lab.contracts import Batch
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import GRU4Rec, NextItemModule, SASRec
from recsys_lab.models.blocks.inputs import Inputs
from recsys_lab.models.blocks.item_parts import ItemField
from recsys_lab.models.blocks.joining import Concat, Gate
from recsys_lab.models.blocks.time_features import (
    DayOfWeek,
    GapBuckets,
    GapToQuery,
    HourOfDay,
    PartOfCycle,
    RelativeTime,
    TimeFeature,
    log_buckets,
)
from recsys_lab.models.blocks.user_token import with_token, without_token
from recsys_lab.models.system import model_settings
from recsys_lab.words import RecsysLabError

TIMES: list[TimeFeature] = [
    RelativeTime(),
    RelativeTime("query", window=60.0),
    GapBuckets(),
    GapToQuery(),
    HourOfDay(),
    DayOfWeek(utc_offset=2.5),
    PartOfCycle(days=0.01, parts=5),
]
each_encoder = pytest.mark.parametrize("cls", ENCODERS)
each_time = pytest.mark.parametrize("feature", TIMES, ids=[f"{type(t).__name__}{n}" for n, t in enumerate(TIMES)])


def with_inputs(cls: Any, **settings: Any) -> Any:
    return filled(built(cls, WITH_FIELDS, inputs=Inputs(**settings)))


def changed_times(batch: Batch, by: int = 100_000) -> Batch:
    """The times of all events but the first of each row, and of the question, are later."""
    later = batch.timestamps + by * batch.valid_mask * (torch.arange(batch.item_ids.shape[1]) > 0)
    assert batch.query_time is not None
    return dataclasses.replace(batch, timestamps=later, query_time=batch.query_time + by)


# -- time --------------------------------------------------------------------------------------------------------------


@each_time
@each_encoder
def test_a_time_feature_in_every_encoder(cls: Any, feature: TimeFeature) -> None:
    model, batch = built(cls, inputs=Inputs(time=[feature])), random_batch([3, 9, 1, 6])
    hidden = model.hidden(batch)
    assert hidden.shape == (4, 9, 16)
    assert not model.embedding(batch)[~batch.valid_mask].any()
    hidden[batch.valid_mask].square().sum().backward()
    (own,) = model.embedding.times
    weight = next(own.parameters())
    assert weight.grad is not None and weight.grad.any()
    assert model.causal is (cls.causal and feature.causal)
    assert model.uses_query_time is (built(cls).uses_query_time or feature.uses_query_time)
    later = dataclasses.replace(batch, query_time=batch.query_time + 10**6)
    with torch.no_grad():
        assert torch.equal(model.query(batch), model.query(later)) is not model.uses_query_time
        assert not torch.equal(model.query(batch), model.query(changed_times(batch)))


@pytest.mark.parametrize(
    "feature", [GapBuckets(), HourOfDay(), DayOfWeek(), PartOfCycle(days=2)], ids=lambda f: type(f).__name__
)
@each_encoder
def test_time_does_not_look_ahead(cls: Any, feature: TimeFeature) -> None:
    model, batch = built(cls, inputs=Inputs(time=[feature])), random_batch([9, 9, 7])
    if not model.causal:
        return
    with torch.no_grad():
        before = model.hidden(batch)
        for t in range(9):
            times = batch.timestamps.clone()
            times[:, t] += 300_000
            after = model.hidden(dataclasses.replace(batch, timestamps=times * batch.valid_mask))
            torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=0)


def test_the_rows_of_times_by_hand() -> None:
    batch = random_batch([3, 2])
    times = torch.tensor([[86_400 * 7 + 3600 * 5, 86_400 * 7 + 3600 * 5 + 6, 86_400 * 9], [10, 10, 0]])
    batch = dataclasses.replace(batch, timestamps=times, query_time=torch.tensor([86_400 * 9 + 1, 10]))
    assert HourOfDay().values(batch)[batch.valid_mask].tolist() == [5, 5, 0, 0, 0]
    assert HourOfDay(-6).values(batch)[0].tolist() == [23, 23, 18]
    assert DayOfWeek().values(batch)[batch.valid_mask].tolist() == [0, 0, 2, 0, 0]
    assert PartOfCycle(days=7, parts=7).values(batch)[batch.valid_mask].tolist() == [0, 0, 2, 0, 0]
    assert PartOfCycle(days=2, parts=4).values(batch)[batch.valid_mask].tolist() == [2, 2, 2, 0, 0]
    gap = 86_400 * 2 - 3600 * 5 - 6
    assert GapBuckets().values(batch)[batch.valid_mask].tolist() == [-1, 2, (gap + 1).bit_length() - 1, -1, 0]
    assert GapToQuery().values(batch)[batch.valid_mask].tolist() == [2, (gap + 1).bit_length() - 1, 1, 0, 0]
    assert log_buckets(torch.tensor([0, 1, 2, 3, 6, 7, 2**62])).tolist() == [0, 1, 1, 2, 2, 3, 39]
    relative = RelativeTime(window=2.0)
    relative.build(SPEC, 1, 1.0)
    expected = torch.log1p((times[0, 2] - times[0]) / 2.0) * relative.vector.weight.item()
    torch.testing.assert_close(relative(batch)[0, :, 0], expected)


def test_the_gap_to_the_question_is_what_each_position_predicts() -> None:
    """In training a position sees the time of its own target: the same number as in evaluation at that event."""
    model, batch = built(SASRec, inputs=Inputs(time=[GapToQuery()])), random_batch([6])
    assert model.query_time_of_each_target
    shorter = dataclasses.replace(
        batch,
        **{name: getattr(batch, name)[:, :4] for name in ("item_ids", "valid_mask", "timestamps")},
        event={name: values[:, :4] for name, values in batch.event.items()},
        lengths=torch.tensor([4]),
        query_time=batch.timestamps[:, 4],
    )
    with torch.no_grad():
        torch.testing.assert_close(model.query(shorter)[0], model.hidden(batch)[0, 3])


def test_times_are_needed_and_relative_time_trains_on_last_positions(small_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match="--model.inputs.time: HourOfDay reads the times of events, and made has"):
        built(SASRec, dataclasses.replace(SPEC, has_timestamps=False), inputs=Inputs(time=[HourOfDay()]))
    model = small(GRU4Rec, inputs=Inputs(time=[RelativeTime()]))
    with pytest.raises(RecsysLabError, match="later events of its window.*last_position"):
        quiet_trainer(tmp_path).fit(model, SequenceDataModule(str(small_folder)))


def test_a_time_stands_there_once_with_the_same_settings() -> None:
    with pytest.raises(RecsysLabError, match="--model.inputs.time: DayOfWeek stands there twice with equal settings"):
        Inputs(time=[DayOfWeek(), HourOfDay(), DayOfWeek(utc_offset=0.0)])
    both = built(SASRec, inputs=Inputs(time=[DayOfWeek(), DayOfWeek(utc_offset=9.0)]))
    assert len(both.embedding.times) == 2


def test_a_model_goes_on_from_a_state_where_its_inputs_are_of_one_event() -> None:
    assert built(GRU4Rec, inputs=Inputs(time=[HourOfDay(), DayOfWeek()])).start(2) is not None
    assert built(GRU4Rec, inputs=Inputs(time=[GapBuckets()])).start(2) is None


# -- joining -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Concat, Gate])
def test_ways_to_join_start_as_the_sum(how: Any) -> None:
    torch.manual_seed(0)
    vectors = [torch.randn(2, 3, 5) for _ in range(4)]
    join = how(4, 5)
    torch.testing.assert_close(join(vectors), sum(vectors))
    with torch.no_grad():
        for parameter in join.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert not torch.allclose(join(vectors), sum(vectors))  # type: ignore[arg-type]
    assert not join([torch.zeros(1, 5)] * 4).any(), "padding stays zero"


@pytest.mark.parametrize("settings", [{"fields": "concat"}, {"items": "gate"}, {"items": "concat"}, {"user": "first"}])
@each_encoder
def test_joined_in_every_encoder(cls: Any, settings: dict[str, Any]) -> None:
    model, batch = with_inputs(cls, **settings), batch_with_fields([5, 9, 2])
    plain = filled(built(cls, WITH_FIELDS))
    assert model.hidden(batch).shape == plain.hidden(batch).shape == (3, 9, 16)
    if "user" not in settings:
        torch.testing.assert_close(model.hidden(batch), plain.hidden(batch), rtol=1e-4, atol=1e-5)
    scores = model.scorer.all_scores(model.hidden(batch)[batch.valid_mask])
    scores.square().mean().backward()
    for name, parameter in model.embedding.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), f"no gradient reaches {name}"
    with torch.no_grad():
        torch.testing.assert_close(model.query(batch), asked(model, batch), rtol=1e-5, atol=1e-6)


@each_encoder
def test_a_user_in_a_token_before_the_first_event(cls: Any) -> None:
    model, batch = with_inputs(cls, user="first"), batch_with_fields([4, 9, 2])
    before = outcome(model, batch)
    for name, values in batch.user.items():
        other = values.clone()
        other[0] = other[0] % 20 + 1 if not other.is_floating_point() else other[0] + 1
        after = outcome(model, dataclasses.replace(batch, user={**batch.user, name: other}))
        assert not torch.allclose(after[0], before[0], atol=0), name
        torch.testing.assert_close(after[1:], before[1:])
    assert model.start(2) is None
    with pytest.raises(RecsysLabError, match="--model.inputs.user first.*ask its `hidden` or `query`"):
        model.encode(batch)
    with torch.no_grad():
        alone = model.hidden(batch.windows(torch.tensor([2])))[0, :2]
        torch.testing.assert_close(alone, model.hidden(batch)[2, :2], rtol=1e-4, atol=1e-5)


def test_a_token_and_back() -> None:
    batch = batch_with_fields([5, 9, 2])
    wide = with_token(batch)
    assert wide.item_ids.shape == (3, 10) and not wide.item_ids[:, 0].any() and wide.valid_mask[:, 0].all()
    assert torch.equal(wide.timestamps[:, 0], batch.timestamps[:, 0]) and with_token(wide) is wide
    back = without_token(wide)
    for name in ("item_ids", "valid_mask", "timestamps", "lengths"):
        assert torch.equal(getattr(back, name), getattr(batch, name))
    for name, values in batch.event.items():
        assert torch.equal(back.event[name], values)
    several = dataclasses.replace(
        batch, target_ids=torch.ones(3, 9, dtype=torch.int64), target_mask=torch.ones(3, 9, dtype=torch.bool)
    )
    assert with_token(several).target_ids.shape == (3, 9), "several targets in evaluation are no positions"


@each_encoder
def test_a_field_that_the_model_does_not_have_changes_nothing(cls: Any) -> None:
    """The batch holds all fields, the model is built for the numbers alone."""
    some = tuple(f for f in WITH_FIELDS.fields if f.kind == "numeric" and f.scope != "item")
    model, batch = built(cls, dataclasses.replace(WITH_FIELDS, fields=some)), batch_with_fields([5, 9, 2])
    before = outcome(model, batch)
    event = {n: v if n == "price" else v[torch.tensor([2, 0, 1])].flip(1) for n, v in batch.event.items()}
    user = {n: v if n == "age" else v.flip(0) for n, v in batch.user.items()}
    assert torch.equal(outcome(model, dataclasses.replace(batch, event=event, user=user)), before)
    event["price"] = event["price"] + 1
    assert not torch.equal(outcome(model, dataclasses.replace(batch, event=event)), before)


def test_what_can_not_be_joined_is_said() -> None:
    with pytest.raises(RecsysLabError, match="--model.inputs.items gate joins fields of the items, and none is fed"):
        built(SASRec, inputs=Inputs(items="gate"))
    with pytest.raises(RecsysLabError, match="--model.inputs.user first needs a field of the users: --data.fields"):
        built(SASRec, inputs=Inputs(user="first"))


def test_a_model_without_them_is_the_system_it_was() -> None:
    assert "inputs" not in model_settings(SASRec())["init_args"]
    config = to_config(SASRec(inputs=Inputs(time=[HourOfDay(2.0)])))
    again = from_config(config, NextItemModule)
    assert to_config(again) == config and again.inputs.time[0].shift == 7200


# -- the whole way -----------------------------------------------------------------------------------------------------

CONFIG = """
model:
  class_path: SASRec
  init_args:
    embedding_dim: 8
    inputs:
      fields: concat
      user: first
      items: gate
      time:
        - class_path: GapBuckets
        - class_path: HourOfDay
          init_args: {utc_offset: 1}
        - GapToQuery
data:
  fields: all
  numerics: {price: log1p, item.price: quantile}
  max_length: 8
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false}
"""


def test_from_yaml_to_a_checkpoint_that_tests_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events = made_events(num_users=30)
    frame = events.with_columns(price=(events["timestamp"] % 50).cast(float))
    items = frame.select("item_id").unique(maintain_order=True).with_row_index("n")
    items = items.select("item_id", price=items["n"].cast(float), brand=(items["n"] % 3).cast(str))
    users = frame.select("user_id").unique(maintain_order=True).with_row_index("n")
    users = users.select("user_id", age=20.0 + users["n"])
    data = SequenceDataModule.from_frames(frame, items, users, name="shop", data_dir="data")
    assert {"price", "item.price", "item.brand", "user.age", "event_type"} == set(data.processed.fields)
    Path("all.yaml").write_text(CONFIG)
    line = ["fit", "--config", "all.yaml", "--data.dataset", "shop", "--run.folder", "run"]
    assert main(line) == 0
    assert main(["test", "run"]) == 0
    assert json.loads(Path("run/manifest.json").read_text())["reads"] == ["query_time"]
    model = NextItemModule.load_from_checkpoint("run/checkpoints/best.ckpt")
    assert [type(t).__name__ for t in model.embedding.times] == ["GapBuckets", "HourOfDay", "GapToQuery"]
    assert isinstance(model.embedding.items.join, Gate) and model.begins_with_user
    assert {part.name for part in model.embedding.items.parts if isinstance(part, ItemField)} == {"price", "brand"}
    data = SequenceDataModule("shop", data_dir="data", fields="all", max_length=8)
    batch = next(iter(data.test_dataloader()))
    assert torch.isfinite(outcome(model, batch)).all()


def test_training_with_a_token_runs_a_loss_of_two_views(tmp_path: Path) -> None:
    from recsys_lab.losses.contrastive import ContrastiveViews

    frame = made_events(num_users=30)
    users = frame.select("user_id").unique(maintain_order=True).with_row_index("n")
    users = users.select("user_id", age=20.0 + users["n"])
    data = SequenceDataModule.from_frames(frame, None, users, data_dir=tmp_path, fields=["user.age"], max_length=6)
    model = small(SASRec, inputs=Inputs(user="first"), auxiliary=[ContrastiveViews()], dropout=0.2)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, data)
    assert torch.isfinite(trainer.callback_metrics["train/loss_epoch"])
    assert model.positions.weight.shape[0] == 7


def test_fields_are_asked_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = prepared(tmp_path / "d", made_events()).path
    assert main(["fit", "--model", "SASRec", "--model.fields", "all", "--data.dataset", str(folder)]) == 2
    assert "SASRec has no key 'fields'. Did you mean --data.fields?" in capsys.readouterr().err
