"""One run executed as its own process: started or resumed, its output and its end kept in the run folder.

<folder>/run.yaml    the configuration that it was started with
<folder>/log.txt     standard output and error of every attempt
<folder>/job.json    state, host, pid, times, exit code, attempts; the last lines of a failed run's traceback
<folder>/claim.json  while a worker has it
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import yaml

from recsys_lab.runs.claim import FIT, is_alive, owner, process_started
from recsys_lab.runs.run_files import (
    OF_A_TEST,
    UNFINISHED,
    ChangedRunError,
    check_checkpoint,
    check_file,
    is_tested,
    read_json,
    read_manifest,
    write_json,
)

State = Literal["finished", "failed", "interrupted", "running", "missing"]
BROKEN = ("nan", "error")
"""`stopped_by` of a run that failed by itself."""
TAKEN_AWAY = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""A run that ended so was not at fault: it resumes. (Out of memory is one of these, and job.json says SIGKILL; some
clusters announce the end of a job's time with SIGUSR1 or SIGUSR2 to every process.)"""
GRACE_SECONDS = 60.0
"""That an interrupted run has to write its checkpoint before it is killed."""
ERROR_LINES = 12


@dataclass(frozen=True)
class Job:
    """A run to execute. folder: the run folder; config: what `recsys-lab fit --config` is given; starter: what the
    command is put behind, such as `srun` for a run of several processes; after: the folder of a run that must end
    before it begins."""

    folder: Path
    config: dict[str, Any]
    starter: tuple[str, ...] = ()
    after: Path | None = None

    def command(self) -> list[str]:
        """Of the process: from the beginning, or from the last checkpoint."""
        command = [sys.executable, "-m", "recsys_lab.cli", "fit"]
        if can_resume(self.folder):  # what the study file names is the user's own word
            own = sorted(_foreign_classes(self.config))
            return [*command, str(self.folder), *(["--allow_classes", ",".join(own)] if own else [])]
        return [*command, "--config", str(self.folder / "run.yaml"), "--run.overwrite", "true"]


@dataclass(frozen=True)
class Outcome:
    """How an execution ended. `finished`, `failed`, `interrupted`; `running`: another worker has the run."""

    state: State
    exit_code: int | None = None
    seconds: float = 0.0
    error: str = ""


class Execution:
    """The process of a run, to be watched while it works: `process.poll()`, then `finish`. The caller has claimed the
    folder."""

    def __init__(self, job: Job, environment: dict[str, str] | None = None) -> None:
        self.job, self.started = job, time.time()
        folder = job.folder
        folder.mkdir(parents=True, exist_ok=True)
        command = [*job.starter, *job.command()]
        (folder / "run.yaml").write_text(yaml.safe_dump(job.config, sort_keys=False))
        self.attempts = int(read_job(folder).get("attempts", 0)) + 1
        self.log: IO[str] = (folder / "log.txt").open("a")
        self.log.write(f"\n$ {shlex.join(command)}  # attempt {self.attempts}, {_now()}\n")
        self.log.flush()
        with heeding_interrupts():
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
            )
        self._write("running")

    def ask_to_stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def finish(self) -> Outcome:
        """Writes job.json after the process has ended. The outcome is kept as `outcome`."""
        self.log.close()
        code = self.process.returncode
        state: State = "finished" if code == 0 else "interrupted" if code == 130 or -code in TAKEN_AWAY else "failed"
        error = ""
        if state == "finished" and not is_finished(self.job.folder):
            state, error = "failed", "the process ended without results; see log.txt"
        elif state != "finished" and code != 130:
            error = _last_lines(self.job.folder / "log.txt", code)
        self._write(state, exit_code=code, ended=_now(), error=error)
        self.outcome = Outcome(state, code, time.time() - self.started, error)
        return self.outcome

    def _write(self, state: State, **more: Any) -> None:
        facts = {
            "state": state,
            "host": socket.gethostname(),
            "pid": self.process.pid,
            "process_started": process_started(self.process.pid),
            "attempts": self.attempts,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started)),
            **{name: value for name, value in more.items() if value not in (None, "")},
        }
        write_json(self.job.folder / "job.json", facts)


@contextlib.contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Processes that are started inside heed SIGINT even where this one ignores it, as a shell makes what it starts in
    the background do: they would be deaf to `Execution.ask_to_stop` otherwise."""
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not is_ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a handler, unlike SIG_IGN, is not inherited
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def read_job(folder: Path) -> dict[str, Any]:
    return read_json(folder / "job.json")


def state_of(folder: Path, ignore_claim: bool = False) -> State:
    """What the files of a run folder say.

    Args:
        ignore_claim: look past a worker's claim, e.g. one's own.
    """
    if not folder.is_dir():
        return "missing"
    if not ignore_claim and owner(folder) is not None:
        return "running"
    if owner(folder, FIT) is not None:  # started by hand, or its launcher was killed and it lives on
        return "running"
    job = read_job(folder)
    is_here = job.get("state") == "running" and job.get("host") == socket.gethostname()
    if is_here and is_alive(job.get("pid"), job.get("process_started")):  # it has not come to its claim yet
        return "running"
    if is_finished(folder):
        return "finished"
    stopped_by = read_json(folder / "manifest.json").get("stopped_by")
    if job.get("state") == "failed" or stopped_by in BROKEN:
        return "failed"
    return "missing" if stopped_by is None and not job else "interrupted"


def is_finished(folder: Path) -> bool:
    """All results are there: training came to its own end, and the test's ranks unless only a fit was asked for."""
    manifest = read_json(folder / "manifest.json")
    if manifest.get("stopped_by") in (None, *UNFINISHED):
        return False
    if any((folder / name).is_file() for name in ("ranks.parquet", "outcomes.parquet")):
        return is_tested(manifest, read_json(folder / "metrics.json")) and _agrees(folder)
    try:
        asked = yaml.safe_load((folder / "run.yaml").read_text())
        return asked["run"]["test_after_fit"] is False
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False


def _agrees(folder: Path) -> bool:
    """Ranks, metrics and checkpoint are those that the manifest was written with. Where they are not, the run goes on
    from its last checkpoint, which tests it again."""
    try:
        manifest = read_manifest(folder, needed=())
        for name in (*OF_A_TEST, "metrics.json"):
            check_file(folder, manifest, name)
        check_checkpoint(folder, manifest)
    except (OSError, ChangedRunError):
        return False
    return True


def can_resume(folder: Path) -> bool:
    return (folder / "checkpoints" / "last.ckpt").is_file() and (folder / "config.yaml").is_file()


def _foreign_classes(config: Any) -> set[str]:
    """Every `class_path` of a configuration that is not of recsys_lab."""
    if isinstance(config, list):
        return {name for value in config for name in _foreign_classes(value)}
    if not isinstance(config, dict):
        return set()
    own = {str(value) for key, value in config.items() if key == "class_path"}
    own = {name for name in own if "." in name and not name.startswith("recsys_lab.")}
    return own | {name for value in config.values() for name in _foreign_classes(value)}


def _last_lines(path: Path, code: int | None) -> str:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    begin = max((i for i, line in enumerate(lines) if line.startswith("$ ")), default=-1) + 1
    end = f" (killed by {signal.Signals(-code).name})" if code is not None and code < 0 else ""
    return "\n".join(lines[begin:][-ERROR_LINES:]) + end


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
