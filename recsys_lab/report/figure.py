"""One figure: a chart, what it shows in words, and its files for papers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.report.theme import DASHES, FILE_FONT, SERIES, SHAPES, vega_config

WIDTH = 560
"""Of the files for papers, in pixels of the SVG (PNGs have twice as many)."""
STILL_WIDTH = 280
"""Of figures that are part of a page: with their axes as wide as a phone, and shown larger where there is room."""
_MARGIN = re.compile(r'<g fill="none" stroke-miterlimit="10" transform="translate\((\d+)')
"""How far a finished SVG moves its plot to the right: the room that labels took."""


@dataclass(frozen=True)
class Figure:
    """name: unique in the report: an anchor and a file name. chart: of altair. alt: what it shows, for who can't see
    it. note: how to read it, and what is left out. lines: of the longest name on a `name_axis`, where it is narrow."""

    name: str
    title: str
    chart: Any
    alt: str
    note: str = ""
    lines: int = 1

    def spec(self, width: int | str = "container") -> dict[str, Any]:
        """The Vega-Lite specification, without colours of a mode. On the page it is as wide as its container."""
        import altair as alt
        from altair.utils.schemapi import debug_mode

        with alt.data_transformers.enable("default", max_rows=None), debug_mode(False):
            spec: dict[str, Any] = self.chart.properties(width=width).to_dict(validate=False)
        spec.pop("config", None)
        spec["description"] = self.alt
        spec["usermeta"] = {"longest": _longest_legend(spec), "lines": self.lines}
        spec["autosize"] = {"type": "fit-x" if width == "container" else "pad", "contains": "padding"}
        return spec

    def save(self, folder: Path) -> list[Path]:
        """Writes the SVG and PNG files, in light colours on white."""
        import vl_convert

        svg = _as_svg(self.spec(WIDTH), {**vega_config("light"), "background": "white"})
        paths = [folder / f"{self.name}.svg", folder / f"{self.name}.png"]
        paths[0].write_text(svg)
        paths[1].write_bytes(vl_convert.svg_to_png(svg, scale=2))
        return paths

    def still(self) -> str:
        """The figure as part of a page without a script: an SVG that has the page's colours, light or dark, and tells
        the numbers of a mark where the pointer rests on it."""
        svg = _as_svg(self.spec(STILL_WIDTH), vega_config("still"), STILL_WIDTH)
        svg = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", svg)
        return re.sub(r'(<path aria-label="([^"]*)"(?![^>]*line mark)[^>]*)/>', r"\1><title>\2</title></path>", svg)


def data_of(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows for a chart. As a frame, since altair checks every value of plain rows against its schema (a minute a
    page)."""
    return pl.DataFrame(rows, infer_schema_length=None).fill_nan(None)  # JSON has no NaN


def by_series(
    slots: Sequence[str], field: str = "name", form_slots: Sequence[str] = (), form: str = ""
) -> dict[str, Any]:
    """Encodings `color`, `shape` and `strokeDash` that give a name what its slot has. Their legend has the names that
    are there; where colours and forms are of two fields with other names, each has one.

    Args:
        slots: the name in each slot, of `Palette.slots`; one more than it has is grey.
        form_slots: the same for shapes and dashes, which then are those of the field `form`.
    """
    import altair as alt

    def legend(slots: Sequence[str]) -> Any:
        return alt.Legend(values=[name for name in slots if not name.startswith("unused ")])

    colours, forms = list(slots), list(form_slots) or list(slots)
    form, of_forms = (field, forms) if forms == colours else (form, forms[:SERIES])  # grey is said beside the colours
    colour_legend, form_legend = legend(colours), legend(of_forms)
    return {
        "color": alt.Color(f"{field}:N", scale=alt.Scale(domain=colours), legend=colour_legend),
        "shape": alt.Shape(f"{form}:N", scale=alt.Scale(domain=forms, range=SHAPES), legend=form_legend),
        "strokeDash": alt.StrokeDash(f"{form}:N", scale=alt.Scale(domain=forms, range=DASHES), legend=form_legend),
    }


def points(series: dict[str, Any]) -> dict[str, Any]:
    """Of `by_series`, what a point can show."""
    return {"color": series["color"], "shape": series["shape"]}


NARROW = 240
"""Pixels of a chart, without its axes, below which the parts of a name stand below each other: cut at its end,
`a - b=20` and `a - b=50` would be one."""


def name_axis() -> Any:
    """An axis of names whose parts are joined by ` · `."""
    import altair as alt

    return alt.Axis(labelExpr=f"width < {NARROW} ? split(datum.label, ' \u00b7 ') : datum.label")


def left_out(shown: int, of: int, what: str) -> str:
    """What a figure leaves out, in words; empty where it leaves out nothing."""
    return "" if shown >= of else f" Drawn: the {shown} best of {of} {what}; the table has all."


def _as_svg(spec: dict[str, Any], config: dict[str, Any], width: int = WIDTH) -> str:
    """An SVG whose texts find room in another font too: it is shown with the fonts of whoever opens it, and DejaVu Sans
    is about a sixth wider than the Arial-like one by which the room is measured here."""
    import vl_convert

    config = {**config, "font": FILE_FONT}
    columns = max(1, width // (7 * spec["usermeta"]["longest"] + 40))  # as page.js does
    config["legend"] = {**config["legend"], "columns": columns, "columnPadding": 30}
    svg: str = vl_convert.vegalite_to_svg(spec, config=config)
    left = _MARGIN.search(svg)
    room = {"left": 5 + int(left[1]) // 6 if left else 5, "right": 25, "top": 5, "bottom": 5}
    return vl_convert.vegalite_to_svg({**spec, "padding": room}, config=config)


def _longest_legend(spec: Any) -> int:
    """Characters of the longest legend entry in a specification."""
    if isinstance(spec, list):
        return max(map(_longest_legend, spec), default=0)
    if not isinstance(spec, dict):
        return 0
    legend, scale = spec.get("legend", {}), spec.get("scale")
    domain = scale.get("domain") if isinstance(scale, dict) else None
    names = None if legend is None else legend.get("values") or domain
    here = [len(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return max([*here, *(_longest_legend(part) for key, part in spec.items() if key != "data")], default=0)
