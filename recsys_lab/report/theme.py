"""Colours of the page and its figures, light and dark: one place for CSS and for Vega-Lite.

The series colours are those of Okabe and Ito (2008), which people with any common colour blindness can tell apart,
without yellow (too faint on white); for dark pages the same hues, lighter. Series also differ in shape or dash.
"""

from __future__ import annotations

from typing import Any

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
FILE_FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
"""Of files: all three are as wide as each other."""

LIGHT = {
    "page": "#f6f6f3",
    "card": "#ffffff",
    "ink": "#1f2328",
    "soft": "#5c6570",
    "line": "#dcdcd6",
    "accent": "#0067a5",
    "warning": "#b3450b",
    "faint": "#9aa1a9",
}
DARK = {
    "page": "#14171a",
    "card": "#1d2125",
    "ink": "#e6e8ea",
    "soft": "#a9b1ba",
    "line": "#363c43",
    "accent": "#6cb6ee",
    "warning": "#f4935a",
    "faint": "#79818a",
}
SERIES_LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a"]
SERIES_DARK = ["#4ea6e0", "#f07f35", "#2fc398", "#e39ac4", "#f0b93a", "#9bd3f5", "#ab8fd6"]
SERIES = len(SERIES_LIGHT)
"""How many series a figure tells apart."""
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]
DASHES = [[1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [5, 5], [3, 1], [12, 4], [1, 0]]
"""One more of both than of colours, and a grey: for what is there to be compared with, such as untrained baselines."""

MODES: dict[str, tuple[dict[str, str], list[str]]] = {"light": (LIGHT, SERIES_LIGHT), "dark": (DARK, SERIES_DARK)}
STILL = ({name: f"var(--{name})" for name in LIGHT}, [f"var(--s{i})" for i in range(SERIES)])
"""Colours of a picture that is part of a page, and so follows its mode without being drawn again."""


def css_variables(mode: str) -> str:
    """`--page:#f6f6f3;...` for a rule of the style sheet."""
    colours, series = MODES[mode]
    named = {**colours, **{f"s{i}": colour for i, colour in enumerate(series)}}
    return ";".join(f"--{name}:{value}" for name, value in named.items())


def vega_config(mode: str) -> dict[str, Any]:
    """The Vega-Lite configuration of all figures, for a name of `MODES` or `still`. Marks name a style (`ink`, `soft`,
    `line`, `accent`, `halo`), never a colour, so that one specification serves all modes."""
    colours, series = STILL if mode == "still" else MODES[mode]
    text = {"labelColor": colours["ink"], "titleColor": colours["soft"], "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **text,
            "titleFontWeight": 400,
            "domainColor": colours["faint"],
            "tickColor": colours["faint"],
            "gridColor": colours["line"],
            "labelLimit": 260,
            "titleLimit": 600,
        },
        "legend": {
            **text,
            "orient": "bottom",
            "labelLimit": 320,
            "symbolLimit": 40,
            "columns": 3,
            "layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 6}},
            "title": None,
            "symbolOpacity": 1,
            "symbolBaseFillColor": colours["soft"],
            "symbolBaseStrokeColor": colours["soft"],
        },
        "axisQuantitative": {"tickCount": 6},
        "title": {"color": colours["ink"], "fontSize": 13, "anchor": "start", "fontWeight": 600},
        "range": {"category": [*series, colours["faint"]], "symbol": SHAPES},
        "mark": {"color": colours["accent"]},
        "style": {
            **{name: _painted(colours[name]) for name in ("ink", "soft", "line", "accent", "faint", "warning")},
            "halo": {**_painted(colours["card"]), "stroke": colours["card"], "strokeWidth": 4},
            "label": {"color": colours["ink"], "fontSize": 12},
        },
    }


def _painted(colour: str) -> dict[str, str]:
    """For marks that are filled, stroked, or both by kind: each takes what it needs."""
    return {"color": colour}
