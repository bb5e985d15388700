"""Bars as inline SVG: axes, labels, a title per bar; colours come from the page's CSS, so light and dark both work."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 380, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 26, 36


def bars(
    heights: Sequence[float],
    names: Sequence[str],
    label: str,
    x_title: str,
    y_title: str,
    ticks: dict[float, str],
    percent: bool = False,
    kind: str = "a",
    height: int = HEIGHT,
) -> str:
    """One row of bars.

    Args:
        heights: of each bar, 0 or more.
        names: what each bar is, for its tooltip.
        label: what the picture shows, for screen readers.
        ticks: place on the x axis in bars (0 = left edge of the first bar) -> text.
        percent: heights are shares.
        kind: colour, the CSS class `bar-<kind>`.
    """
    top = nice_ceiling(max(heights, default=0))
    plot_width, plot_height = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM
    height, bottom = (height, BOTTOM) if x_title else (height - 14, BOTTOM - 14)
    step = plot_width / max(len(heights), 1)
    gap = min(2.0, step * 0.15)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">']
    for share in (0, 0.5, 1):
        y = TOP + plot_height * (1 - share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(top * share, percent)}</text>')
    for index, (value, name) in enumerate(zip(heights, names, strict=True)):
        tall = plot_height * value / top
        tall = max(tall, 1.0) if value else 0.0  # what is not zero is seen
        x, y = LEFT + index * step + gap / 2, TOP + plot_height - tall
        shown = short(value, percent)
        parts.append(
            f'<rect class="bar-{kind}" x="{x:.1f}" y="{y:.1f}" width="{step - gap:.1f}" height="{tall:.1f}">'
            f"<title>{escape(name)}: {shown}</title></rect>"
        )
    for place, text in ticks.items():
        x = LEFT + place * step
        anchor = "end" if x > WIDTH - RIGHT - 12 else "start" if x < LEFT + 1 and len(text) > 6 else "middle"
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 15}" text-anchor="{anchor}">{escape(text)}</text>')
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{height - 5}" text-anchor="end">{escape(x_title)}</text>')
    parts.append(f'<text class="axis" x="2" y="13">{escape(y_title)}</text></svg>')
    return "".join(parts)


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten that is not below `value`; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 0.001
    while power * 10 < value:
        power *= 10
    return next(power * m for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * m >= value)


def short(value: float, percent: bool = False) -> str:
    """12, 3.4k, 1.2M; 12 % for shares."""
    if percent:
        return f"{100 * value:.3g} %"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
