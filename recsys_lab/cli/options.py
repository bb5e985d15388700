"""What the commands' parsers share: errors in a line or two, and options written with - or _."""

from __future__ import annotations

import sys
from typing import NoReturn

from jsonargparse import ArgumentParser

from recsys_lab.runs.fit.parse_errors import explain


class Parser(ArgumentParser):
    """Says what was wrong in a line or two; `prog` is the command, e.g. `recsys-lab audit`."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a parser inside the parser: the outer one names the whole key
            super().error(message, ex)
        print(f"{self.prog}: error: {explain(message, self)}", file=sys.stderr)
        print(f"All options: {self.prog} --help", file=sys.stderr)
        self.exit(2)


def underscores(arguments: list[str]) -> list[str]:
    """`--data-dir=my-data` -> `--data_dir=my-data`; whatever is no option stays as it is."""
    return [_underscores(argument) for argument in arguments]


def _underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value
