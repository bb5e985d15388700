"""`recsys-lab study SUBCOMMAND FILE`: ablations planned, run, tuned and reported. One file per subcommand."""

from __future__ import annotations

import difflib
import importlib
import os

from recsys_lab.words import RecsysLabError

SUBCOMMANDS = {
    "plan": ("recsys_lab.cli.study.plan", "every run with its state, and what the missing ones will cost"),
    "run": ("recsys_lab.cli.study.run", "run what is missing, here or on a cluster"),
    "status": ("recsys_lab.cli.study.status", "how far it is: states, failures, the time that is left"),
    "retry": ("recsys_lab.cli.study.retry", "run failed runs again"),
    "report": ("recsys_lab.cli.study.report", "one HTML page, Markdown, LaTeX and figures of the finished runs"),
    "tune": ("recsys_lab.cli.study.tune", "the same search budget for each value of an axis"),
}

HELP = f"""usage: recsys-lab study SUBCOMMAND FILE [options]

FILE is a study.yaml, or a folder that holds one.

{os.linesep.join(f"  {name:8s}{text}" for name, (_, text) in SUBCOMMANDS.items())}

Examples:
  recsys-lab study plan experiments/losses
  recsys-lab study run experiments/losses --workers 2
  recsys-lab study report experiments/losses

Each subcommand has its own --help. The manual is docs/studies.md."""


def run(arguments: list[str]) -> None:
    """Runs `recsys-lab study ...`; `arguments` begin with `study`."""
    rest = arguments[1:]
    if not rest:
        raise RecsysLabError(
            f"study needs a subcommand ({', '.join(SUBCOMMANDS)}) and a study file; `recsys-lab study --help` "
            "explains them"
        )
    if rest[0] in ("-h", "--help"):
        print(HELP)
        return
    if rest[0] not in SUBCOMMANDS:
        close = difflib.get_close_matches(rest[0], SUBCOMMANDS, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise RecsysLabError(f"unknown subcommand {rest[0]!r} of study.{hint} Known: {', '.join(SUBCOMMANDS)}")
    importlib.import_module(SUBCOMMANDS[rest[0]][0]).run(rest)
