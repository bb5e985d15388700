"""Shuffled histories: permutations of the history, uniform, the same for any batch, against a slow reference."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy import stats

from recsys_lab.data.batches.field_columns import CategoricalColumn
from recsys_lab.data.batches.gather import Events, WindowDataset
from recsys_lab.data.batches.windows import evaluation_windows
from recsys_lab.diagnose.shuffled_data import STREAM, Kind, Scope, ShuffledWindows
from recsys_lab.words import RecsysLabError

STEP, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
KINDS: tuple[Kind, ...] = ("all", "all_but_last")


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def slow_order(length: int, kind: str, seed: int, user: int, place: int) -> list[int]:
    """Places 0..length - 1 in shuffled order: SplitMix64 in whole numbers, event by event."""
    key = mix((mix((mix(seed ^ STREAM) + user * STEP) & MASK) + place * STEP) & MASK)
    moving = range(length - 1) if kind == "all_but_last" else range(length)
    order = sorted(moving, key=lambda event: mix((key + (event + 1) * STEP) & MASK))
    return order + [length - 1] * (kind == "all_but_last")


def samples(lengths: list[int], max_length: int, every_target: bool = False, repeats: bool = False) -> WindowDataset:
    """Users with so many events; the target is each user's last event, or each event but the first."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = np.concatenate([np.arange(n) % (3 if repeats else n) for n in lengths]).astype(np.int32) + 1
    times = np.concatenate([np.arange(n) * 10 for n in lengths]).astype(np.int64)
    events = Events(items, times, offsets, {"type": CategoricalColumn(items % 5 + 1, np.arange(6))})
    if every_target:
        user = np.repeat(np.arange(len(lengths)), np.array(lengths) - 1)
        position = np.concatenate([np.arange(offsets[u] + 1, offsets[u + 1]) for u in range(len(lengths))])
    else:
        user, position = np.arange(len(lengths)), offsets[1:] - 1
    return WindowDataset(events, evaluation_windows(offsets[:-1], user, position, max_length), "evaluate")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_length", [1, 3, 50])
def test_equals_the_slow_reference(kind: Kind, max_length: int) -> None:
    original = samples([2, 3, 9, 17, 4], max_length, every_target=True)
    windows, begin = original.windows, original.events.offsets[:-1]
    batch = ShuffledWindows(original, kind, seed=7)[list(range(len(original)))]
    for row in range(len(original)):
        user, stop = int(windows.user_index[row]), int(windows.stop[row])
        history = original.events.item_ids[begin[user] : stop]
        order = slow_order(len(history), kind, 7, user, len(history))
        expected = [int(history[place]) for place in order][-max_length:]
        assert batch.item_ids[row, : batch.lengths[row]].tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["history", "window"])
def test_only_the_order_changes(kind: Kind, scope: Scope) -> None:
    original = samples([2, 3, 9, 17, 40], max_length=8, every_target=True, repeats=True)
    rows = list(range(len(original)))
    before, after = original[rows], ShuffledWindows(original, kind, 3, scope)[rows]
    for name in (f.name for f in fields(before)):
        if name not in ("item_ids", "event", "target", "user", "shown"):
            old, new = getattr(before, name), getattr(after, name)
            same = torch.equal(old, new) if isinstance(old, torch.Tensor) else old is new or old == new == {}
            assert same, name
    assert not torch.equal(before.item_ids, after.item_ids)
    assert torch.equal(after.item_ids > 0, after.valid_mask)
    assert torch.equal(after.event["type"], torch.where(after.valid_mask, after.item_ids % 5 + 1, 0))  # moved together
    for row in rows:
        length = int(after.lengths[row])
        shown = Counter(after.item_ids[row, :length].tolist())
        begin = original.events.offsets[original.windows.user_index[row]]
        history = Counter(original.events.item_ids[begin : original.windows.stop[row]].tolist())
        assert shown <= history  # also where an item occurs twice
        if scope == "window" or history.total() <= 8:
            assert shown == Counter(before.item_ids[row, :length].tolist())
        if kind == "all_but_last":
            assert after.item_ids[row, length - 1] == before.item_ids[row, length - 1]


def orders(kind: Kind, seeds: range, lengths: list[int], every_target: bool = False) -> list[tuple[int, ...]]:
    """The shuffled histories of four events."""
    original = samples(lengths, max_length=4, every_target=every_target)
    rows = [r for r in range(len(original)) if original.windows.lengths[r] == 4]
    batches = [ShuffledWindows(original, kind, seed)[rows].item_ids for seed in seeds]
    return [tuple(history) for history in torch.cat(batches).tolist()]


@pytest.mark.parametrize(
    ("seeds", "users"),
    [(range(3), 1_600), (range(600), 8)],
    ids=["over users", "over seeds"],
)
def test_every_order_is_equally_likely(seeds: range, users: int) -> None:
    """Chi-square over the 24 orders of four events, and over the 6 of the first three where the last one stays."""
    counts = Counter(orders("all", seeds, [5] * users))
    assert len(counts) == 24 and stats.chisquare(list(counts.values())).pvalue > 0.001
    counts = Counter(orders("all_but_last", seeds, [5] * users))
    assert {order[-1] for order in counts} == {4}
    assert len(counts) == 6 and stats.chisquare(list(counts.values())).pvalue > 0.001


def test_orders_of_neighbours_are_independent() -> None:
    """Neither two users, two seeds nor two kinds of one user share where their oldest event goes."""
    one = [order.index(1) for order in orders("all", range(1), [5] * 4_800)]
    other = [order.index(1) for order in orders("all", range(1, 2), [5] * 4_800)]
    for a, b in ((one[:-1], one[1:]), (one, other)):
        table = np.zeros((4, 4))
        np.add.at(table, (a, b), 1)
        assert stats.chi2_contingency(table).pvalue > 0.001


def test_successive_targets_of_a_user_have_orders_of_their_own() -> None:
    original = samples([60], max_length=100, every_target=True)
    shuffled = ShuffledWindows(original)[list(range(len(original)))]
    places = [shuffled.item_ids[row].tolist().index(1) / int(shuffled.lengths[row]) for row in range(20, 59)]
    assert len(set(places)) > 20  # one order cut at each target would give one value


def test_the_batch_does_not_matter() -> None:
    original = samples([3, 9, 17, 40, 6], max_length=8, every_target=True)
    shuffled, again = ShuffledWindows(original, seed=1), ShuffledWindows(original, seed=1)
    together = shuffled[list(range(len(original)))].item_ids
    rows = np.random.default_rng(5).permutation(len(original))
    apart = [again[[int(row)]] for row in rows]
    for row, batch in zip(rows, apart, strict=True):
        assert together[row, : int(batch.lengths[0])].tolist() == batch.item_ids[0].tolist()
    assert not torch.equal(together, ShuffledWindows(original, seed=2)[list(range(len(original)))].item_ids)


def test_no_window_is_a_prefix_of_another() -> None:
    """Each target has a shuffle of its own, also where the windows of the original share their events."""
    plain = samples([3, 9, 17], max_length=20, every_target=True)
    rows = list(range(len(plain)))
    sharing = WindowDataset(plain.events, plain.windows, "evaluate", find_prefixes=True)
    assert sharing[rows].prefix_of is not None
    shuffled = ShuffledWindows(sharing)[rows]
    assert shuffled.prefix_of is None
    assert torch.equal(shuffled.item_ids, ShuffledWindows(plain)[rows].item_ids)


def test_data_without_event_types() -> None:
    original = samples([9, 17], max_length=8)
    original.events.fields = {}
    assert ShuffledWindows(original)[[0, 1]].event == {}


def test_wrong_input_says_so() -> None:
    original = samples([9], max_length=8)
    with pytest.raises(RecsysLabError, match="known: all, all_but_last"):
        ShuffledWindows(original, "last")  # type: ignore[arg-type]
    with pytest.raises(RecsysLabError, match="known: history, window"):
        ShuffledWindows(original, "all", 0, "session")  # type: ignore[arg-type]
    training = WindowDataset(original.events, original.windows, "train")
    with pytest.raises(RecsysLabError, match="'train'"):
        ShuffledWindows(training)
