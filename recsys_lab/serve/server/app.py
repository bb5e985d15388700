"""The routes of the server, and how what goes wrong is said."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from recsys_lab import __version__
from recsys_lab.serve.server.batcher import BusyError
from recsys_lab.serve.server.bodies import (
    Deleted,
    EventsAnswer,
    EventsBody,
    ExplainAnswer,
    ExplainBody,
    Found,
    Health,
    OneEvent,
    RecommendAnswer,
    RecommendBody,
    Refusal,
    SimilarAnswer,
    SimilarBody,
    UserEvents,
)
from recsys_lab.serve.server.event_store import StoreError
from recsys_lab.serve.server.gate import Gate
from recsys_lab.serve.server.service import Service
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
TRIED = re.compile(r"(constrained-\w+|int|float|str|bool|literal|list|nullable|union)(\[.*)?$")
REFUSALS: dict[int | str, dict[str, Any]] = {
    422: {"model": Refusal, "description": "The request can't be answered: the message says why."},
    429: {"model": Refusal, "description": "Too many requests wait: try again."},
    503: {"model": Refusal, "description": "No answer in time, or the events can't be reached."},
}


def build_app(service: Service, token: str | None = None, hosts: tuple[str, ...] = LOOPBACK) -> FastAPI:
    """
    Args:
        token: that requests must bear; None = none is needed.
        hosts: names under which the server may be addressed: a page elsewhere can give its own name this address.
            `*` = any.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    app = FastAPI(
        title="recsys-lab", version=__version__, lifespan=lifespan, redoc_url=None, responses=REFUSALS, debug=False
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(Gate, token=token, limits=service.limits, measures=service.measures)
    _add_refusals(app, service)
    page, policy = _page()

    @app.get("/", include_in_schema=False)
    async def people() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "X-Frame-Options": "DENY"})

    @app.post("/recommend")
    async def recommend(body: RecommendBody) -> RecommendAnswer:
        """The best k items for a history, or for a user whose events were posted. A user without events, and a history
        without a known item, gets the most popular items."""
        return _as_is(await service.ask(body))

    @app.post("/similar")
    async def similar(body: SimilarBody) -> SimilarAnswer:
        """The items that are most like one."""
        return _as_is(await service.ask(body))

    @app.post("/explain")
    async def explain(body: ExplainBody) -> ExplainAnswer:
        """Why an item stands in the list of a history, or of a user whose events were posted: what each event adds to
        its log-probability."""
        return _as_is(await service.explain(body))

    @app.get("/items")
    async def items(
        words: Annotated[str, Query(min_length=1, max_length=256)], limit: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> list[Found]:
        """Items whose title or id holds the words."""
        return [
            Found(item_id=item, title=title)
            for item, title in await asyncio.to_thread(service.live.found, words, limit)
        ]

    @app.post("/events")
    async def events(body: EventsBody) -> EventsAnswer:
        """Stores events of a user. Once it is answered they outlive this process."""
        return await service.add(body)

    @app.get("/users/{user:path}/events")
    async def events_of(user: str) -> UserEvents:
        """What is stored of a user."""
        found = await service.events_of(user)
        if not found:
            raise HTTPException(404, f"there are no events of the user {user!r}")
        return UserEvents.model_construct(
            user=user,
            events=[
                OneEvent.model_construct(item_id=e.item, timestamp=e.timestamp, fields=e.fields, id=e.id) for e in found
            ],
        )

    @app.delete("/users/{user:path}")
    async def delete(user: str) -> Deleted:
        """Deletes all that is stored of a user, for good."""
        deleted = await service.delete(user)
        if not deleted:
            raise HTTPException(404, f"there are no events of the user {user!r}")
        return Deleted(deleted=deleted)

    @app.post("/reload")
    async def reload() -> Health:
        """Loads the model again from where the server's run, or the link to it, leads now."""
        await service.reload()
        return await health()

    @app.get("/health")
    async def health() -> Health:
        """Whether lists and events can be asked for."""
        await service.check()
        return Health(status="ok", model=service.live.name, items=len(service.live.predictor.item_ids))

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(service.measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def _as_is(answer: Any) -> Any:
    """An answer that is not checked once more on its way out."""
    return Response(answer.__pydantic_serializer__.to_json(answer, exclude_none=False), media_type="application/json")


def _page() -> tuple[str, str]:
    """The page for people, and a policy that lets it run its own script and ask this server, and nothing else."""
    page = files("recsys_lab.serve.server").joinpath("people.html").read_text(encoding="utf-8")
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"
    return page, f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _add_refusals(app: FastAPI, service: Service) -> None:
    """Each error as `{"error": "one line"}`. What was sent is not sent back whole."""

    def refuse(status: int, text: str, **headers: str) -> JSONResponse:
        return JSONResponse({"error": text[:1000]}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = error.errors()
        first = errors[0]
        if first["type"] == "json_invalid":
            return refuse(422, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
        if first["loc"] == ("body",) and first["type"] in ("missing", "model_attributes_type", "dict_type"):
            return refuse(422, "the body must be a JSON object, with the header Content-Type: application/json")
        place = _place(first["loc"])
        messages = {e["msg"].removeprefix("Value error, "): None for e in errors if _place(e["loc"]) == place}
        elsewhere = len({_place(e["loc"]) for e in errors}) - 1
        more = f" (and {elsewhere:,} more places)" if elsewhere else ""
        return refuse(422, (f"{place}: " if place else "") + ", or ".join(messages) + more)

    @app.exception_handler(RecsysLabError)
    async def not_possible(request: Request, error: RecsysLabError) -> JSONResponse:
        return refuse(422, str(error))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        is_known = "route" in request.scope
        text = str(error.detail) if is_known else "there is no such path: /docs lists those that there are"
        return refuse(error.status_code, text, **(error.headers or {}))

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return refuse(429, "too many requests wait: try again", **{"Retry-After": "1"})

    @app.exception_handler(TimeoutError)
    async def late(request: Request, error: TimeoutError) -> JSONResponse:
        return refuse(503, f"no answer within {service.limits.timeout:g} s: try again", **{"Retry-After": "1"})

    @app.exception_handler(StoreError)
    async def no_store(request: Request, error: StoreError) -> JSONResponse:
        log.warning("%s", error)
        return refuse(503, str(error))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        return refuse(500, "an unforeseen error: the log of the server has it")


def _place(location: Sequence[Any]) -> str:
    """`events.0.item_id` of what pydantic says, which also has the type that it tried."""
    parts = [str(part) for part in location if part not in ("body", "query")]
    return ".".join(part for part in parts if not TRIED.match(part))[:200]
