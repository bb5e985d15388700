"""The audit against examples worked by hand, and against slow loops on random logs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_data import made_events, prepared

from recsys_lab.audit import audit, failures, parse_thresholds
from recsys_lab.audit.card import data_card, distribution, popularity
from recsys_lab.audit.leakage import future_items, leakage, share_later
from recsys_lab.audit.log import Log
from recsys_lab.audit.order import duplicate_events, duplicate_users, order_facts
from recsys_lab.audit.rules import count_rules, order_rules
from recsys_lab.data.histories import order_within_users
from recsys_lab.data.split.leave_one_out import GlobalTemporal, LeaveOneOut
from recsys_lab.words import RecsysLabError

A, B, C, D, E, F = range(1, 7)
FIVE_USERS = [
    [(A, 10), (B, 20), (C, 30), (D, 40)],
    [(A, 11), (B, 21), (C, 31), (D, 41)],  # the items of the first user
    [(A, 50), (A, 60), (B, 70), (A, 80)],  # repeats, one of them at once; the target is in the history
    [(E, 90), (B, 90), (C, 100), (F, 110)],  # a tie; the target is cold
    [(B, 5), (B, 5)],  # too short to be evaluated; the same event twice
]


def log_of(users: list[list[tuple[int, int]]], num_items: int, times: bool = True) -> Log:
    events = [event for user in users for event in user]
    offsets = np.cumsum([0, *(len(user) for user in users)])
    stamps = np.array([t for _, t in events], dtype=np.int64) if times else None
    return Log(np.array([i for i, _ in events], dtype=np.int32), offsets, num_items, stamps)


def test_card_by_hand() -> None:
    card = data_card(log_of(FIVE_USERS, 6))
    assert (card["users"], card["items"], card["events"]) == (5, 6, 18)
    assert card["distinct_pairs"] == 4 + 4 + 2 + 4 + 1
    assert card["density"] == 15 / 30
    assert card["history_length"]["min"] == 2 and card["history_length"]["max"] == 4
    assert card["history_length"]["histogram"] == {"edges": [2, 3, 5], "counts": [1, 4]}
    assert card["time"]["days"] == (110 - 5) / 86400
    assert card["time"]["resolution_seconds"] == 1
    assert card["time"]["first"] == "1970-01-01T00:00:05+00:00"


def test_popularity_by_hand() -> None:
    even = popularity(np.full(20, 3))
    assert even["gini"] == pytest.approx(0) and even["decile_shares"] == pytest.approx([0.1] * 10)
    uneven = popularity(np.array([1, 3]))
    assert uneven["gini"] == pytest.approx(0.25)  # mean absolute difference 1 / (2 * mean 2)
    one = popularity(np.array([991, 1, 1, 1, 1, 1, 1, 1, 1, 1]))
    assert one["decile_shares"][0] == 0.991 and one["top_1_percent_share"] == 0.991


def test_day_stamps_are_seen() -> None:
    day = 86400
    card = data_card(log_of([[(A, 5 * day + 7), (B, 6 * day + 7)], [(A, 9 * day + 7)]], 2))
    assert card["time"]["resolution_seconds"] == day and card["time"]["median_gap_seconds"] == day


def test_every_value_is_in_a_bin() -> None:
    values = np.arange(1, 2345)
    found = distribution(values)["histogram"]
    assert sum(found["counts"]) == len(values)
    for low, high, count in zip(found["edges"][:-1], found["edges"][1:], found["counts"], strict=True):
        assert count == ((values >= low) & (values < high)).sum()


def test_order_by_hand() -> None:
    assert order_facts(log_of(FIVE_USERS, 6)) == {
        "tied_events": 4,  # E and B at 90, B and B at 5
        "repeated_events": 2 + 1,
        "consecutive_repeats": 1 + 1,
        "duplicate_events": 1,
        "duplicate_users": 2,
        "duplicate_users_of_5_events": 0,
    }
    untimed = order_facts(log_of(FIVE_USERS, 6, times=False))
    assert untimed["tied_events"] is None and untimed["duplicate_events"] is None
    assert untimed["repeated_events"] == 3


def test_duplicate_events_tell_types_apart() -> None:
    log = log_of([[(A, 5), (A, 5), (A, 5), (A, 6)]], 1)
    assert duplicate_events(log) == 2
    types = np.array([1, 2, 1, 1], dtype=np.uint8)
    assert duplicate_events(Log(log.item_ids, log.offsets, 1, log.timestamps, types)) == 1


def test_duplicate_users_are_of_one_length_and_order() -> None:
    users = [[(A, 0), (B, 1)], [(B, 0), (A, 1)], [(A, 0), (B, 1), (A, 2)], [(A, 8), (B, 9)], [(A, 0)]]
    assert duplicate_users(log_of(users, 2)).tolist() == [True, False, False, True, False]


def test_leave_one_out_by_hand() -> None:
    log = log_of(FIVE_USERS, 6)
    found = leakage(log, LeaveOneOut().apply(log.offsets, log.timestamps))
    # training: A10 B20 | A11 B21 | A50 A60 | E90 B90 | B5 B5; test: D40 D41 A80 F110
    assert found["training_events"] == 10 and found["training_items"] == 3
    test = found["test"]
    assert test["targets"] == test["users"] == 4
    assert test["seen"] == 1 / 4
    assert test["cold"] == 3 / 4
    assert test["trained"] == 0
    assert test["tied"] == 0
    assert test["future_events"] == 4 / 10  # A50 A60 E90 B90 are later than 40
    assert test["future_events_per_target"] == (4 + 4 + 2 + 0) / 40
    # candidates A (first at 10), B (5) and E (90): E does not exist yet at 40, 41 and 80
    assert test["future_candidates"] == test["future_popular_items"] == 3 / 12
    assert test["future_target_items"] == 0
    assert found["val_targets_after_first_test_target"] == 2 / 4  # C30 C31 B70 C100 against 40
    when = found["when"]
    assert sum(when["training"]) == 10 and sum(when["val"]) == sum(when["test"]) == 4


def test_item_that_only_the_future_knows() -> None:
    log = log_of([[(A, 1), (B, 2), (C, 3)], [(C, 7), (A, 8), (B, 9)]], 3)
    test = leakage(log, LeaveOneOut().apply(log.offsets, log.timestamps))["test"]
    assert test["future_target_items"] == 1 / 2  # C at 3 is trained on by C at 7 alone; B at 9 not at all
    assert test["cold"] == 1 / 2


@pytest.mark.parametrize("target", ["last", "random", "all", "first"])
def test_global_temporal_has_no_future(target: str, tmp_path: Path) -> None:
    data = prepared(tmp_path / "small", made_events(num_users=40, longest=20))
    found = audit(data, GlobalTemporal(0.8, target=target))
    for name in ("future_events", "future_events_per_target", "future_val_targets", "trained_targets"):
        assert found["checks"][name]["value"] == 0
    assert found["leakage"]["val"]["future_events"] == 0
    assert failures(found, {}) == []
    assert audit(data, LeaveOneOut())["checks"]["future_events"]["value"] > 0.5


def test_a_split_that_breaks_its_word_fails(tmp_path: Path) -> None:
    class Liar(LeaveOneOut):
        leaky = False

    data = prepared(tmp_path / "small", made_events())
    lines = failures(audit(data, Liar()), {})
    assert len(lines) == 1 and lines[0].startswith("future_events is ")
    assert failures(audit(data, LeaveOneOut()), {}) == []


def test_future_items_by_hand() -> None:
    log = log_of(FIVE_USERS, 6)
    users, items = np.array([0, 0, 2, 2]), np.array([A, E, E, F])
    assert future_items(log, users, items, None) == 3 / 4  # at 40: A yes, E (90) no; at 80: E no, F (110) no
    assert future_items(log, users, items, np.array([40, 95, 95, 95])) == 1 / 4


def test_share_later_is_strict() -> None:
    assert share_later(np.array([1, 2, 2, 3]), np.array([2])) == 1 / 4
    assert share_later(np.array([], dtype=np.int64), np.array([2])) is None


def slow_rules(users: list[list[int]], n: int, support: int, confidence: float) -> int:
    def grams(size: int) -> Counter[tuple[int, ...]]:
        return Counter(tuple(u[k : k + size]) for u in users for k in range(len(u) - size + 1))

    shorter = grams(n - 1)
    return sum(c > support and c / shorter[gram[:-1]] > confidence for gram, c in grams(n).items())


@pytest.mark.parametrize("support", [0, 1, 3])
def test_rules_equal_a_slow_count(support: int) -> None:
    draw = np.random.default_rng(support)
    users = [draw.integers(1, 7, size=draw.integers(1, 15)).tolist() for _ in range(60)]
    log = log_of([[(item, k) for k, item in enumerate(user)] for user in users], 7)
    expected = [slow_rules(users, n, support, 0.15) for n in (2, 3, 4)]
    assert count_rules(log, log.item_ids, 4, support, 0.15) == expected
    assert expected[0] > 0 and expected[1] > 0


def test_rules_vanish_when_shuffled_only_if_order_matters() -> None:
    chain = [[(1 + (start + k) % 50, k) for k in range(10)] for start in range(50)]
    two, three = order_rules(log_of(chain, 50))
    assert two["rules"] == three["rules"] == 50 and two["change"] < -0.8 and three["change"] == -1
    draw = np.random.default_rng(0)
    noise = [[(int(item), k) for k, item in enumerate(draw.integers(1, 5, size=30))] for _ in range(50)]
    two, _ = order_rules(log_of(noise, 4))
    assert two["rules"] == 16 and two["change"] == 0


def test_shuffling_keeps_every_users_items() -> None:
    log = log_of(FIVE_USERS, 6)
    order = order_within_users(log.offsets, np.random.default_rng(1).integers(9, size=18), 9)
    for begin, end in zip(log.offsets[:-1], log.offsets[1:], strict=True):
        assert sorted(order[begin:end]) == list(range(begin, end))


def test_order_of_numbers_too_large_to_pack() -> None:
    log = log_of(FIVE_USERS, 6)
    key = np.random.default_rng(2).integers(3, size=18)
    assert (order_within_users(log.offsets, key, 3) == order_within_users(log.offsets, key, 1 << 62)).all()


def test_recommendations(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        [("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("v", "a", 4), ("v", "b", 5), ("v", "late", 6)],
        schema=["user_id", "item_id", "timestamp"],
        orient="row",
    )
    data = prepared(tmp_path / "small", frame)
    file = tmp_path / "recommendations.parquet"
    pl.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["late", "a", "late"]}).write_parquet(file)
    found = audit(data, LeaveOneOut(), file)
    assert found["recommendations"]["rows"] == 3 and found["recommendations"]["users"] == 2
    assert found["checks"]["future_items"]["value"] == pytest.approx(1 / 3)
    # the time of the recommendation, where the file has it: `late` exists from 6 on, `c` from 3 on
    rows = {"user_id": ["u", "u", "u", "v", "v"], "item_id": ["late", "late", "c", "c", "late"]}
    timed = pl.DataFrame(rows | {"query_time": [5, 6, 3, 2, 99]})
    timed.write_parquet(file)
    found = audit(data, LeaveOneOut(), file)
    assert found["recommendations"]["time"] == "column query_time"
    assert found["checks"]["future_items"]["value"] == pytest.approx(2 / 5)
    for wrong in (pl.lit(None, pl.Int64), pl.lit("today"), pl.lit(1.5)):
        timed.with_columns(wrong.alias("query_time")).write_parquet(file)
        with pytest.raises(RecsysLabError, match="whole seconds"):
            audit(data, LeaveOneOut(), file)
    pl.DataFrame({"user_id": ["w"], "item_id": ["a"]}).write_parquet(file)
    with pytest.raises(RecsysLabError, match="'w'"):
        audit(data, LeaveOneOut(), file)
    pl.DataFrame({"user": ["w"]}).write_parquet(file)
    with pytest.raises(RecsysLabError, match="no column 'user_id'"):
        audit(data, LeaveOneOut(), file)


def test_thresholds() -> None:
    assert parse_thresholds(["future_events=0", "cold_targets=0.05"]) == {"future_events": 0, "cold_targets": 0.05}
    for text in ("future_events", "future_events=", "future_events=x", "future_events=-1", "cold_targets=5", "=0"):
        with pytest.raises(RecsysLabError):
            parse_thresholds([text])
    with pytest.raises(RecsysLabError, match="future_events"):
        parse_thresholds(["future_evens=0"])
    with pytest.raises(RecsysLabError, match="twice"):
        parse_thresholds(["cold_targets=0", "cold_targets=1"])


def test_what_is_not_known_is_not_passed(tmp_path: Path) -> None:
    data = prepared(tmp_path / "small", made_events().drop("timestamp"))
    found = audit(data, LeaveOneOut())
    assert found["checks"]["future_events"]["value"] is None
    assert failures(found, {}) == []
    assert "not known" in failures(found, {"future_events": 1.0})[0]


def test_a_million_events() -> None:
    """Slow loops over users or events would keep this test for hours, and so no clock is asked."""
    draw = np.random.default_rng(0)
    users, events = 20_000, 1_000_000
    inner = np.sort(draw.choice(np.arange(1, events), users - 1, replace=False))
    offsets = np.concatenate([[0], inner, [events]])
    stamps = np.arange(events, dtype=np.int64)
    log = Log(draw.integers(1, 20_001, events).astype(np.int32), offsets, 20_000, stamps)
    owners = np.repeat(np.arange(users), np.diff(offsets))
    pairs = len(np.unique(owners * 20_001 + log.item_ids))
    assert data_card(log)["distinct_pairs"] == pairs
    assert order_facts(log)["repeated_events"] == events - pairs
    assert [row["rules"] for row in order_rules(log)] == [0, 0]  # items at random follow no rule
    found = leakage(log, LeaveOneOut().apply(offsets, stamps))
    assert found["test"]["targets"] == int((np.diff(offsets) >= 3).sum())
    # users follow one another in time, so a model learns from the later half of the users of a target
    assert found["test"]["future_events_per_target"] == pytest.approx(0.5, abs=0.01)
