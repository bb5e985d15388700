"""`prepare --shards N` of a log that is read in tasks: the same folder as `prepare` writes in one process."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from recsys_lab import __version__
from recsys_lab.data.prepare.pipeline import reused, say_remarks
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.prepare.store import exclusive, is_disk_full
from recsys_lab.data.reading.digests import file_state
from recsys_lab.data.reading.file_source import FileSource
from recsys_lab.data.shards.raw_rounds import Rounds
from recsys_lab.data.shards.task_queue import OVER, TaskQueue
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

MOST_PARTS = 256
"""Each is an open file while a piece of the log is divided."""
ABOUT = "about.json"


@dataclass(frozen=True)
class Job:
    """What is prepared, and where. Any number of processes may work on it at once."""

    source: FileSource
    settings: PrepareSettings
    output: Path
    raw_dir: Path
    parts: int

    @property
    def root(self) -> Path:
        return tasks_folder(self.output)

    def key(self) -> dict[str, Any]:
        """With another one, what lies in `root` is of no use."""
        states = {str(path): file_state(path) for path in self.source.files(self.raw_dir)}
        named = [self.source.name, self.source.reading(), self.settings.as_dict(), states, self.parts, __version__]
        return {"of": hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()}

    def check(self) -> None:
        """Raises RecsysLabError where the files changed since the first task."""
        if json.loads((self.root / ABOUT).read_text()) != self.key():
            raise RecsysLabError(f"the files of {self.source.name!r} changed while they were read: prepare again")

    def rounds(self, queue: TaskQueue) -> Rounds:
        return Rounds(self.source, self.settings, self.raw_dir, self.parts, queue)


def tasks_folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.tasks")


def prepare_in_tasks(
    source: FileSource,
    settings: PrepareSettings,
    output: Path,
    raw_dir: Path,
    shards: int,
    processes: int = 1,
    shard: int | None = None,
    force: bool = False,
    replaces: bool = False,
) -> ProcessedDataset:
    """As `pipeline.prepare`, in tasks that other processes may share: of this machine (`processes`), or of others that
    call this with the same arguments but `shard`.

    Raises:
        RecsysLabError: as `pipeline.prepare`, and for impressions.
    """
    if source.impressions is not None:
        raise RecsysLabError("--impressions can't be in shards yet: leave --shards out")
    output, raw_dir = output.absolute(), raw_dir.absolute()
    job = Job(source, settings, output, raw_dir, min(shards, MOST_PARTS))
    with exclusive(output):
        found = reused(source, settings, output, raw_dir, force, replaces)
    if found is None:
        _begin(job, force)
        _work_all(job, processes, shard or 0)
        found = ProcessedDataset.open(output)
        say_remarks(found)
    if shard is None:
        shutil.rmtree(job.root, ignore_errors=True)
    return found


def _begin(job: Job, force: bool) -> None:
    with exclusive(job.root):
        about, wanted = job.root / ABOUT, job.key()
        if not about.is_file() or json.loads(about.read_text()) != wanted or (job.root / OVER).exists() or force:
            shutil.rmtree(job.root, ignore_errors=True)
            job.root.mkdir(parents=True)
            about.write_text(json.dumps(wanted))
        else:
            log.info("going on with the tasks in %s", job.root)


def _work_all(job: Job, processes: int, first: int) -> None:
    """This process and `processes` - 1 others; it alone writes the set, since it alone says what there is to say."""
    if processes == 1:
        _work(job, first)
        return
    threads = os.environ.get("POLARS_MAX_THREADS")
    os.environ["POLARS_MAX_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))  # read when they start
    try:
        with ProcessPoolExecutor(processes - 1, get_context("spawn")) as pool:
            others = [pool.submit(_help, job, first + one, os.getpid()) for one in range(1, processes)]
            try:
                _work(job, first)
            except BaseException:
                for process in active_children():
                    process.terminate()
                raise
            for other in others:
                if (error := other.exception()) is not None:  # what it had begun was done here
                    log.warning("one of the processes ended early, perhaps for want of memory: %s", error)
    finally:
        del os.environ["POLARS_MAX_THREADS"]
        if threads is not None:
            os.environ["POLARS_MAX_THREADS"] = threads


def _help(job: Job, first: int, parent: int) -> None:
    with _not_after_the_end(job):
        job.rounds(TaskQueue(job.root, first, parent)).filtered()


def _work(job: Job, first: int) -> None:
    with _not_after_the_end(job):
        rounds = job.rounds(TaskQueue(job.root, first))
        rounds.write(rounds.filtered(), job.output, job.check)


@contextmanager
def _not_after_the_end(job: Job) -> Iterator[None]:
    """When another process has written the set, the files of the rounds are gone, in the middle of whatever is done."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise RecsysLabError(
                f"no space left on the disk of {job.root}: free some and run the same command again. What is done stays"
            ) from error
        if not (job.root / OVER).exists():
            raise
