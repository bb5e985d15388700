"""One parser for many command lines: building it takes longer than parsing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PARTS = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")


@contextmanager
def shared_parser() -> Iterator[None]:
    """Inside the block, `fit` and its like build the parser of each command once."""
    from recsys_lab.runs.fit.command_line import CommandLine

    build, made = CommandLine.setup_parser, dict[str, dict[str, Any]]()

    def setup_parser(self: CommandLine, *arguments: Any) -> None:
        command = self.arguments[0]
        if command not in made:
            build(self, *arguments)
            made[command] = {name: getattr(self, name) for name in PARTS}
        vars(self).update(made[command])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CommandLine, "setup_parser", setup_parser)
        yield
