"""Lists in another order, or without what is too much of one kind: functions of the frame that `recommend` gives.

    longer = predictor.recommend(histories, 100)
    mmr(longer, 10, items=films, by="genres")             # less of the same
    quota(longer, 10, items=films, by="genres", at_most=3)
    popularity_cap(longer, 10, item_frame(predictor), at_most=5)

Each takes k of the items that it is given, so it is given longer lists than are shown. Scores stay the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.arguments import Share
from recsys_lab.data.reading.frames import as_frame
from recsys_lab.serve.item_facts import ItemFacts
from recsys_lab.serve.list_frame import check_k
from recsys_lab.words import ITEM_ID, RecsysLabError

COUNT = "count"
"""The column of training events in `item_frame`."""
HEAD = "head"


def mmr(lists: pl.DataFrame, k: int, items: Any, by: str | None = None, weight: Share = 0.3) -> pl.DataFrame:
    """Maximal marginal relevance: one item after the other, each the best by (1 - weight) relevance - weight times its
    largest similarity to those that are there already.

    Carbonell & Goldstein 1998, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
    Summaries". Relevance is the score on a scale from 0 to 1 within each list that is given, since scores of models
    have scales of their own. An item of which `items` says nothing is similar to none.

    Args:
        lists: of `Predictor.recommend`, longer than k.
        k: items that are left in each.
        items: frame with `item_id` and the column `by`: vectors (lists of decimals), which are compared by their
            cosine; names or whole numbers, which are the same or not; or lists of these: shared ones by all of both
            (Jaccard).
        by: default: the only column beside the id.
        weight: from 0, which changes nothing, to 1.

    Raises:
        RecsysLabError: for what is no frame of lists, and columns that are not there.
    """
    if not 0 <= weight <= 1:
        raise RecsysLabError(f"weight must be from 0 to 1, not {weight!r}")
    given, facts = _checked(lists, k), ItemFacts.of(items, by)
    known, scores = facts.rows(given[ITEM_ID]), given["score"].to_numpy()

    def choose(block: slice) -> tuple[list[int], str]:
        similar, score = facts.similarity(known[block]), scores[block].astype(np.float64)
        spread = score.max() - score.min()
        relevance = (score - score.min()) / spread if spread > 0 else np.ones(len(score))
        worth, nearest = (1 - weight) * relevance, np.zeros(len(score))
        chosen: list[int] = []
        for place in range(min(k, len(score))):
            value = worth - weight * nearest
            value[chosen] = -np.inf
            chosen.append(int(value.argmax()))
            found = similar(chosen[-1])
            nearest = found if not place else np.maximum(nearest, found)
        return chosen, ""

    return _reordered(given, lists, k, choose)


def quota(
    lists: pl.DataFrame, k: int, items: Any, at_most: int | Mapping[Any, int], by: str | None = None
) -> pl.DataFrame:
    """The best k items of each list of which no category has more than its quota. An item of several categories needs
    room in each; one without any is not limited. A list that comes out shorter than k says so in its `note`.

    Args:
        lists, k, items, by: as for `mmr`; names or whole numbers, one or several of each item.
        at_most: items of each category; or of those that a dict names, and the others are not limited.
    """
    given, facts = _checked(lists, k), ItemFacts.of(items, by)
    limits = facts.limits(at_most)
    known = facts.rows(given[ITEM_ID])

    def choose(block: slice) -> tuple[list[int], str]:
        room = dict(limits)
        chosen: list[int] = []
        for place, own in enumerate(facts.categories(known[block])):
            if len(chosen) == k:
                break
            if all(room.get(one, 1) > 0 for one in own):
                chosen.append(place)
                room.update({one: room[one] - 1 for one in own if one in room})
        return chosen, "the others are over the quota"

    return _reordered(given, lists, k, choose)


def popularity_cap(lists: pl.DataFrame, k: int, items: Any, at_most: int, head: Share = 0.2) -> pl.DataFrame:
    """The best k items of each list of which at most `at_most` are of the head: the most popular items, which together
    have the share `head` of all training events.

    Args:
        lists, k: as for `mmr`.
        items: frame with `item_id` and `count`, its training events: `item_frame(predictor)`.
        at_most: of the head.
        head: from 0 to 1.
    """
    if not 0 <= head <= 1:
        raise RecsysLabError(f"head must be from 0 to 1, not {head!r}")
    table = as_frame(items, "items")
    for name in (ITEM_ID, COUNT):
        if name not in table.columns:
            raise RecsysLabError(f"items has no column {name!r}, which item_frame(predictor) has")
    ordered = table.select(ITEM_ID, COUNT).sort(COUNT, descending=True, maintain_order=True)
    before = ordered[COUNT].cum_sum() - ordered[COUNT]
    total = int(ordered[COUNT].sum())
    of_head = ordered.filter(before < head * total).select(ITEM_ID, pl.lit(HEAD).alias(HEAD))
    return quota(lists, k, of_head, {HEAD: at_most} if of_head.height else {}, HEAD)


def _checked(lists: pl.DataFrame, k: int) -> pl.DataFrame:
    """The rows that hold an item."""
    if not isinstance(lists, pl.DataFrame) or not {"user", "rank", ITEM_ID, "score", "note"} <= set(lists.columns):
        raise RecsysLabError("lists must be a frame of Predictor.recommend: user, rank, item_id, score, source, note")
    check_k(k)
    return lists.filter(pl.col("rank").is_not_null())


def _reordered(
    given: pl.DataFrame, lists: pl.DataFrame, k: int, choose: Callable[[slice], tuple[list[int], str]]
) -> pl.DataFrame:
    """choose: the rows of one user -> places in them, in their new order, and why there are fewer than k."""
    rows: list[int] = []
    ranks: list[int] = []
    notes: list[str | None] = given["note"].to_list()
    for block in _blocks(given["user"]):
        chosen, why = choose(block)
        if len(chosen) < min(k, block.stop - block.start):
            text = f"{len(chosen)} of {k}: {why}, in {block.stop - block.start} ranked items"
            for place in chosen:
                before = notes[block.start + place]
                notes[block.start + place] = text if before is None else f"{before}; {text}"
        rows += [block.start + place for place in chosen]
        ranks += range(1, len(chosen) + 1)
    found = given.with_columns(note=pl.Series(notes, dtype=pl.String))[rows]
    found = found.with_columns(rank=pl.Series(ranks, dtype=lists["rank"].dtype))
    empty = lists.filter(pl.col("rank").is_null())
    if not empty.height:
        return found
    order = lists["user"].unique(maintain_order=True).to_frame().with_row_index("place")
    whole = pl.concat([found, empty]).join(order, on="user", how="left", maintain_order="left", nulls_equal=True)
    return whole.sort("place", maintain_order=True).drop("place")


def _blocks(users: pl.Series) -> Iterator[slice]:
    """The rows of each user, which lie together."""
    if not len(users):
        return
    bounds = [0, *(np.flatnonzero(np.diff(users.rle_id().to_numpy())) + 1).tolist(), len(users)]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        yield slice(start, stop)
