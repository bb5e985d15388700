"""One form of page: a head that answers, warnings, sections of cards with tables, figures and facts; one HTML file that
needs nothing else."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from recsys_lab.report.figure import Figure
from recsys_lab.report.table import UNKNOWN, Cell, Table
from recsys_lab.report.theme import MODES, css_variables, vega_config

HERE = Path(__file__).parent
NEEDED = {"altair": "altair", "jinja2": "jinja2", "vl_convert": "vl-convert-python"}


def missing_packages() -> str:
    """What a page needs and is not installed, with the command that installs it; empty where all is there."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    return f"{', '.join(missing)}: pip install 'recsys-lab[report]'" if missing else ""


@dataclass(frozen=True)
class Card:
    """Figures, then tables_first, open, then tables, closed. facts: two columns, shown as a list."""

    title: str = ""
    text: str = ""
    tables_first: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[Table] = ()
    is_closed: bool = False


@dataclass(frozen=True)
class Section:
    """key: its anchor. is_folded: it opens with a click, or when its link is followed."""

    key: str
    title: str
    cards: Sequence[Card]
    lead: str = ""
    is_folded: bool = False

    @property
    def is_paired(self) -> bool:
        """Two cards stand side by side where there is room."""
        return len(self.cards) > 1 and all(len(card.figures) == 1 and not card.tables_first for card in self.cards)


@dataclass(frozen=True)
class Page:
    """kind, name: what the page is about, `Study` `losses`. heading: a question, or what was asked of the name.

    answer: in one or two sentences; findings: behind it. tone: `bad` or `good`, how the answer is marked. protocol: how
        it was found, in a line; method: the same at length. cautions: (severity `warning` or `note`, where, text).
    foot: where the numbers are.
    is_live: figures are drawn by the page itself, and tables sort and filter; otherwise it holds no script.
    """

    kind: str
    name: str
    heading: str
    answer: str
    sections: Sequence[Section]
    foot: str
    tone: str = ""
    findings: Sequence[str] = ()
    protocol: str = ""
    method: str = ""
    cautions: Sequence[tuple[str, str, str]] = field(default_factory=list)
    is_live: bool = False

    @property
    def figures(self) -> list[Figure]:
        """Those in it, in its order."""
        return [figure for section in self.sections for card in section.cards for figure in card.figures]

    @cached_property
    def html(self) -> str:
        """The whole file."""
        import jinja2

        engine = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True)
        engine.filters["typeset"] = _typeset
        engine.filters["said"] = _said
        live: dict[str, Any] = {}
        if self.is_live:
            live = {
                "script": (HERE / "page.js").read_text(),
                "library": _library() if self.figures else "",
                "specs": _json({figure.name: figure.spec() for figure in self.figures}),
                "configs": _json({mode: vega_config(mode) for mode in MODES}),
            }
        return engine.get_template("page.html").render(
            page=self,
            warnings=[(where, text) for severity, where, text in self.cautions if severity == "warning"],
            hints=[(where, text) for severity, where, text in self.cautions if severity == "note"],
            light=css_variables("light"),
            dark=css_variables("dark"),
            style=(HERE / "page.css").read_text(),
            **live,
        )


def _said(text: str) -> str:
    """A sentence: what stands in backticks is code, and no line begins with a percent sign."""
    import markupsafe

    escaped = str(markupsafe.escape(text)).replace(" %", "\N{NO-BREAK SPACE}%")
    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))


def _typeset(cell: Cell, part: str = "text") -> str:
    """A part of a cell, with a dash for what is unknown, the sign of minus in numbers and code in words."""
    text: str = getattr(cell, part)
    if cell.value is not None:
        return text.replace("-", "\N{MINUS SIGN}")
    if text == UNKNOWN:
        return "\N{EN DASH}"
    return _said(text) if "`" in text else text


@cache
def _library() -> str:
    """Vega-Embed with all that it needs, as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", r"<\/script")


def _json(plain: Any) -> str:
    """Safe inside a script element, whatever names hold."""
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
