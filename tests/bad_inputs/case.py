"""A bad input, what a user should read, and what recsys_lab made of it: clear, unclear, a traceback, or silent."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys_lab.cli import main
from recsys_lab.words import RecsysLabError

MOST_LINES = 3
"""An error is one line; a list of what is known, and the line that names --help, may follow."""


@dataclass(frozen=True)
class Case:
    """One command as a user types it.

    Args:
        name: for people; unique.
        arguments: what follows `recsys-lab`, as typed in a shell. `$RUN` is a finished run folder, `$DATA` the data
            folder that it used; paths without either lie in a fresh working folder.
        files: what lies in the working folder: text, bytes, or None for an empty folder, by relative path.
        code: the exit code that is right. 0: the input is accepted, and `says` must be in what is printed.
        says: a regular expression that the message must match (`re.search`, ignoring case).
        may_leave: patterns (`Path.match`) of what may be in the working folder afterwards, besides `files`.
    """

    name: str
    arguments: str
    says: str
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    code: int = 2
    may_leave: tuple[str, ...] = ("data/**",)

    def run(self, places: Mapping[str, str]) -> int:
        return main(shlex.split(filled(self.arguments, places)))


@dataclass(frozen=True)
class PythonCase:
    """One call from Python, which must raise RecsysLabError with a message that matches `says`.

    `code` 0: it must return, and `says` must be in the text of what it returns.
    """

    name: str
    call: Callable[[Mapping[str, str]], Any]
    says: str
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    code: int = 2
    may_leave: tuple[str, ...] = ("data/**",)

    def run(self, places: Mapping[str, str]) -> int:
        try:
            print(self.call(places))
        except RecsysLabError as error:
            print(f"recsys-lab: error: {error}", file=sys.stderr)
            return 2
        return 0


@dataclass(frozen=True)
class Outcome:
    """`verdict`: clear, unclear, traceback, silent or accepted; `text`: what was printed; `left`: files written."""

    case: Case | PythonCase
    verdict: str
    text: str
    left: tuple[str, ...]

    def __str__(self) -> str:
        left = f"\n    left behind: {', '.join(self.left)}" if self.left else ""
        shown = "\n    ".join(self.text.strip().splitlines()[-8:])
        return f"{self.case.name}: {self.verdict}, wanted {self.case.code} and /{self.case.says}/\n    {shown}{left}"


def filled(text: str, places: Mapping[str, str]) -> str:
    """`text` with each $NAME of `places` as its path."""
    for name, path in places.items():
        text = text.replace(f"${name}", path)
    return text


def try_case(case: Case | PythonCase, folder: Path, places: Mapping[str, str]) -> Outcome:
    """Runs a case in this process, in a working folder of its own below `folder` (which must be new)."""
    work = folder / "work"
    work.mkdir(parents=True)
    for name, content in case.files.items():
        path = work / name
        if content is None:
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else filled(content, places).encode())
    before, here = set(work.rglob("*")), Path.cwd()
    printed = io.StringIO()
    os.chdir(work)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code: int | None = case.run(places)
    except (Exception, SystemExit):
        code = None
        printed.write(traceback.format_exc())
    finally:
        os.chdir(here)
        _drop_log_handlers(printed)
    written = sorted(str(path.relative_to(work)) for path in set(work.rglob("*")) - before if path.is_file())
    left = tuple(w for w in written if not any(_matches(w, pattern) for pattern in case.may_leave)) if code else ()
    return Outcome(case, _verdict(case, code, printed.getvalue()), printed.getvalue(), left)


def _verdict(case: Case | PythonCase, code: int | None, text: str) -> str:
    if code is None or "Traceback (most recent call last)" in text:
        return "traceback"
    said = re.search(case.says, text, re.IGNORECASE | re.DOTALL) is not None
    if code == 0:
        return "silent" if case.code or not said else "accepted"
    errors = list(re.finditer(r"^recsys-lab[\w ]*: error: ", text, re.MULTILINE))
    error = text[errors[-1].start() :] if errors else ""
    one_line = 0 < len(error.strip().splitlines()) <= MOST_LINES
    return "clear" if code == case.code and said and one_line else "unclear"


def _matches(path: str, pattern: str) -> bool:
    folder, whole, _ = pattern.partition("/**")
    return path.startswith(folder + "/") if whole else Path(path).match(pattern)


def _drop_log_handlers(stream: io.StringIO) -> None:
    """Handlers that a command made write to this case's text: the next case has its own."""
    for name in ("recsys_lab", "lightning.pytorch", ""):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if getattr(handler, "stream", None) is stream:
                logger.removeHandler(handler)
