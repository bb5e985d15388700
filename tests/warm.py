"""Processes that start warm: forked from one that has imported torch, Lightning and the package already.

A tiny fit takes 4 seconds of a processor, and 3.5 of them are imports. So conftest.py puts `WarmPopen` in the place of
`subprocess.Popen`: what it starts with this Python, a script or `-m recsys_lab.cli`, is forked from a server, which is
started when it is first needed. It is a process of its own all the same, with its own id, session, files, environment,
signals and exit code; only its imports were made before. Other commands are started as ever. So is everything where
there is no fork to trust (elsewhere than on Linux), and what has `RECSYS_LAB_TESTS_COLD` in its environment.

    test --arguments, folder, environment, three files--> server --fork--> the process
    test <---------------process id, then its wait status-- server
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import inspect
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path
from typing import Any

COLD = "RECSYS_LAB_TESTS_COLD"
ADDRESS = "RECSYS_LAB_TESTS_WARM"
"""Of a server that was started before: that of pytest-xdist's first process, for its workers."""
COMMANDS = (["-m", "recsys_lab.cli"], ["-m", "recsys_lab.cli.__main__"])  # the second is how Lightning starts the first
PlainPopen = subprocess.Popen


class WarmPopen(PlainPopen):  # type: ignore[type-arg]
    """`subprocess.Popen`, warm where it can be."""

    address: str | None = None
    """Of the server's socket; None before the first is started."""
    server: subprocess.Popen[bytes] | None = None
    _waits: socket.socket | None = None

    def _execute_child(self, *given: Any) -> None:
        asked = inspect.signature(PlainPopen._execute_child).bind(self, *given).arguments  # type: ignore[attr-defined]
        if not is_warm(asked):
            return super()._execute_child(*given)  # type: ignore[misc]
        pipes = [asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        files = [asked[name] if asked[name] != -1 else i for i, name in enumerate(("p2cread", "c2pwrite", "errwrite"))]
        environment = os.environ if asked["env"] is None else asked["env"]
        request = {
            "arguments": [os.fspath(part) for part in asked["args"]][1:],
            "folder": os.fspath(asked["cwd"] or os.getcwd()),
            "environment": {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()},
            "own_session": asked["start_new_session"],
            "heeds_interrupts": signal.getsignal(signal.SIGINT) is not signal.SIG_IGN,
        }
        text = json.dumps(request).encode()
        self._waits = socket.socket(socket.AF_UNIX)
        self._waits.connect(os.environ.get(ADDRESS) or WarmPopen.address or start_server())
        socket.send_fds(self._waits, [struct.pack("I", len(text))], files)
        self._waits.sendall(text)
        answer = self._waits.recv(4)
        assert answer, "the server of warm processes has ended: its traceback is above"
        (self.pid,) = struct.unpack("i", answer)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._waits is None:
            return super()._try_wait(flags)  # type: ignore[misc]
        try:
            status = self._waits.recv(4, socket.MSG_DONTWAIT if flags & os.WNOHANG else 0)
        except BlockingIOError:
            return 0, 0
        self._waits.close()
        return self.pid, struct.unpack("i", status)[0] if status else signal.SIGKILL

    def _internal_poll(self, *given: Any, **named: Any) -> int | None:
        if self._waits is None:
            return super()._internal_poll(*given, **named)  # type: ignore[misc]
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG) if self.returncode is None else (0, 0)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def is_warm(asked: dict[str, Any]) -> bool:
    """Whether these arguments of `_execute_child` are ours to start."""
    if isinstance(asked["args"], str | bytes | os.PathLike) or sys.platform != "linux":
        return False
    arguments = [os.fspath(part) for part in asked["args"]]
    environment = os.environ if asked["env"] is None else asked["env"]
    other = ("preexec_fn", "pass_fds", "shell", "gid", "gids", "uid")
    return (
        len(arguments) > 1
        and arguments[0] == sys.executable
        and (arguments[1:3] in COMMANDS or arguments[1].endswith(".py"))
        and not any(asked[name] for name in other if asked[name] is not None)
        and not {COLD, "PYTHONHASHSEED"} & environment.keys()
    )


def start_server() -> str:
    """Starts the server of this process and everything that it starts; it ends with this process."""
    folder = tempfile.mkdtemp(prefix="warm-")
    address = str(Path(folder) / "socket")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, address]
    server = PlainPopen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert server.stdin is not None and server.stdout is not None
    server.stdout.read()  # it closes when it listens; the imports come with the first process that is asked for
    WarmPopen.address, WarmPopen.server = address, server

    def end() -> None:
        server.stdin.close()
        server.wait()
        with contextlib.suppress(OSError):
            Path(address).unlink()
            Path(folder).rmdir()

    owner = os.getpid()
    atexit.register(lambda: end() if os.getpid() == owner else None)
    return address


# -- the server, a process of its own ---------------------------------------------------------------------------------


def serve(address: str) -> dict[str, Any]:
    """Answers until the tests end, and then leaves. In a forked process it returns what that is to do."""
    import recsys_lab

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    os.dup2(2, 1)  # whoever started this knows that it listens
    if 0 in select.select([listening, 0], [], [])[0]:  # no test needed a process
        os._exit(0)
    for module in pkgutil.walk_packages(recsys_lab.__path__, "recsys_lab."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended, wakes = os.pipe2(os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes)
    started: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listening, 0, ended], [], [])
        if 0 in ready:  # it closes when the tests end
            os._exit(0)
        if ended in ready:
            os.read(ended, 4096)
            tell_ends(started)
        if listening in ready:
            connection, _ = listening.accept()
            request, files = read_request(connection)
            pid = os.fork()
            if pid == 0:
                for own in (ended, wakes, listening, connection, *started.values()):
                    os.close(own if isinstance(own, int) else own.detach())
                become(request, files)
                return {**request, "address": address}
            for file in files:
                os.close(file)
            started[pid] = connection
            with contextlib.suppress(OSError):  # nobody may listen any more
                connection.sendall(struct.pack("i", pid))


def read_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What is to be started, and its standard input, output and error."""
    head, files, _, _ = socket.recv_fds(connection, 4, 3)
    (left,) = struct.unpack("I", head)
    text = b""
    while len(text) < left:
        text += connection.recv(left - len(text))
    return json.loads(text), files


def tell_ends(started: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            with contextlib.suppress(OSError), started.pop(found[0]) as connection:
                connection.sendall(struct.pack("i", found[1]))


def become(request: dict[str, Any], files: list[int]) -> None:
    """This process, as if it had been started by itself."""
    if request["own_session"]:
        os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler if request["heeds_interrupts"] else signal.SIG_IGN)
    for place, file in enumerate(files):
        os.dup2(file, place)
    for file in files:
        if file > 2:
            os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(line_buffering=is_unbuffered or os.isatty(1))  # type: ignore[union-attr]
    random.seed()
    rank_zero = sys.modules.get("lightning_utilities.core.rank_zero")
    if rank_zero is not None:  # it looked at the environment when it was imported
        ranks = (os.environ.get(name) for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))
        rank_zero.rank_zero_only.rank = next((int(rank) for rank in ranks if rank), 0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(threads) if threads.isdigit() else os.cpu_count() or 1)


def start(request: dict[str, Any]) -> None:
    """What Python does with its command line."""
    WarmPopen.address = request["address"]
    subprocess.Popen = WarmPopen  # type: ignore[misc]
    arguments = request["arguments"]
    is_command = arguments[:2] in COMMANDS
    first = request["folder"] if is_command else str(Path(arguments[0]).resolve().parent)
    more = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [first, *more, *(part for part in sys.path[1:] if part not in more)]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if is_command:
        sys.argv = ["-m", *arguments[2:]]
        runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
    else:
        sys.argv = list(arguments)
        main.__file__ = arguments[0]
        exec(compile(Path(arguments[0]).read_bytes(), arguments[0], "exec"), main.__dict__)


def leave(code: object) -> None:
    """What Python does at its end, without taking a thousand modules apart."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    sys.modules["warm"] = sys.modules["__main__"]
    asked = serve(sys.argv[1])
    try:
        start(asked)
    except SystemExit as stop:
        leave(stop.code)
    leave(0)
