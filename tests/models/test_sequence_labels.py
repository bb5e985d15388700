"""SequenceLabels: which labels are in a batch, what a model can know of them, its loss by hand, for every encoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from found_models import ENCODERS, small
from small_data import made_events, prepared, quiet_trainer
from torch import Tensor

from recsys_lab.contracts import Batch, Samples, State
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import HSTU, BERT4Rec, GRU4Rec, SASRec
from recsys_lab.models.tasks.sequence_labels import SequenceLabels
from recsys_lab.words import RecsysLabError


def labelled(num_users: int = 40) -> pl.DataFrame:
    """The type follows from the item; `seconds` is a number, missing here and there; `place` has one value."""
    frame = made_events(num_users=num_users)
    seconds = pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col("item_id") * 2.0)
    kind = "type" + (pl.col("item_id") % 3).cast(pl.String)
    return frame.with_columns(seconds=seconds, place=pl.lit("here"), event_type=kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("labels") / "d", labelled()).path


def module(folder: Path, task: SequenceLabels | None = None, **settings: Any) -> SequenceDataModule:
    data = SequenceDataModule(str(folder), **{"max_length": 5, "batch_size": 16, "fields": ["event_type"], **settings})
    data.give(task.samples if task is not None else Samples())
    return data


def stored(data: SequenceDataModule, field: str) -> Tensor:
    """(E,) rows of a field's table, as the data have them."""
    every = np.arange(data.processed.num_events)
    return data.events.labels[field].take(every, every >= 0)


# -- labels in batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["next", "event"])
def test_labels_are_those_of_the_targets(folder: Path, of: Any) -> None:
    data = module(folder, SequenceLabels("event_type", of))
    labels, plain, counted = stored(data, "event_type"), module(folder), 0
    for batch in data.train_dataloader():
        position = batch.target_ids != 0
        assert torch.equal(batch.target_labels["event_type"] != 0, position)
        counted += int(position.sum())
    assert counted == plain.train_windows.num_targets  # each target once, the same ones
    for loader in (data.val_dataloader(), data.test_dataloader()):
        for batch in loader:  # type: ignore[union-attr]
            assert torch.equal(batch.target_labels["event_type"], labels[batch.target_event])


def test_of_the_event_the_window_holds_it_and_not_its_label(folder: Path) -> None:
    data = module(folder, SequenceLabels("event_type", "event"))
    item_ids, codes = torch.tensor(np.asarray(data.events.item_ids)), stored(data, "event_type")
    (batch,) = list(data.test_dataloader())
    last = batch.lengths - 1
    row = torch.arange(len(batch))
    assert torch.equal(batch.item_ids[row, last].int(), item_ids[batch.target_event])
    assert torch.equal(batch.event["event_type"][row, last], codes[batch.target_event - 1])  # of the event before
    assert int(batch.lengths.max()) == 5
    for batch in data.train_dataloader():
        shown, known = batch.event["event_type"], batch.target_labels["event_type"]
        assert torch.equal(batch.target_ids[batch.target_ids != 0], batch.item_ids[batch.target_ids != 0])
        both = (known[:, :-1] != 0) & batch.valid_mask[:, 1:]
        assert torch.equal(shown[:, 1:][both], known[:, :-1][both]) and not shown[:, 0].any()


def test_without_a_task_of_labels_batches_are_as_they_were(folder: Path) -> None:
    data = module(folder, SequenceLabels("event_type", "event"))
    first = next(iter(data.train_dataloader()))
    data.give(Samples())
    plain, fresh = next(iter(data.train_dataloader())), next(iter(module(folder).train_dataloader()))
    assert not plain.target_labels and torch.equal(plain.item_ids, fresh.item_ids)
    assert not torch.equal(first.item_ids, plain.item_ids)
    assert data.spec == module(folder).spec


# -- leaks -------------------------------------------------------------------------------------------------------------


def states(model: Any, batch: Batch) -> Tensor:
    """(B, L, D) as training takes them; of an encoder that looks ahead (B, 1, D) at the end of each window."""
    return model.encode_last(batch)[:, None] if model.answers_at_the_end else model.hidden(batch)


def replanted(batch: Batch, column: int) -> Batch:
    """With other types at one position of the inputs."""
    types = batch.event["event_type"].clone()
    types[:, column] = 2 + (types[:, column] - 1) % 3
    return dataclasses.replace(batch, event={**batch.event, "event_type": types})


def built_for(encoder: Any, folder: Path, task: SequenceLabels, **settings: Any) -> tuple[Any, SequenceDataModule]:
    model = small(encoder, task=task, **settings)
    ends = model.last_positions_only or model.answers_at_the_end
    data = module(folder, task, training_mode="last_position" if ends else "all_positions")
    torch.manual_seed(0)
    model._build(data.spec)
    return model, data


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda cls: cls.__name__)
def test_no_state_knows_the_label_that_it_answers(encoder: Any, folder: Path) -> None:
    """Of the next event, and late in the inputs where it is of the event itself, a label stands one position behind the
    state that answers it: planted there anew, it must not change that state."""
    model, data = built_for(encoder, folder, SequenceLabels("event_type", "event"))
    batch = next(iter(data.train_dataloader()))
    model.eval()
    before = states(model, batch)
    for column in range(batch.item_ids.shape[1] - 1):
        after = states(model, replanted(batch, column + 1))
        if model.answers_at_the_end:
            ends = batch.lengths - 1 == column
            torch.testing.assert_close(after[ends], before[ends])
        else:
            torch.testing.assert_close(after[:, column], before[:, column])
            is_there = (batch.lengths > column + 1) & (batch.event["event_type"][:, column + 1] != 0)
            assert not torch.equal(after[is_there], before[is_there])  # it does read types


@pytest.mark.parametrize("of", ["next", "event"])
def test_a_label_planted_in_the_data_changes_no_answer_to_it(folder: Path, of: Any) -> None:
    model, data = built_for(SASRec, folder, SequenceLabels("event_type", of))
    model.eval()
    (batch,) = list(data.test_dataloader())  # one target for each user
    before = model.query(batch)
    for column in (data.events.fields["event_type"], data.events.labels["event_type"]):
        column.codes = np.array(column.codes)  # type: ignore[attr-defined]
        column.codes[batch.target_event] = 1 + column.codes[batch.target_event] % 3  # type: ignore[attr-defined]
    (planted,) = list(data.test_dataloader())
    assert not (planted.target_labels["event_type"] == batch.target_labels["event_type"]).any()
    torch.testing.assert_close(model.query(planted), before)
    if of == "event":  # and it would have been noticed
        data.events.late = frozenset()
        (leaking,) = list(data.test_dataloader())
        assert (model.query(leaking) - before).abs().amax(dim=1).min() > 1e-4


# -- loss --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda cls: cls.__name__)
def test_every_encoder_gets_gradients_from_labels(encoder: Any, folder: Path) -> None:
    model, data = built_for(encoder, folder, SequenceLabels("event_type"))
    batch = next(iter(data.train_dataloader()))
    hidden = states(model, batch)
    state = State(hidden[:, 0]) if model.answers_at_the_end else State(None, hidden)
    mean, total = model.task.loss(state, batch, model.scorer, None)
    mean.backward()
    assert float(total) == int((batch.target_ids != 0).sum()) and float(mean) == pytest.approx(np.log(3), abs=0.5)
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_loss_of_classes_by_hand(folder: Path) -> None:
    model, data = built_for(GRU4Rec, folder, SequenceLabels("event_type"))
    batch = next(iter(data.train_dataloader()))
    labels, hidden = batch.target_labels["event_type"].clone(), model.hidden(batch).detach()
    row, column = np.argwhere((batch.target_ids != 0).numpy())[0]
    labels[row, column] = 0  # a value that the training part lacks
    weights = torch.rand(labels.shape) * (batch.target_ids != 0)
    changed = dataclasses.replace(batch, target_labels={"event_type": labels}, target_weights=weights)
    mean, total = model.task.loss(State(None, hidden), changed, model.scorer, None)
    log_p = model.task.head(hidden).log_softmax(-1)
    each = [
        (float(weights[i, t]), -float(log_p[i, t, labels[i, t] - 2])) for i, t in np.argwhere((labels >= 2).numpy())
    ]
    assert float(total) == pytest.approx(sum(w for w, _ in each), rel=1e-5)
    assert float(mean) == pytest.approx(sum(w * e for w, e in each) / sum(w for w, _ in each), rel=1e-5)


@pytest.mark.parametrize("error", ["squared", "absolute"])
def test_loss_of_numbers_by_hand(folder: Path, error: Any) -> None:
    model, data = built_for(GRU4Rec, folder, SequenceLabels("seconds", error=error))
    batch = next(iter(data.train_dataloader()))
    hidden = model.hidden(batch).detach()
    mean, total = model.task.loss(State(None, hidden), batch, model.scorer, None)
    value, missing = batch.target_labels["seconds"].unbind(-1)
    known = (batch.target_ids != 0) & (missing == 0)
    difference = (model.task.head(hidden).squeeze(-1) - value)[known]
    assert int(total) == int(known.sum()) < int((batch.target_ids != 0).sum()) + 1
    expected = difference.square() if error == "squared" else difference.abs()
    torch.testing.assert_close(mean, expected.mean())
    assert not (missing[batch.target_ids != 0] == 1).any()  # events without a number are no targets


def test_numbers_are_told_as_the_data_have_them(folder: Path) -> None:
    model, data = built_for(GRU4Rec, folder, SequenceLabels("seconds"))
    (batch,) = list(data.test_dataloader())
    with torch.no_grad():
        found = model.task.evaluate(State(model.query(batch)), batch, model.scorer)
    outcome = {name: column.numpy() for name, column in found.items()}
    raw = np.asarray(data.processed.field_array("seconds"))[outcome["unit"]]
    np.testing.assert_allclose(outcome["label"], raw, rtol=1e-5)
    known = ~np.isnan(raw)
    value, weight = model.task.metrics({k: v.astype(np.float64) for k, v in outcome.items()})["mae"]
    expected = np.abs(outcome["output"] - outcome["label"])[known].mean()
    assert 0 < known.sum() < len(raw) and np.average(value, weights=weight) == pytest.approx(expected)


# -- bad inputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("event_typ", "'event_typ' is no field of the data; categorical and numeric fields of the events: .*Did you"),
        ("place", "'place' has the one value 'here' in the training part: there is nothing to predict"),
    ],
)
def test_fields_that_can_not_be_predicted(folder: Path, field: str, expected: str) -> None:
    with pytest.raises(RecsysLabError, match=f"--model.task.field.*{expected}"):
        _ = module(folder, SequenceLabels(field)).spec


def test_what_contradicts_the_task(folder: Path, tmp_path: Path) -> None:
    task = SequenceLabels("event_type")
    with pytest.raises(RecsysLabError, match="every target is of one type"):
        _ = module(folder, task, target_types=["type1"]).spec
    with pytest.raises(RecsysLabError, match="BERT4Rec reads later events of its window, so it must train with"):
        quiet_trainer(tmp_path).fit(small(BERT4Rec, task=task), module(folder))
    timed = small(HSTU, task=SequenceLabels("event_type", "event"), query_time=True)
    with pytest.raises(RecsysLabError, match="HSTU: task labels events that its window holds, and HSTU reads the time"):
        quiet_trainer(tmp_path).fit(timed, module(folder))
