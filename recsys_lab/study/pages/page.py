"""The page of a study: sections of tables and figures, in one HTML file that needs nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_lab.report.figure import Figure
from recsys_lab.report.table import UNKNOWN, Cell
from recsys_lab.report.theme import MODES, css_variables, vega_config
from recsys_lab.study.pages.sections import make_sections
from recsys_lab.study.results import StudyResults

if TYPE_CHECKING:
    from recsys_lab.study.tune.results import TuningResults

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """html: the whole file. figures: those in it, in its order."""

    html: str
    figures: list[Figure] = field(default_factory=list)


def study_page(results: StudyResults, tuning: TuningResults | None = None) -> Page:
    """The report of a study as one HTML page.

    Args:
        tuning: what `study tune` found, where it was run.
    """
    import jinja2

    sections = make_sections(results, tuning)
    figures = [figure for section in sections for card in section.cards for figure in card.figures]
    loader = jinja2.FileSystemLoader(HERE)
    engine = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    engine.filters["typeset"] = _typeset
    html = engine.get_template("page.html").render(
        results=results,
        findings=[line for line in results.answer.findings if line != results.answer.sentence],
        protocol=_protocol(results),
        warnings=_cautions(results, "warning"),
        hints=_cautions(results, "note"),
        sections=sections,
        light=css_variables("light"),
        dark=css_variables("dark"),
        style=(HERE / "page.css").read_text(),
        script=(HERE / "page.js").read_text(),
        library=_library().replace("</script", r"<\/script"),
        specs=_json({figure.name: figure.spec() for figure in figures}),
        configs=_json({mode: vega_config(mode) for mode in MODES}),
    )
    return Page(html, figures)


def _typeset(cell: Cell, part: str = "text") -> str:
    """A part of a cell, with a dash for what is unknown and the sign of minus in numbers."""
    text: str = getattr(cell, part)
    if cell.value is not None:
        return text.replace("-", "\N{MINUS SIGN}")
    return "\N{EN DASH}" if text == UNKNOWN else text


@cache
def _library() -> str:
    """Vega-Embed with all that it needs, as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", r"<\/script")


def _json(plain: Any) -> str:
    """Safe inside a script element, whatever names hold."""
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _protocol(results: StudyResults) -> str:
    finished = results.states.get("finished", 0)
    splits = sorted({block.split for block in results.blocks})
    seeds = sorted(
        {seed for block in results.blocks for line in block.lines for seed in line.seeds if seed is not None}
    )
    parts = [
        f"{results.deciding}@{results.cutoff}, full ranking",
        f"split {', '.join(splits)}",
        f"{len(results.blocks)} {'block' if len(results.blocks) == 1 else 'blocks'} of comparable runs",
        f"{finished} of {results.planned} planned runs finished",
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}",
        f"epochs chosen by {results.select}",
    ]
    return " · ".join(parts)


def _cautions(results: StudyResults, severity: str) -> list[dict[str, str]]:
    """where: the block, in a study of several whose texts do not name it themselves."""
    titles = {block.key: block.title for block in results.blocks} if len(results.blocks) > 1 else {}
    found = []
    for one in results.cautions:
        title = titles.get(one.block, "")
        if one.severity == severity:
            found.append({"where": "" if one.text.startswith(title) else title, "text": one.text})
    return found
