"""A reliability diagram as inline SVG; colours come from the page's CSS."""

from __future__ import annotations

import math
from html import escape
from typing import Any

WIDTH, HEIGHT = 380, 330
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 40


def reliability_diagram(bins: dict[str, Any], limit: float, label: str) -> str:
    """One dot per bin at (mean confidence, accuracy), its area by the targets in it, with the gap to the diagonal.

    Args:
        bins: lists `confidence`, `accuracy` and `count`, one entry per bin.
        limit: where both axes end, 0 < limit <= 1.
        label: what the picture shows, for screen readers.
    """
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        return LEFT + across * min(value / limit, 1.0)

    def y(value: float) -> float:
        return TOP + up * (1 - min(value / limit, 1.0))

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for step in range(5):
        value = limit * step / 4
        text = f"{100 * value:.3g} %"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{text}</text>')
        anchor = "end" if step == 4 else "middle"
        parts.append(f'<text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{anchor}">{text}</text>')
    parts.append(f'<line class="ideal" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(limit):.1f}" y2="{y(limit):.1f}"/>')
    most = max(bins["count"])
    for confidence, accuracy, count in zip(bins["confidence"], bins["accuracy"], bins["count"], strict=True):
        at = f"{x(confidence):.1f}"
        radius = max(2.5, 8 * math.sqrt(count / most))
        parts.append(f'<line class="gap" x1="{at}" x2="{at}" y1="{y(confidence):.1f}" y2="{y(accuracy):.1f}"/>')
        parts.append(
            f'<circle class="dot" cx="{at}" cy="{y(accuracy):.1f}" r="{radius:.1f}"><title>{count:,} targets: called '
            f"{100 * confidence:.2f} % likely, {100 * accuracy:.2f} % came true</title></circle>"
        )
    parts.append(
        f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">called so likely</text>'
        '<text class="axis" x="2" y="13">came true</text></svg>'
    )
    return "".join(parts)
