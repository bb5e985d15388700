"""Cells laid out as a table: plain text, Markdown, LaTeX with booktabs. A cell in ** ** is bold."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

Cells = dict[str, str]

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def text(cells: list[Cells], left: Collection[str]) -> str:
    """Columns of one width each; those named in `left` are flush left."""
    titles = list(cells[0])
    widths = {t: max(len(t), *(len(c[t]) for c in cells)) for t in titles}

    def line(values: Cells) -> str:
        parts = [values[t].ljust(widths[t]) if t in left else values[t].rjust(widths[t]) for t in titles]
        return "  ".join(parts).rstrip()

    return "\n".join([line({t: t for t in titles}), *(line(c) for c in cells)])


def plain(value: str) -> str:
    """A text that comes from data or from a run's name, for Markdown: nothing in it is HTML or ends a cell."""
    shown = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(shown.replace("|", r"\|").split())


def prose(value: str) -> str:
    """The same for a sentence or a heading: one line, and no HTML. `p < .05` stays as it is: it begins no tag."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(value.split()))


def csv_text(value: Any) -> Any:
    """A cell of a CSV file: a text that a spreadsheet would run as a formula begins with an apostrophe."""
    return "'" + value if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def markdown(cells: list[Cells]) -> str:
    titles = list(cells[0])
    rows = [[plain(v) for v in row] for row in (titles, *([c[t] for t in titles] for c in cells))]
    rows.insert(1, ["---"] * len(titles))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def latex(cells: list[Cells], left: Collection[str]) -> str:
    r"""A tabular for \usepackage{booktabs}."""
    titles = list(cells[0])
    columns = "".join("l" if t in left else "r" for t in titles)
    lines = [r"\begin{tabular}{" + columns + "}", r"\toprule", _line(titles), r"\midrule"]
    lines += [_line([c[t] for t in titles]) for c in cells]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _line(values: list[str]) -> str:
    return " & ".join(escaped(value) for value in values) + r" \\"


def escaped(value: str) -> str:
    """Plain text for LaTeX; ** ** becomes bold."""
    if len(value) > 4 and value.startswith("**") and value.endswith("**"):
        return r"\textbf{" + escaped(value[2:-2]) + "}"
    # a row that begins with [ would be read as the optional argument of the \\ before it
    shown = "".join(_LATEX.get(c, c) for c in value)
    return "{}" + shown if shown.startswith(("[", "*")) else shown
