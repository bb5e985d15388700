"""Texts of others in Markdown, LaTeX, CSV and JSON: they end no cell, are no markup and run nothing."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

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


def plain(value: str) -> str:
    """A text that comes from data or from a run's name, for Markdown: nothing in it is HTML or ends a cell."""
    shown = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(shown.replace("|", r"\|").split())


def prose(value: str) -> str:
    """The same for a sentence or a heading: one line, and no HTML. `p < .05` stays as it is: it begins no tag."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(value.split()))


def latex_text(value: str) -> str:
    """The same for LaTeX."""
    # a row that begins with [ would be read as the optional argument of the \\ before it
    shown = "".join(_LATEX.get(c, c) for c in value)
    return "{}" + shown if shown.startswith(("[", "*")) else shown


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """One line for each record, with the names of the first as head; no text is a formula to a spreadsheet."""
    if not records:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in records)
    return out.getvalue().rstrip("\n")


def as_json(found: Any) -> str:
    """JSON without NaN, which JSON does not have."""

    def known(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: known(v) for k, v in value.items()}
        if isinstance(value, list):
            return [known(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(known(found), indent=2, default=str)


def _no_formula(value: Any) -> Any:
    return "'" + value if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
