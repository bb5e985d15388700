"""`recsys-lab diagnose QUESTION RUN_FOLDER ...`: questions to a finished run."""

from __future__ import annotations

import difflib
import importlib
import importlib.util

from recsys_lab.words import RecsysLabError

QUESTIONS = {
    "shuffle": ("recsys_lab.cli.shuffle", "does the model, or the data, need the order of events?"),
    "calibration": ("recsys_lab.cli.calibration", "are the model's probabilities as large as what then happens?"),
}


def questions() -> dict[str, tuple[str, str]]:
    """Those of `QUESTIONS` that are part of this installation."""
    return {name: entry for name, entry in QUESTIONS.items() if importlib.util.find_spec(entry[0]) is not None}


def run(arguments: list[str]) -> None:
    """Runs `recsys-lab diagnose QUESTION ...`; `arguments` begin with `diagnose`.

    Raises:
        RecsysLabError: when the question is missing or unknown.
    """
    known, rest = questions(), arguments[1:]
    if rest and rest[0] in ("-h", "--help"):
        print(_help(known))
        return
    if not rest:
        raise RecsysLabError(f"say what to diagnose: {', '.join(known)}. Each has its own --help")
    if rest[0] not in known:
        close = difflib.get_close_matches(rest[0], known, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise RecsysLabError(f"can't diagnose {rest[0]!r}.{hint} Known: {', '.join(known)}")
    importlib.import_module(known[rest[0]][0]).run(rest)


def _help(known: dict[str, tuple[str, str]]) -> str:
    lines = "\n".join(f"  {name:12s} {text}" for name, (_, text) in known.items())
    return f"usage: recsys-lab diagnose QUESTION RUN_FOLDER [options]\n\n{lines}\n\nEach question has its own --help."
