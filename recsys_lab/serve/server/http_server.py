"""The server as a process: address, token, signals."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from pathlib import Path

import uvicorn

from recsys_lab.config import keep_out_of_collections
from recsys_lab.serve.server.app import LOOPBACK, build_app
from recsys_lab.serve.server.http_protocol import HttpProtocol
from recsys_lab.serve.server.service import Service
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

TOKEN = "RECSYS_LAB_TOKEN"
SHORTEST = 16


def read_token(file: str | None) -> str | None:
    """The token of a file, or of the variable RECSYS_LAB_TOKEN; None where there is neither.

    Raises:
        RecsysLabError: for an empty or a short one.
    """
    where = f"--token_file {file}" if file is not None else TOKEN
    if file is not None:
        token = Path(file).read_text(encoding="utf-8", errors="replace").strip()
    elif TOKEN in os.environ:
        token = os.environ[TOKEN].strip()
    else:
        return None
    if len(token) < SHORTEST or not token.isascii() or any(c.isspace() for c in token):
        raise RecsysLabError(f"{where}: a token is {SHORTEST} or more ASCII characters in one line without spaces")
    return token


def check_address(host: str, token: str | None) -> None:
    """Raises RecsysLabError where others could ask without a token."""
    if token is None and host not in LOOPBACK:
        raise RecsysLabError(
            f"--host {host}: other machines could ask, and no token is set. Write one to a file and add "
            f"--token_file FILE (or set {TOKEN})"
        )


def run_server(service: Service, host: str, port: int, token: str | None) -> None:
    """Serves until SIGTERM or Ctrl-C: then what is in flight is answered, and it returns. SIGHUP loads the model again.

    Raises:
        RecsysLabError: when the address is taken, or others could ask without a token.
    """
    check_address(host, token)
    limits = service.limits
    app = build_app(service, token, LOOPBACK if host in LOOPBACK else ("*",))
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=port,
        http=HttpProtocol,
        access_log=False,  # paths hold users
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        ws="none",
        limit_concurrency=limits.max_connections,
        timeout_graceful_shutdown=limits.stop_seconds,
    )
    listening = _listening(config.host, port)
    keep_out_of_collections()
    name = f"[{host}]" if ":" in host and "[" not in host else host
    address = f"http://{name}:{listening.getsockname()[1]}"
    server = _Server(config, f"serving {service.live.name} at {address} (page for people), {address}/docs (API)")
    before = signal.signal(signal.SIGTERM, server.handle_exit)  # uvicorn has its own for as long as it serves
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:  # uvloop, where there is one
            runner.run(_serve(server, service, listening))
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        listening.close()
    log.info("stopped")


def _listening(host: str, port: int) -> socket.socket:
    """A socket at the address.

    Raises:
        RecsysLabError: why there is none.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise RecsysLabError(f"--port {port}: another program has {host}:{port}; choose another port") from None
        is_port = error.errno == errno.EACCES
        raise RecsysLabError(
            f"{f'--port {port}' if is_port else f'--host {host}'}: can't listen there: {error.strerror or error}"
        ) from None
    made.set_inheritable(True)
    return made


class _Server(uvicorn.Server):
    """Says where it is as soon as it answers there, and is stopped by signals."""

    def __init__(self, config: uvicorn.Config, told: str) -> None:
        super().__init__(config)
        self.told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        log.info("%s; stop with Ctrl-C", self.told)


async def _serve(server: uvicorn.Server, service: Service, listening: socket.socket) -> None:
    if hasattr(signal, "SIGHUP"):
        running = set()

        def again() -> None:
            task = asyncio.ensure_future(_reload(service))
            running.add(task)
            task.add_done_callback(running.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again)
    await server.serve(sockets=[listening])


async def _reload(service: Service) -> None:
    try:
        await service.reload()
    except Exception:
        return  # it was told
