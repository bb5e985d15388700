"""RedisEvents: events in Redis or Valkey, for several servers."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Sequence
from typing import Any

import redis

from recsys_lab.serve.server.event_store import MAX_KEPT, StoredEvent, StoreError

log = logging.getLogger("recsys_lab")

PREFIX = "recsys-lab:"


class RedisEvents:
    """See `EventStore`. A user's events are a hash from their ids, `...:user:NAME`, with their order in a sorted set by
    time, `...:order:NAME`; one sorted set, `...:age`, has all of them by when they came.

    Whether an event outlives Redis itself is set there: `appendonly yes` with `appendfsync always` (a warning says so
    where it is not).
    """

    def __init__(self, url: str) -> None:
        try:
            self._redis: Any = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
            self._redis.ping()
        except (redis.RedisError, ValueError, OSError) as error:
            raise StoreError(f"Redis does not answer: {type(error).__name__}") from None  # its text may hold the URL
        self._tell_durability()

    def add(self, events: Sequence[StoredEvent]) -> list[bool]:
        number = self._ask(lambda to: to.incrby(f"{PREFIX}number", len(events))) - len(events)
        pipe = self._redis.pipeline(transaction=True)
        for place, event in enumerate(events):
            id = event.id or f"\0{uuid.uuid4().hex}"
            held = [event.item, event.timestamp, event.received, event.fields, event.id, number + place]
            pipe.hsetnx(f"{PREFIX}user:{event.user}", id, json.dumps(held))
            pipe.zadd(f"{PREFIX}order:{event.user}", {id: event.timestamp}, nx=True)
            pipe.zadd(f"{PREFIX}age", {json.dumps([event.user, id]): event.received}, nx=True)
        return [bool(new) for new in self._ask(lambda _: pipe.execute())[::3]]

    def of_users(self, users: Sequence[str]) -> list[list[StoredEvent]]:
        pipe = self._redis.pipeline(transaction=False)
        for user in users:
            pipe.zrevrange(f"{PREFIX}order:{user}", 0, MAX_KEPT - 1)
        ids = self._ask(lambda _: pipe.execute())
        pipe = self._redis.pipeline(transaction=False)
        asked = [user for user, own in zip(users, ids, strict=True) if own]
        for user, own in zip(users, ids, strict=True):
            if own:
                pipe.hmget(f"{PREFIX}user:{user}", own)
        found = dict(zip(asked, self._ask(lambda _: pipe.execute()), strict=True))
        return [_events(user, found.get(user, [])) for user in users]

    def delete_user(self, user: str) -> int:
        hash, order = f"{PREFIX}user:{user}", f"{PREFIX}order:{user}"

        def remove(pipe: Any) -> int:
            ids = pipe.hkeys(hash)
            pipe.multi()
            pipe.delete(hash, order)
            if ids:
                pipe.zrem(f"{PREFIX}age", *(json.dumps([user, id.decode()]) for id in ids))
            return len(ids)

        return int(self._ask(lambda to: to.transaction(remove, hash, value_from_callable=True)))

    def forget(self, before: float) -> int:
        gone = 0
        while members := self._ask(lambda to: to.zrangebyscore(f"{PREFIX}age", "-inf", f"({before}", 0, 1000)):
            pipe = self._redis.pipeline(transaction=True)
            for member in members:
                user, id = json.loads(member)
                pipe.hdel(f"{PREFIX}user:{user}", id)
                pipe.zrem(f"{PREFIX}order:{user}", id)
                pipe.zrem(f"{PREFIX}age", member)
            gone += sum(self._ask(lambda _, pipe=pipe: pipe.execute())[::3])
        return gone

    def check(self) -> None:
        self._ask(lambda to: to.ping())

    def close(self) -> None:
        self._redis.close()

    def _ask(self, work: Any) -> Any:
        try:
            return work(self._redis)
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"Redis does not answer: {type(error).__name__}") from None

    def _tell_durability(self) -> None:
        try:
            found = {**self._redis.config_get("appendonly"), **self._redis.config_get("appendfsync")}
        except redis.RedisError:  # not everybody may ask
            found = {}
        if (found.get("appendonly"), found.get("appendfsync")) != ("yes", "always"):
            log.warning(
                "this Redis does not say that it writes each event to disk before it answers: what was acknowledged "
                "may be lost when Redis stops. Set `appendonly yes` and `appendfsync always` there"
            )


def _events(user: str, held: list[bytes | None]) -> list[StoredEvent]:
    rows = [json.loads(one) for one in held if one is not None]
    rows.sort(key=lambda row: (row[1], row[5]))
    return [StoredEvent(user, item, at, came, fields, id) for item, at, came, fields, id, _ in rows]
