"""Help in the width of the terminal, as argparse does it for its own."""

from __future__ import annotations

import shutil
import textwrap

WIDEST = 118


def laid_out(text: str, column: int = 0) -> str:
    """Lines of a help text, wrapped: of `option<tab>what it does` the second part stands in a column of its own.

    Args:
        column: where it begins; 0 = what suits options with their defaults.
    """
    width = min(max(shutil.get_terminal_size().columns - 1, 40), WIDEST)
    column = column or (40 if width > 100 else 24)
    lines: list[str] = []
    for line in text.splitlines():
        option, tab, about = line.partition("\t")
        if tab:
            wrapped = textwrap.wrap(about, width - column) or [""]
            if len(option) > column - 3:
                lines += [f"  {option}"]
                option = ""
            lines += [f"  {option:{column - 2}s}{wrapped[0]}".rstrip(), *(" " * column + more for more in wrapped[1:])]
        else:
            hanging = "        " if line.startswith((" ", "usage:")) else ""
            lines += textwrap.wrap(line, width, subsequent_indent=hanging, break_on_hyphens=False) or [""]
    return "\n".join(lines)
