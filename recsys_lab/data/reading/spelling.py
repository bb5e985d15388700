"""How an option is spelled in a message: as the reader of the message would type it."""

from __future__ import annotations

import contextlib
import shlex
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
        quoted = value if plain or value is None else shlex.quote(value) if "'" in value else f"'{value}'"
        return f"--{name}" + ("" if quoted is None else f" {quoted}")
    return f"{name}=" + ("" if value is None else repr(value))


def again(advice: str) -> str:
    """Advice to those whose own set is prepared already: as typed, it has to replace that set."""
    return f"{advice} {option('replace')}" if is_command_line() else advice
