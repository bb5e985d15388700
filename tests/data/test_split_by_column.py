"""A split that a column of the events gives, against brute force, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_fields import WithFields
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.config import from_config, to_config
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import ByColumn, LeaveOneOut
from recsys_lab.models import GRU4Rec
from recsys_lab.words import RecsysLabError

NAMES = ("train", "val", "test")


def made(
    users: list[str], names: tuple[Any, ...] = NAMES, times: list[int] | None = None, numeric: bool = False
) -> Any:
    """A data set of users such as "aabt": a train, b val, c test, . without a value."""
    events = "".join(users)
    code = np.array([0 if e == "." else "abc".index(e) + 1 for e in events])
    field = SimpleNamespace(scope="event", kind="numeric" if numeric else "categorical")
    values = np.where(code == 0, np.nan, code - 1).astype(np.float32) if numeric else code.astype(np.uint8)
    return SimpleNamespace(
        fields={"fold": field},
        offsets=np.cumsum([0, *map(len, users)]),
        timestamps=np.array(times if times is not None else range(len(events))),
        has_timestamps=times is not None,
        user_ids=pl.Series([f"u{i}" for i in range(len(users))]),
        field_array=lambda key: values,
        field_values=lambda key: pl.Series(names),
    )


one_user = st.tuples(st.integers(0, 3), st.text("b.", max_size=3), st.text("c.", max_size=3)).map(
    lambda parts: "a" * parts[0] + parts[1] + parts[2]
)


@settings(max_examples=150, deadline=None)
@given(
    users=st.lists(one_user.filter(bool), min_size=1, max_size=6), target=st.sampled_from(["all", "last", "together"])
)
def test_targets_and_where_training_stops(users: list[str], target: Any) -> None:
    users = [*users, "abc"]
    found, start = ByColumn("fold", target=target).of(made(users)), 0
    expected: dict[str, list[tuple[int, int, int]]] = {"val": [], "test": []}
    for user, events in enumerate(users):
        stops = [len(events) - len(events.lstrip("a")), len(events) - len(events.lstrip("ab"))]
        assert found.train_stop[user] - start == stops[0]
        assert found.final is not None and found.final.train_stop[user] - start == stops[1]
        for part, letter in (("val", "b"), ("test", "c")):
            own = [start + i for i, event in enumerate(events) if event == letter and i > 0]
            if target == "last":
                own = own[-1:]
            expected[part] += [(user, p, own[0] if target == "together" else p) for p in own]
        start += len(events)
    for part, targets in (("val", found.val), ("test", found.test), ("test", found.final.test)):
        query = targets.position if targets.query is None else targets.query
        assert list(zip(targets.user_index, targets.position, query, strict=True)) == expected[part]
        assert (targets.query is not None) == (target == "together")
    assert not len(found.final.val)
    first = sum(events[0] in "bc" for events in users)
    assert sum(n for reason, n in found.dropped.items() if "no history" in reason) == first
    assert sum(n for reason, n in found.dropped.items() if "without a value" in reason) == "".join(users).count(".")


def test_it_leaks_unless_one_moment_separates_the_parts() -> None:
    split = ByColumn("fold")
    clean = split.of(made(["aabc", "ac"], times=[1, 2, 7, 8, 5, 9]))
    assert clean.cut_time == 7 and not split.leaky and split.describe() == "by_column (fold)"
    leaks = split.of(made(["aabc", "ac"], times=[1, 2, 7, 8, 7, 9]))
    assert leaks.cut_time is None and split.leaky and split.describe() == "by_column (fold, leaky)"
    assert split.of(made(["aabc"])).cut_time is None, "without times nobody knows"
    assert ByColumn("fold", target="last").describe() == "by_column (fold, target=last, leaky)"


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ({}, ("0", "1", "2")),
        ({}, (0, 1, 2)),
        ({}, ("train", "valid", "test")),
        ({"train": "A", "val": "B", "test": "C"}, ("A", "B", "C")),
        ({"train": "test", "val": "val", "test": "train"}, ("test", "val", "train")),
    ],
)
def test_values_have_many_names(split: dict[str, str], names: tuple[Any, ...]) -> None:
    found = ByColumn("fold", **split).of(made(["aabc"], names))
    assert (found.train_stop.tolist(), found.val.position.tolist(), found.test.position.tolist()) == ([2], [2], [3])
    numbers = ByColumn("fold").of(made(["aab.c"], numeric=True))
    assert (numbers.train_stop.tolist(), numbers.test.position.tolist()) == ([2], [4])


@pytest.mark.parametrize(
    ("users", "names", "message"),
    [
        (
            ["abc", "abac"],
            NAMES,
            "of user 'u1' event 3 is 'train' and comes after event 2, which is 'val': .* train, val, test",
        ),
        (["abcb"], NAMES, "of user 'u0' event 4 is 'val' and comes after event 3, which is 'test'"),
        (["a.abc"], NAMES, "of user 'u0' event 3 is 'train' and comes after event 2, which is without a value"),
        (
            ["abc"],
            ("train", "dev", "test"),
            "'fold' holds 'dev', and its values must be train, val, test: .* split.val",
        ),
        (["aac"], NAMES, "no event has 'val' in 'fold'"),
        (["bac", "bc"], NAMES, "of user 'u0' event 2 is 'train'"),
        (["a", "b", "c"], NAMES, "no val event in 'fold' has an earlier event of its user"),
    ],
)
def test_what_can_not_be_a_split_is_one_line(users: list[str], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecsysLabError, match=message) as error:
        ByColumn("fold").of(made(users, names))
    assert "\n" not in str(error.value)


def test_a_wrong_column_is_one_line() -> None:
    data = made(["abc"])
    with pytest.raises(RecsysLabError, match=r"no field 'part' \(fields of events: fold\): name it with split.column"):
        ByColumn("part").of(data)
    data.fields["fold"].kind = "text"
    with pytest.raises(RecsysLabError, match="'fold' is text: the column must hold one name in a row"):
        ByColumn("fold").of(data)
    with pytest.raises(RecsysLabError, match="must be three names, not train, train, test"):
        ByColumn("fold", val="train")
    assert to_config(from_config(to_config(ByColumn("fold", val="dev")))) == to_config(ByColumn("fold", val="dev"))


def with_fold(folder: Path, **settings: Any) -> SequenceDataModule:
    """Leave-one-out, written as a column."""
    plain = SequenceDataModule(str(folder))
    stored = WithFields(plain.processed)
    part = np.full(plain.processed.num_events, 1, dtype=np.uint8)
    part[plain.split_result.val.position], part[plain.split_result.test.position] = 2, 3
    stored.add("fold", "categorical", part, pl.Series(NAMES))
    data = SequenceDataModule(str(folder), split=ByColumn("fold"), **settings)
    data.__dict__["processed"] = stored
    return data


def test_leave_one_out_written_as_a_column_is_leave_one_out(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "plain", made_events(event_types=1)).path
    data, plain = with_fold(folder), SequenceDataModule(str(folder), split=LeaveOneOut())
    for part in ("val", "test"):
        assert getattr(data.split_result, part).digest() == getattr(plain.split_result, part).digest()
    assert data.spec.training["train_hash"] == plain.spec.training["train_hash"]
    assert data.spec.split == "by_column (fold, leaky)" and data.split.leaky
    metrics = []
    for each in (data, plain):
        trainer = quiet_trainer(tmp_path)
        trainer.fit(model := GRU4Rec(embedding_dim=8), each)
        metrics.append(trainer.test(model, each, verbose=False))
    assert metrics[0] == metrics[1]
    assert data.sees_targets(data.spec.training, "test") is False
    again = with_fold(folder, retrained=True)
    assert not len(again.split_result.val)
    assert data.sees_targets(again.spec.training, "val") and not data.sees_targets(again.spec.training, "test")


def test_the_column_of_the_split_is_fed_to_no_model(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "plain", made_events(event_types=1)).path
    fields = {field.name for field in with_fold(folder, fields="all").spec.fields}
    assert "colour" in fields and "fold" not in fields
    with pytest.raises(RecsysLabError, match="'fold' says which events train .*: leave it out"):
        _ = with_fold(folder, fields=["fold"]).spec
