"""The width of the terminal, and lines of words that fit it."""

from __future__ import annotations

import re
import shutil
import textwrap

_ROW = re.compile(r"\S {2,}\S")
"""A row of a table: what stands in columns is wrapped by `recsys_lab.report.table.text`, which knows them."""
HANGING = "  "
LEAST = 20
"""No words are wrapped in less room."""


def terminal_width() -> int:
    """Of the environment's COLUMNS, else of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def wrapped(text: str, width: int | None = None) -> str:
    """The lines of a text, each in at most `width` characters (default: `terminal_width`), but for longer words. What
    goes on in another line is indented; rows of tables stay whole."""
    width = max(terminal_width() if width is None else width, LEAST)
    return "\n".join(
        line if len(line) <= width or _ROW.search(line) else "\n".join(folded(line, width)) for line in text.split("\n")
    )


def folded(line: str, width: int, hanging: str = HANGING) -> list[str]:
    """One line in parts of at most `width` characters; never none."""
    begin = line[: len(line) - len(line.lstrip())]
    found = textwrap.wrap(
        line, width, subsequent_indent=begin + hanging, break_long_words=False, break_on_hyphens=False
    )
    return found or [""]
