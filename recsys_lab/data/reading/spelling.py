"""How an option is spelled in a message: as the reader of the message would type it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_on_command_line: ContextVar[bool] = ContextVar("on_command_line", default=False)


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Within it options are spelled `--format csv`; without it `format='csv'`, as in Python."""
    before = _on_command_line.set(True)
    try:
        yield
    finally:
        _on_command_line.reset(before)


def is_command_line() -> bool:
    return _on_command_line.get()


def option(name: str, value: str | None = None) -> str:
    """`--format csv` or `format='csv'`; without a value `--format` or `format=`."""
    if is_command_line():
        plain = value is None or all(c.isalnum() or c in "_-./," for c in value)
        return f"--{name}" + ("" if value is None else f" {value}" if plain else f" '{value}'")
    return f"{name}=" + ("" if value is None else repr(value))
