"""Every combination of the global temporal split on five users, worked by hand.

Event positions in the flat array, and the day of each event. The test cut is day 8, the validation cut day 5:

             before day 5     day 5 to 7      from day 8
    Ana      0  1  2          3  4            5  6           days 1 2 3 | 5 6 | 9 10
    Ben      7  8             9               10             days 2 4   | 7   | 8
    Cem                       11 12           13 14          days       | 5 6 | 9 9
    Dee                                       15 16 17       days       |     | 8 9 10
    Eve      18                               19             days 4     |     | 10

11 and 15 are their users' first events: nothing comes before them, so they are never targets.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from recsys_lab.data.split.leave_one_out import GlobalTemporal, SplitResult

DAY = 86_400
USERS = {"Ana": [1, 2, 3, 5, 6, 9, 10], "Ben": [2, 4, 7, 8], "Cem": [5, 6, 9, 9], "Dee": [8, 9, 10], "Eve": [4, 10]}
OFFSETS = np.cumsum([0, *map(len, USERS.values())])
TIMES = np.array([day * DAY for days in USERS.values() for day in days])

# Three ways to say the same cuts. In order of time event 12 (of 20) is of day 8, and event 6 of the 11 before is of day
# 5; day 8 is 1970-01-09; the newest 3 days of the data are 8, 9, 10, and the 3 before are 5, 6, 7.
TEST_CUTS = {"quantile": {"quantile": 0.6}, "date": {"test_date": "1970-01-09"}, "window": {"test_window": "3d"}}
VAL_CUTS = {"quantile": {"val_quantile": 0.6}, "date": {"val_date": "1970-01-06"}, "window": {"val_window": "3d"}}

# where each user's training part stops:       Ana Ben Cem Dee Eve
TRAIN_STOP = {
    "by_time": [3, 9, 11, 15, 19],  #          012  78   -   -  18
    "last_train_item": [4, 9, 12, 15, 19],  # 0123  78  11   -  18      (Eve has one event before day 8: it trains)
    "final": [5, 10, 13, 15, 19],  #         01234 789 11,12 -  18
}

VAL = {
    # validation, users:                    target:      Ana   Ben  Cem
    ("by_time", "all"): {"last": [4, 9, 12], "first": [3, 9, 12], "all": [3, 4, 9, 12]},
    ("by_time", "warm"): {"last": [4, 9], "first": [3, 9], "all": [3, 4, 9]},  # Cem trains on nothing
    ("last_train_item", "all"): dict.fromkeys(("last", "first", "all"), [4, 9, 12]),
    ("last_train_item", "warm"): dict.fromkeys(("last", "first", "all"), [4, 9, 12]),
}

EVERYBODY = {"last": [6, 10, 14, 17, 19], "first": [5, 10, 13, 16, 19], "all": [5, 6, 10, 13, 14, 16, 17, 19]}
WITHOUT_DEE = {"last": [6, 10, 14, 19], "first": [5, 10, 13, 19], "all": [5, 6, 10, 13, 14, 19]}
WITHOUT_CEM_AND_DEE = {"last": [6, 10, 19], "first": [5, 10, 19], "all": [5, 6, 10, 19]}
TEST = {
    ("by_time", "all"): EVERYBODY,
    ("by_time", "warm"): WITHOUT_CEM_AND_DEE,
    ("last_train_item", "all"): EVERYBODY,
    ("last_train_item", "warm"): WITHOUT_DEE,  # Cem trains on event 11
    ("final", "all"): EVERYBODY,
    ("final", "warm"): WITHOUT_DEE,
}

FIRST, COLD = "events that are their user's first (no history)", "users without a training event (not warm)"
ONE_EVENT = "users with one event before the test cut (it trains only)"
DROPPED = {
    ("by_time", "all"): {f"val {FIRST}": 1, f"test {FIRST}": 1},  # 11; 15
    ("by_time", "warm"): {f"val {COLD}": 1, f"test {COLD}": 2},  # Cem; Cem, Dee
    ("last_train_item", "all"): {ONE_EVENT: 1, f"test {FIRST}": 1},  # Eve; 15
    ("last_train_item", "warm"): {ONE_EVENT: 1, f"test {COLD}": 1},  # Eve; Dee
    ("final", "all"): {f"test {FIRST}": 1},
    ("final", "warm"): {f"test {COLD}": 1},
}

CUTS = [("by_time", test, val) for test, val in product(TEST_CUTS, VAL_CUTS)]
CUTS += [("last_train_item", test, None) for test in TEST_CUTS]


def check(result: SplitResult, form: str, validation: str, users: str, target: str) -> None:
    assert result.train_stop.tolist() == TRAIN_STOP[form]
    assert result.dropped == DROPPED[form, users]
    expected_val = VAL[validation, users] if form != "final" else dict.fromkeys(("last", "first", "all"), [])
    for targets, expected in ((result.val, expected_val), (result.test, TEST[form, users])):
        owners = (np.searchsorted(OFFSETS, targets.position, side="right") - 1).tolist()
        assert targets.user_index.tolist() == owners
        if target != "random":
            assert targets.position.tolist() == expected[target]
        else:  # one of those that `all` predicts, for each user
            assert set(targets.position.tolist()) <= set(expected["all"])
            assert owners == sorted(set(np.searchsorted(OFFSETS, expected["all"], side="right") - 1))


@pytest.mark.parametrize("users", ["all", "warm"])
@pytest.mark.parametrize("target", ["last", "random", "all", "first"])
@pytest.mark.parametrize(("validation", "test_cut", "val_cut"), CUTS)
def test_by_hand(validation: Any, test_cut: str, val_cut: str | None, target: Any, users: Any) -> None:
    cuts: dict[str, Any] = TEST_CUTS[test_cut] | (VAL_CUTS[val_cut] if val_cut else {})
    split = GlobalTemporal(**cuts, target=target, validation=validation, users=users)
    result = split.apply(OFFSETS, TIMES)
    check(result, validation, validation, users, target)
    assert result.final is not None and result.final.final is None
    check(result.final, "final", validation, users, target)
    trained = np.concatenate([TIMES[a:b] for a, b in zip(OFFSETS[:-1], result.final.train_stop, strict=True)])
    assert trained.max() < TIMES[result.test.position].min(), "nothing that trains is as late as a target"
    for form in (result, result.final):
        assert form.cut_time is not None and not any(
            (TIMES[a:b] >= form.cut_time).any() for a, b in zip(OFFSETS[:-1], form.train_stop, strict=True)
        )


def test_random_reaches_every_candidate() -> None:
    splits = [GlobalTemporal(0.6, 0.6, target="random", seed=seed) for seed in range(40)]
    drawn = {position for split in splits for position in split.apply(OFFSETS, TIMES).test.position.tolist()}
    assert drawn == set(EVERYBODY["all"])


def test_what_a_reader_is_told() -> None:
    assert GlobalTemporal().describe() == "global_temporal (q=0.9, target=last)"
    split = GlobalTemporal(test_window="7d", target="all", validation="last_train_item", users="warm")
    assert split.describe() == "global_temporal (last 7d, target=all, validation=last_train_item, users=warm)"
    assert GlobalTemporal(test_date="2014-01-31").describe() == "global_temporal (2014-01-31, target=last)"
    first = GlobalTemporal(target="first")
    assert first.warning is not None and "-0.37" in first.warning and "reverse" in first.describe()
    assert GlobalTemporal(target="last").warning is None
