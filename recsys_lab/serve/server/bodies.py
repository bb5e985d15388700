"""What requests hold and answers say, as pydantic checks it and the OpenAPI page shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from recsys_lab.data.reading.times import LATEST

MAX_EVENTS, MAX_IDS, MAX_K = 10_000, 100_000, 1_000

Number = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | Annotated[float, Field(strict=True)]
Id = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | Annotated[str, Field(min_length=1, max_length=256)]
"""Of an item or a user, as the training data has it; a text that is a number means the number."""
Time = Annotated[float, Field(strict=True, ge=0, lt=LATEST)]
"""Seconds since 1970."""
Text = Annotated[str, Field(max_length=1_000)]
Plain = Annotated[bool, Field(strict=True)] | Number | Text | None
Value = Plain | Annotated[list[Plain], Field(max_length=MAX_EVENTS)]
Name = Annotated[str, Field(max_length=256)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class HistoryBody(Body):
    """A history, or a user whose events were posted before. See `Predictor.recommend`."""

    history: Annotated[list[Id], Field(max_length=MAX_EVENTS)] | None = None
    user: Id | None = None
    times: Annotated[list[Time], Field(max_length=MAX_EVENTS)] | None = None
    fields: Annotated[dict[Name, Value | list[Value]], Field(max_length=100)] = {}
    query_time: Time | None = None
    target_fields: Annotated[dict[Name, Value], Field(max_length=100)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> HistoryBody:
        if (self.history is None) == (self.user is None):
            raise ValueError("give a history, or a user whose events were posted to /events: one of both")
        if self.user is not None and self.times is not None:
            raise ValueError("times are of a history; the events of a user have theirs")
        if self.history is not None and self.times is not None and len(self.times) != len(self.history):
            raise ValueError(f"{len(self.times)} times, and the history has {len(self.history)} events")
        return self


class RecommendBody(HistoryBody):
    """Which items, and how many of them. See `Predictor.recommend`."""

    k: Annotated[int, Field(strict=True, ge=1, le=MAX_K)] = 10
    exclude: Literal["run", "history"] | Annotated[list[Id], Field(max_length=MAX_IDS)] | None = "run"
    blocked: Annotated[list[Id], Field(max_length=MAX_IDS)] | None = None
    candidates: Literal["all"] | Annotated[list[Id], Field(max_length=MAX_IDS)] | None = None


class ExplainBody(HistoryBody):
    """Why an item stands in the list: `item`, or the first that is recommended. `integrated_gradients` takes longest,
    and an installation with captum."""

    item: Id | None = None
    methods: Annotated[
        list[Literal["attention", "integrated_gradients", "leave_one_out", "removal"]],
        Field(min_length=1, max_length=4),
    ] = ["attention", "leave_one_out"]


class ExplainAnswer(BaseModel):
    """item: its `score`, `rank` and `probability` among all candidates. events: the newest first, and what each adds
    by each method: nats of the item's log-probability, or of `attention` a share. methods: what is to be said of each.
    fields: what each part adds over all events. notes: what was left out."""

    model: str
    item: dict[str, Any]
    events: list[dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    fields: dict[str, dict[str, float]]
    notes: list[str]


class Listed(TypedDict):
    """A plain dict, since a list is made of many."""

    rank: int
    item_id: int | str
    score: float
    title: str | None


class RecommendAnswer(BaseModel):
    """source: `model`, or `popularity` where no event of the history is known. note: why a list is short or not the
    model's. model: which one answered."""

    model: str
    source: str
    note: str | None
    items: list[Listed]


class SimilarBody(Body):
    item: Id
    k: Annotated[int, Field(strict=True, ge=1, le=MAX_K)] = 10


class SimilarAnswer(BaseModel):
    """by: `cosine` of the vectors, or `history`, the list of a history of this item alone."""

    model: str
    by: str | None
    items: list[Listed]


class OneEvent(Body):
    """timestamp: when it was; default: now. id: an event whose id its user has already is not stored again, so that
    whoever got no answer may post it once more."""

    item_id: Id
    timestamp: Time | None = None
    fields: Annotated[dict[Name, Value], Field(max_length=100)] = {}
    id: Annotated[str, Field(min_length=1, max_length=256)] | None = None


class EventsBody(Body):
    user: Id
    events: Annotated[list[OneEvent], Field(min_length=1, max_length=1_000)]


class EventsAnswer(BaseModel):
    """stored: events that are kept from now on. repeated: whose id was there already. unknown: whose item the model
    does not know; they are stored, since a later model may."""

    stored: int
    repeated: int
    unknown: int


class UserEvents(BaseModel):
    user: str
    events: list[OneEvent]


class Deleted(BaseModel):
    deleted: int


class Found(BaseModel):
    item_id: int | str
    title: str | None


class Health(BaseModel):
    status: Literal["ok"]
    model: str
    items: int


class Refusal(BaseModel):
    """Of every answer with a status from 400 on."""

    error: str
