"""Gate: what every request passes before the routes: a token, a bound on its body and on the time that it takes to
come; and what is counted of it. Nothing of a request is logged: paths hold users, headers hold tokens."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys_lab.serve.server.limits import Limits
from recsys_lab.serve.server.measures import Measures

OPEN_PATHS = ("/", "/health", "/docs", "/openapi.json")
"""Asked for without a token: they say nothing of users and items."""
HEARD = 16
"""A body of up to so many times the limit is heard to its end and thrown away: whoever still sends misses an answer
that comes with the end of the connection."""


class _RefusedError(Exception):
    def __init__(self, status: int, text: str, **headers: str) -> None:
        self.response = JSONResponse({"error": text}, status, headers)


class Gate:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, token: str | None, limits: Limits, measures: Measures) -> None:
        self.app, self.limits, self.measures = app, limits, measures
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        status, started = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check_token(scope)
            body = await self._body(scope, receive)
            started = time.perf_counter()
            await self.app(scope, _replayed(body, receive), watched)
        except _RefusedError as refused:
            await refused.response(scope, receive, watched)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.measures.requests.labels(path, str(status)).inc()
            self.measures.seconds.labels(path).observe(time.perf_counter() - started)

    def _check_token(self, scope: Scope) -> None:
        if self._expected is None or scope["path"] in OPEN_PATHS:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, self._expected):
            text = "this server needs its token: a header `Authorization: Bearer TOKEN`"
            raise _RefusedError(401, text, **{"WWW-Authenticate": "Bearer"})

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, before anything else happens."""
        limit = self.limits.max_body_kb << 10
        too_large = _RefusedError(413, f"the body is larger than {self.limits.max_body_kb:,} KB", Connection="close")
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > HEARD * limit:
            raise too_large
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout(self.limits.timeout):
                while True:
                    message = await receive()
                    part = message.get("body", b"")
                    size += len(part)
                    if size <= limit:
                        body += part
                    is_whole = message["type"] == "http.disconnect" or not message.get("more_body")
                    if size > HEARD * limit or (is_whole and size > limit):
                        raise too_large
                    if is_whole:
                        return bytes(body)
        except TimeoutError:
            text = f"the body did not come within {self.limits.timeout:g} s"
            raise _RefusedError(408, text, Connection="close") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    first: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
