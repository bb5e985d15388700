"""Requests that a server must refuse: name -> method, path, body, headers. What is not bytes is sent as JSON."""

from __future__ import annotations

import json
from typing import Any

TOKEN = "the-token-of-the-tests-1234"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {"Content-Type": "application/json"}
OPEN = {**BEARER, **JSON}


def _post(path: str, body: Any, headers: dict[str, str] = OPEN) -> tuple[str, str, bytes, dict[str, str]]:
    return "POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers


def _event(**event: Any) -> tuple[str, str, bytes, dict[str, str]]:
    return _post("/events", {"user": "anna", "events": [event]})


GOOD = {"history": [100, 101]}
REQUESTS: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
    "no token": _post("/recommend", GOOD, JSON),
    "another token": _post("/recommend", GOOD, {**JSON, "Authorization": "Bearer the-token-of-the-tests-1235"}),
    "the token and more": _post("/recommend", GOOD, {**JSON, "Authorization": f"Bearer {TOKEN}x"}),
    "the token in another scheme": _post("/recommend", GOOD, {**JSON, "Authorization": f"Basic {TOKEN}"}),
    "the token in the path": _post(f"/recommend?token={TOKEN}", GOOD, JSON),
    "a token of other letters": _post("/recommend", GOOD, {**JSON, "Authorization": "Bearer \xe9\xe9\xe9"}),
    "no token for an event": _post("/events", {"user": "anna", "events": [{"item_id": 100}]}, JSON),
    "no token to delete": ("DELETE", "/users/anna", b"", {}),
    "no token to reload": _post("/reload", b"", {}),
    "no token for measures": ("GET", "/metrics", b"", {}),
    "another host": ("GET", "/health", b"", {**BEARER, "Host": "evil.example"}),
    "an unknown path": ("GET", "/admin", b"", BEARER),
    "another method": ("GET", "/recommend", b"", BEARER),
    "a path upwards": ("GET", "/../../etc/passwd", b"", BEARER),
    "an encoded path upwards": ("DELETE", "/users/..%2f..%2fetc%2fpasswd", b"", BEARER),
    "a file of the server": ("GET", "/users/..%2fevents.sqlite/events", b"", BEARER),
    "a zero byte in a path": ("DELETE", "/users/anna%00", b"", BEARER),
    "a user who is not there": ("DELETE", "/users/nobody", b"", BEARER),
    "no body": _post("/recommend", b""),
    "no JSON": _post("/recommend", b"{'history': [100]}"),
    "half a body of JSON": _post("/recommend", b'{"history": [100'),
    "no UTF-8": _post("/recommend", b'{"history": ["\xff\xfe"]}'),
    "deep JSON": _post("/recommend", b"[" * 100_000),
    "a form": _post("/recommend", b"history=100", {**BEARER, "Content-Type": "application/x-www-form-urlencoded"}),
    "JSON as text": _post("/recommend", GOOD, {**BEARER, "Content-Type": "text/plain"}),
    "a list for an object": _post("/recommend", [100]),
    "a huge body": _post("/recommend", {"history": ["x" * 200] * 9_000}),
    "a wrong key": _post("/recommend", {**GOOD, "top": 5}),
    "neither history nor user": _post("/recommend", {"k": 5}),
    "history and user": _post("/recommend", {**GOOD, "user": "anna"}),
    "a history that is a text": _post("/recommend", {"history": "100,101"}),
    "an item that is a list": _post("/recommend", {"history": [[100]]}),
    "an item that is true": _post("/recommend", {"history": [True]}),
    "an item that is NaN": _post("/recommend", b'{"history": [NaN]}'),
    "an item of 5,000 digits": _post("/recommend", b'{"history": [' + b"9" * 5_000 + b"]}"),
    "half a letter": _post("/recommend", b'{"history": ["\\ud800"]}'),
    "an explanation of nothing": _post("/explain", {}),
    "an explanation of an empty history": _post("/explain", {"history": []}),
    "an explanation of unknown items": _post("/explain", {"history": [7], "item": 100}),
    "an explanation of an item that is none": _post("/explain", {**GOOD, "item": {"id": 1}}),
    "an explanation of an item that nobody knows": _post("/explain", {**GOOD, "item": "nobody knows"}),
    "an explanation by no method": _post("/explain", {**GOOD, "methods": []}),
    "an explanation by another method": _post("/explain", {**GOOD, "methods": ["magic"]}),
    "an explanation of a list of 3": _post("/explain", {**GOOD, "k": 3}),
    "an explanation without a token": _post("/explain", GOOD, JSON),
    "a long history": _post("/recommend", {"history": [1] * 10_001}),
    "an unknown item": _post("/recommend", {"history": [100, "never seen"]}),
    "k of zero": _post("/recommend", {**GOOD, "k": 0}),
    "k of a million": _post("/recommend", {**GOOD, "k": 1_000_000}),
    "k that is a text": _post("/recommend", {**GOOD, "k": "5"}),
    "times that are NaN": _post("/recommend", b'{"history": [100, 101], "times": [1, NaN]}'),
    "times that are infinite": _post("/recommend", b'{"history": [100, 101], "times": [1, Infinity]}'),
    "times that go back": _post("/recommend", {**GOOD, "times": [5, 4]}),
    "too few times": _post("/recommend", {**GOOD, "times": [5]}),
    "an unknown field": _post("/recommend", {**GOOD, "fields": {"colour": ["red", "blue"]}}),
    "a field of another length": _post("/recommend", {**GOOD, "fields": {"price": [1]}}),
    "a field of another type": _post("/recommend", {**GOOD, "fields": {"price": [{"a": 1}, 2]}}),
    "a target field that is not read": _post("/recommend", {**GOOD, "target_fields": {"price": 3}}),
    "exclude of another word": _post("/recommend", {**GOOD, "exclude": "everything"}),
    "candidates that are not known": _post("/recommend", {**GOOD, "candidates": ["never seen"]}),
    "similar to an unknown item": _post("/similar", {"item": "never seen"}),
    "an event without an item": _event(timestamp=5),
    "an event of an unknown item": _event(item_id="never seen"),
    "an event before 1970": _event(item_id=100, timestamp=-1),
    "an event whose time is a text": _event(item_id=100, timestamp="yesterday"),
    "an event with an unknown field": _event(item_id=100, fields={"colour": "red"}),
    "an event with a wrong value": _event(item_id=100, fields={"price": "cheap"}),
    "no events": _post("/events", {"user": "anna", "events": []}),
    "a user without a name": _post("/events", {"user": "", "events": [{"item_id": 100}]}),
    "a user with a long name": _post("/events", {"user": "a" * 300, "events": [{"item_id": 100}]}),
    "one bad event beside a good one": _post(
        "/events", {"user": "anna", "events": [{"item_id": 100}, {"item_id": None}]}
    ),
    "no words": ("GET", "/items?words=", b"", BEARER),
}
