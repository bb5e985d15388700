"""The life of a run folder: who writes in it, what starts over, what goes on, what is replaced and when.

    <run>/fit_claim.json      while a `fit` works there: a second one is refused
    <run>/replacement/        the new run of `--run.overwrite true`, until it has succeeded; the old one stays till then
    <run>/replacement.done/   a new run that has succeeded and takes the old one's place: the next `fit` ends an
                              exchange that was killed in its middle

docs/runs.md tells it from the user's side.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from recsys_lab.runs.claim import BEAT_SECONDS, FIT, STALE_SECONDS, claimed, owner
from recsys_lab.runs.run_files import OF_A_TEST, UNFINISHED, read_json
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")

RESULTS = ("manifest.json", "config.yaml", "metrics.csv", "metrics.json", *OF_A_TEST)
FOLDERS = ("wandb", "tensorboard", "test", "validate", "predict", "shuffle", "calibration")
"""Of the loggers, and of what was computed from a run later: they go with the run that they belong to."""
REPLACEMENT = "replacement"
DONE, MOVING = "replacement.done", "replacement.moving"
POLL_SECONDS = 1.0


@dataclass
class Place:
    """Where a fit writes.

    home: the run folder.
    folder: where the files go: `home`, or a folder inside it while a new run is to replace the one in `home`.
    resumes_from: the checkpoint that the fit goes on from.
    """

    home: Path
    folder: Path
    resumes_from: str | None = None

    @property
    def replaces(self) -> bool:
        return self.folder != self.home

    def finish(self) -> None:
        """The fit has succeeded: its files take the place of those that they replace."""
        if self.replaces:
            os.replace(self.folder, self.home / DONE)
            finish_replacement(self.home)

    def drop(self) -> None:
        """The fit was refused before its first step: what it had written goes."""
        was_trained = holds_run(self.folder) or read_json(self.folder / "manifest.json").get("stopped_by") == "nan"
        if self.resumes_from is None and is_first_process() and not was_trained:
            clear(self.folder)

    @property
    def has_epochs(self) -> bool:
        return (self.folder / "checkpoints" / "last.ckpt").is_file()

    def way_on(self) -> str:
        """What to type after an interruption."""
        kept = f"; the run that it was to replace is still in {self.home}" if self.replaces else ""
        if self.has_epochs:
            return f"epochs so far are kept; go on with: recsys-lab fit {shlex.quote(str(self.folder))}{kept}"
        return f"no epoch was finished: the same command starts again{kept}"


def settings_hash(config_text: str) -> str:
    """Of a run's config.yaml as it was asked for."""
    return hashlib.sha256(config_text.encode()).hexdigest()[:16]


def take_place(folder: Path, overwrite: bool, resumes_from: str | None, settings: str, held: ExitStack) -> Place:
    """Claims a run folder for a fit, before anything is written in it.

    A restart (torchrun's or SLURM's count in the environment) of the run with these very settings goes on from its
    last checkpoint. A run that was killed or failed before its first checkpoint is no run: it starts over.

    Args:
        folder: the run folder, or a replacement in it that a fit goes on with.
        overwrite: replace the run that is there, once the new one has succeeded.
        resumes_from: checkpoint.
        settings: hash of this run's settings.
        held: what holds the claim; closing it gives the folder free.

    Raises:
        RecsysLabError: when another process works there, when a run would be lost, or when the folder can't be made.
    """
    home = folder.parent if folder.name == REPLACEMENT and (folder.parent / "manifest.json").is_file() else folder
    if is_first_process():
        held.enter_context(_claim(home))
        finish_replacement(home)
    if resumes_from is not None and Path(resumes_from).resolve().is_relative_to(folder.resolve()):
        return Place(home, folder, resumes_from)
    if is_restart():
        for earlier in (home / REPLACEMENT, home):
            last = earlier / "checkpoints" / "last.ckpt"
            if last.is_file() and read_json(earlier / "manifest.json").get("settings_hash") == settings:
                log.info("a restart: going on from %s", last)
                return Place(home, earlier, str(last))
    if holds_run(home) and not overwrite:
        raise RecsysLabError(
            f"{home} holds a run already. Go on with it: `recsys-lab fit {home}`; keep both: --run.variant NAME or "
            "another --seed_everything; replace it: --run.overwrite true"
        )
    beside = overwrite and (any(_checkpoints(home)) or any((home / name).is_file() for name in OF_A_TEST))
    place = Place(home, home / REPLACEMENT if beside else home, resumes_from)
    if is_first_process():
        if beside:
            log.info("the run in %s is replaced when the new one has succeeded", home)
            shutil.rmtree(place.folder, ignore_errors=True)
        elif (home / "manifest.json").is_file():
            log.info("%s: a run that has no checkpoint yet: starting from the beginning", home)
            clear(home)
    return place


def is_first_process() -> bool:
    """The one that writes. The others are started by it (Lightning), or beside it (torchrun, srun)."""
    names = ["RANK", "LOCAL_RANK", "NODE_RANK"]
    if "RANK" not in os.environ and _number("SLURM_NTASKS") > 1:
        names.append("SLURM_PROCID")
    return all(_number(name) == 0 for name in names)


def is_restart() -> bool:
    """Started again by torchrun after a process was lost, or by SLURM after the job was queued again."""
    return _number("TORCHELASTIC_RESTART_COUNT") > 0 or _number("SLURM_RESTART_COUNT") > 0


def holds_run(folder: Path) -> bool:
    """False for a run without checkpoints that did not end by itself, and where there is none."""
    if any(_checkpoints(folder)):
        return True
    return (folder / "manifest.json").is_file() and read_json(folder / "manifest.json").get(
        "stopped_by"
    ) not in UNFINISHED


def clear(folder: Path) -> None:
    """Removes a run; what others keep in its folder (a study's log, notes) stays."""
    partial = [path for where in (folder, folder / "checkpoints") for path in where.glob("*.partial")]
    for path in [*(folder / name for name in RESULTS), *_checkpoints(folder), *partial]:  # first what makes it a run
        path.unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    with suppress(OSError):  # it holds what is not ours
        (folder / "checkpoints").rmdir()


def finish_replacement(home: Path) -> None:
    """Exchanges the old run for the new one that has succeeded, also where an earlier exchange was killed."""
    if (home / DONE).is_dir():
        clear(home)
        os.replace(home / DONE, home / MOVING)
    if (home / MOVING).is_dir():
        _move_into(home / MOVING, home)


def _move_into(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in sorted(source.iterdir(), key=lambda path: path.name == "manifest.json"):  # last: it makes it a run
        if entry.is_dir() and (target / entry.name).is_dir():
            _move_into(entry, target / entry.name)
        else:
            os.replace(entry, target / entry.name)
    source.rmdir()


@contextmanager
def _claim(home: Path) -> Iterator[None]:
    made = [path for path in (home, *home.parents) if not path.exists()]
    end = time.time() + STALE_SECONDS + BEAT_SECONDS
    while is_restart() and time.time() < end and owner(home, FIT) is not None:  # of a node that was lost
        time.sleep(POLL_SECONDS)
    try:
        with ExitStack() as stack:
            try:
                is_mine = stack.enter_context(claimed(home, FIT))
            except OSError as error:
                if home.is_dir() and home not in made:  # a run that goes on: there is no folder to make
                    raise
                raise RecsysLabError(
                    f"can't make the run folder {home}: {error.strerror or error}; choose another with --run.root or "
                    "--run.folder"
                ) from None
            if not is_mine:
                who = owner(home, FIT) or {}
                raise RecsysLabError(
                    f"another fit works in {home} (process {who.get('pid')} on {who.get('host')}, since "
                    f"{who.get('since')}): wait until it has ended, or give this one --run.variant NAME or another "
                    "--seed_everything"
                )
            yield
    finally:
        for path in made:  # a refusal leaves nothing behind
            with suppress(OSError):
                path.rmdir()


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("*.ckpt"))


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else 0
