"""As much of a W&B server as `wandb sync` needs, on this machine: keeps what it is sent."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer:
    """requests: `METHOD path` of everything that arrived. runs: id -> what it was last created or updated with.
    history: id -> rows. summary: id -> final values. files: name -> content."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.history: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        self.summary: dict[str, dict[str, Any]] = defaultdict(dict)
        self.files: dict[str, bytes] = {}
        self.unknown: list[str] = []  # queries that it has no answer for
        self.url = ""

    def environment(self) -> dict[str, str]:
        """For processes that are to talk to this server; whatever goes elsewhere over a proxy arrives here too."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": "a" * 40,
            "WANDB_SILENT": "false",
            "HTTPS_PROXY": self.url,
            "HTTP_PROXY": self.url,
            "NO_PROXY": "",
        }

    def answer(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        self.requests.append(f"{method} {path}")
        if path.endswith("/graphql"):
            asked = json.loads(body)
            return {"data": self._graphql(asked["query"], asked.get("variables") or {})}
        stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path)
        if stream:
            self._stream(stream[1], json.loads(body))
        elif path.startswith("/upload/"):
            self.files[path.removeprefix("/upload/")] = body
        return {}

    def _stream(self, run: str, sent: dict[str, Any]) -> None:
        files = sent.get("files") or {}
        history = files.get("wandb-history.jsonl")
        if history:
            for i, line in enumerate(history["content"]):
                self.history[run][history["offset"] + i] = json.loads(line)
        for line in (files.get("wandb-summary.json") or {}).get("content", []):
            self.summary[run] |= json.loads(line)

    def _graphql(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        name = re.search(r"(?:query|mutation) (\w+)", query)
        handler = getattr(self, f"_on_{name[1]}" if name else "", None)
        if handler is None:
            self.unknown.append(query)
            return {}
        answered: dict[str, Any] = handler(given)
        return answered

    def _on_ServerFeaturesQuery(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _on_UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        run = given["name"]
        is_new = run not in self.runs
        self.runs[run] = self.runs.get(run, {}) | {key: value for key, value in given.items() if value is not None}
        bucket = {
            "id": f"id-{run}",
            "name": run,
            "displayName": given.get("displayName"),
            "config": given.get("config") or "{}",
            "historyLineCount": len(self.history[run]),
            "project": {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": "me"}},
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _on_RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        run = given["name"]
        if run not in self.runs:
            return {"model": {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}, "bucket": None}}
        rows = [self.history[run][i] for i in sorted(self.history[run])]
        bucket = {
            "id": f"id-{run}",
            "name": run,
            "summaryMetrics": json.dumps(self.summary[run]),
            "displayName": self.runs[run].get("displayName"),
            "logLineCount": 0,
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
            "eventsTail": "[]",
            "config": self.runs[run].get("config") or "{}",
            "tags": self.runs[run].get("tags") or [],
            "wandbConfig": '{"t": {}}',
        }
        return {"model": {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}, "bucket": bucket}}

    def _on_Viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer}

    def _on_CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": f, "uploadUrl": f"{self.url}/upload/{given['run']}/{f}"} for f in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    state = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            sent = json.dumps(state.answer(self.command, self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_CONNECT = answer

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that hang up are no news."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
