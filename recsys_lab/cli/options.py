"""What the commands' parsers share: errors in a line or two, and options written with - or _."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from recsys_lab.arguments import Range
from recsys_lab.cli.errors import explain

ALLOW_CLASSES = (
    "--allow_classes NAMES: classes or packages of others (my_package.MyEncoder,other) that a run folder or a "
    "checkpoint may name, since you trust them; without it nothing of them is imported."
)
"""The end of the help of every command that reads run folders: the option is taken before a parser sees it."""


class Parser(ArgumentParser):
    """Says what was wrong in a line or two; `prog` is the command, e.g. `recsys-lab audit`."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a parser inside the parser: the outer one names the whole key
            super().error(message, ex)
        print(f"{self.prog}: error: {explain(message, self)}", file=sys.stderr)
        print(f"All options: {self.prog} --help", file=sys.stderr)
        self.exit(2)


class PlainParser(argparse.ArgumentParser):
    """argparse's, for commands with a handful of options: an error is a line, without the usage."""

    def __init__(self, **settings: Any) -> None:
        epilog = "\n\n".join(filter(None, (settings.pop("epilog", None), ALLOW_CLASSES)))
        super().__init__(epilog=epilog, **settings)

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        print(f"All options: {self.prog} --help", file=sys.stderr)
        self.exit(2)


def number(kind: Callable[[str], Any], allowed: Range) -> Callable[[str], Any]:
    """argparse's `type` for a number in a range."""

    def parsed(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}") from None
        if not allowed.holds(value):
            raise argparse.ArgumentTypeError(f"must be {allowed.text(value)}, not {text}")
        return value

    return parsed


COUNT = number(int, Range(at_least=1, at_most=10**9))
NOT_BELOW_0 = number(int, Range(at_least=0, at_most=10**12))
SHARE = number(float, Range(above=0, below=1))
TOLERANCE = number(float, Range(at_least=0))
SEED = number(int, Range(at_least=0, below=2**32))


def underscores(arguments: list[str]) -> list[str]:
    """`--data-dir=my-data` -> `--data_dir=my-data`; whatever is no option stays as it is."""
    return [_underscores(argument) for argument in arguments]


def _underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value
