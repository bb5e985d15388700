"""Service: a live model, the events of its users, and the queues before both. What the routes of `app.py` call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Callable, Sequence

from recsys_lab.config import keep_out_of_collections
from recsys_lab.serve.server.answers import Answer, Question, answer_all
from recsys_lab.serve.server.batcher import Batcher
from recsys_lab.serve.server.bodies import EventsAnswer, EventsBody, ExplainAnswer, ExplainBody, HistoryBody
from recsys_lab.serve.server.event_store import EventStore, StoredEvent
from recsys_lab.serve.server.explanations import explain_all
from recsys_lab.serve.server.limits import Limits
from recsys_lab.serve.server.live_model import LiveModel
from recsys_lab.serve.server.measures import Measures
from recsys_lab.words import PAD_ID, RecsysLabError

log = logging.getLogger("recsys_lab")

DAY = 86_400.0


class Service:
    """
    Args:
        load: makes the model; called again for each reload.
        open_events: makes the store of the events, once there is a model.
        keep_days: days after which an event is removed, from when it came; None = never.
    """

    def __init__(
        self,
        load: Callable[[], LiveModel],
        open_events: Callable[[], EventStore],
        limits: Limits,
        keep_days: float | None = None,
    ) -> None:
        self.load, self.limits, self.keep_days = load, limits, keep_days
        self.live, self.store = load(), open_events()
        self.measures = Measures()
        self.measures.model.info({"name": self.live.name})
        sizes = (limits.max_batch, limits.max_queue)
        self._model: Batcher[Question, Answer] = Batcher(
            self._answer, *sizes, self.measures.batch.observe, limits.batch_ms / 1000
        )
        self._events: Batcher[list[StoredEvent], list[bool]] = Batcher(self._add, *sizes)
        # beside the lists, since one takes as long as hundreds of them
        self._explaining: Batcher[ExplainBody, ExplainAnswer] = Batcher(self._explain, 1, limits.max_queue)
        for name, batcher in (("model", self._model), ("events", self._events), ("explain", self._explaining)):
            self.measures.watch_queue(name, lambda batcher=batcher: batcher.waiting)  # type: ignore[misc]
        self._reloading = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._model.start()
        self._events.start()
        self._explaining.start()
        if self.keep_days is not None:
            self._sweeping = asyncio.create_task(self._sweep(self.keep_days))

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping
        await self._explaining.close()
        await self._model.close()
        await self._events.close()
        self.store.close()

    # -- the model -----------------------------------------------------------------------------------------------------

    async def ask(self, question: Question) -> Answer:
        return await self._model.ask(question, self.limits.timeout)

    def _answer(self, questions: list[Question]) -> list[Answer | Exception]:
        live = self.live  # one model, with its items, for all of them
        return answer_all(live, questions, self._events_of(questions))

    async def explain(self, question: ExplainBody) -> ExplainAnswer:
        return await self._explaining.ask(question, self.limits.timeout)

    def _explain(self, questions: list[ExplainBody]) -> list[ExplainAnswer | Exception]:
        return explain_all(self.live, questions, self._events_of(questions))

    def _events_of(self, questions: Sequence[Question | ExplainBody]) -> dict[str, list[StoredEvent]]:
        """Of the users that are asked for."""
        users = list({str(q.user): None for q in questions if isinstance(q, HistoryBody) and q.user is not None})
        return dict(zip(users, map(self._kept, self.store.of_users(users)), strict=True)) if users else {}

    async def reload(self) -> LiveModel:
        """Loads the model again, from where its run or link leads now. The one before answers until then; where the new
        one can't be loaded, it stays.

        Raises:
            RecsysLabError: why it can't be loaded.
        """
        async with self._reloading:
            try:
                live = await asyncio.to_thread(self.load)
            except Exception as error:
                self.measures.reloads.labels("failed").inc()
                log.warning("the model stays %s: the new one can't be loaded: %s", self.live.name, error)
                raise
            self.live = live
            if gc.get_freeze_count():
                keep_out_of_collections()  # and let go of the one before
            self.measures.reloads.labels("done").inc()
            self.measures.model.info({"name": live.name})
            log.info("the model is %s", live.name)
            return live

    # -- events --------------------------------------------------------------------------------------------------------

    async def add(self, body: EventsBody) -> EventsAnswer:
        """When it returns the events are on disk."""
        now, live, user = time.time(), self.live, str(body.user)
        events = []
        for place, one in enumerate(body.events):
            try:
                live.checked(one.fields, "one event")
            except RecsysLabError as error:
                raise RecsysLabError(f"events.{place}: {error}") from error
            timestamp = int(now if one.timestamp is None else one.timestamp)
            events.append(StoredEvent(user, one.item_id, timestamp, now, one.fields, one.id))
        rows = live.predictor.item_ids.rows([event.item for event in events], "events")
        new = await self._events.ask(events, self.limits.timeout)
        self.measures.events.inc(sum(new))
        unknown = int((rows == PAD_ID).sum())
        return EventsAnswer(stored=sum(new), repeated=len(new) - sum(new), unknown=unknown)

    def _add(self, requests: list[list[StoredEvent]]) -> list[list[bool] | Exception]:
        """All requests that wait are one commit."""
        new = iter(self.store.add([event for events in requests for event in events]))
        return [[next(new) for _ in events] for events in requests]

    async def check(self) -> None:
        """Raises StoreError when events can't be stored now."""
        await asyncio.to_thread(self.store.check)

    async def events_of(self, user: str) -> list[StoredEvent]:
        (found,) = await asyncio.to_thread(self.store.of_users, [user])
        return self._kept(found)

    async def delete(self, user: str) -> int:
        """With what came before it and waits to be stored."""
        await self._events.ask([], self.limits.timeout)
        return await asyncio.to_thread(self.store.delete_user, user)

    def _kept(self, events: list[StoredEvent]) -> list[StoredEvent]:
        """Without those that the next sweep removes."""
        if self.keep_days is None:
            return events
        since = time.time() - self.keep_days * DAY
        return [event for event in events if event.received >= since]

    async def _sweep(self, days: float) -> None:
        while True:
            try:
                gone = await asyncio.to_thread(self.store.forget, time.time() - days * DAY)
                if gone:
                    log.info("%s events were older than %s days: removed", f"{gone:,}", f"{days:g}")
            except Exception as error:
                log.warning("old events were not removed, and will be tried again: %s", error)
            await asyncio.sleep(min(3600.0, days * DAY / 10))
