"""Requests that came together -> their answers, by as few calls of the predictor as possible."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from recsys_lab.serve.histories import USER_FIELD
from recsys_lab.serve.server.bodies import (
    HistoryBody,
    Listed,
    RecommendAnswer,
    RecommendBody,
    SimilarAnswer,
    SimilarBody,
)
from recsys_lab.serve.server.event_store import StoredEvent
from recsys_lab.serve.server.live_model import LiveModel, fitting
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

Question = RecommendBody | SimilarBody
Answer = RecommendAnswer | SimilarAnswer


@dataclass(frozen=True)
class Asked:
    """One history. fields: by key, of events lists. like: what those have in common that one call answers."""

    place: int
    body: HistoryBody
    items: list[Any]
    times: list[int] | None
    fields: dict[str, Any]

    @property
    def like(self) -> str:
        body = self.body
        assert isinstance(body, RecommendBody)
        target = None if body.target_fields is None else sorted(body.target_fields)
        shared = [body.k, body.exclude, body.blocked, body.candidates, self.times is None, body.query_time is None]
        return json.dumps([*shared, target])


def answer_all(
    live: LiveModel, questions: Sequence[Question], events: dict[str, list[StoredEvent]]
) -> list[Answer | Exception]:
    """Answers in the order of the questions; an error is that of one question alone.

    Args:
        events: of the users that are asked for.
    """
    answers: list[Answer | Exception | None] = [None] * len(questions)
    groups: dict[str, list[Asked]] = {}
    for place, question in enumerate(questions):
        try:
            if isinstance(question, SimilarBody):
                answers[place] = _similar(live, question)
                continue
            asked = read_history(live, place, question, events)
            groups.setdefault(asked.like, []).append(asked)
        except Exception as error:
            answers[place] = error
    for group in groups.values():
        for asked, answer in zip(group, _of_group(live, group), strict=True):
            answers[asked.place] = answer
    return [answer if answer is not None else RuntimeError("no answer") for answer in answers]


def read_history(live: LiveModel, place: int, body: HistoryBody, events: dict[str, list[StoredEvent]]) -> Asked:
    fields = live.checked(body.fields)
    if body.history is not None:
        times = None if body.times is None else [int(time) for time in body.times]
        return Asked(place, body, body.history, times, fields)
    for key in fields:
        if not key.startswith(USER_FIELD):
            raise RecsysLabError(f"fields: {key!r} is of events, and those of a user have theirs")
    own, item_ids = events[str(body.user)], live.predictor.item_ids
    if item_ids.unknown == "error":  # of what is asked, and not of what was stored while another model was served
        own = list(itertools.compress(own, item_ids.known([event.item for event in own])))
    for key, one in live.predictor.reader.fields.items():
        if not key.startswith(USER_FIELD):
            fields[key] = [fitting(one, event.fields.get(key)) for event in own]
    return Asked(place, body, [event.item for event in own], [event.timestamp for event in own], fields)


def _of_group(live: LiveModel, group: list[Asked]) -> list[RecommendAnswer | Exception]:
    try:
        return list(_recommend(live, group))
    except Exception as error:
        if len(group) == 1:
            return [error]
    return [answer for one in group for answer in _of_group(live, [one])]  # the others are not to blame


def _recommend(live: LiveModel, group: list[Asked]) -> list[RecommendAnswer]:
    body, predictor = group[0].body, live.predictor
    assert isinstance(body, RecommendBody)
    fields: dict[str, Any] = {}
    for key in {key for asked in group for key in asked.fields}:
        is_user = key.startswith(USER_FIELD)
        fields[key] = [asked.fields.get(key, None if is_user else [None] * len(asked.items)) for asked in group]
    target = None
    if body.target_fields is not None:
        target = {key: [(asked.body.target_fields or {})[key] for asked in group] for key in body.target_fields}
    times = None if group[0].times is None else [asked.times for asked in group]
    questions = predictor.questions([asked.items for asked in group], times, fields, query_times(live, group), target)
    found = predictor.lists(questions, body.k, body.exclude, body.blocked, body.candidates)
    return [
        RecommendAnswer.model_construct(model=live.name, source=source, note=note, items=_listed(live, items, scores))
        for part in found
        for source, note, items, scores in part.plain()
    ]


def query_times(live: LiveModel, group: list[Asked]) -> list[float | None] | None:
    """Of a model whose items can be had at some times only: now, where nobody says when a list is wanted."""
    if group[0].body.query_time is not None:
        return [asked.body.query_time for asked in group]
    if live.predictor.rules.live is None or group[0].times is None or not live.predictor.spec.has_timestamps:
        return None
    return [time.time()] * len(group)


def _similar(live: LiveModel, body: SimilarBody) -> SimilarAnswer:
    frame: pl.DataFrame = live.predictor.similar(body.item, body.k)
    items = _listed(live, frame["item_id"].to_list(), frame["score"].to_list())
    return SimilarAnswer.model_construct(model=live.name, by=frame["by"].first() if items else None, items=items)


def _listed(live: LiveModel, items: list[Any], scores: list[float]) -> list[Listed]:
    titles = live.titles
    return [
        {"rank": rank, "item_id": item, "score": score, "title": titles.get(item)}
        for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1)
    ]
