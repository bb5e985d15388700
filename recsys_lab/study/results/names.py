"""What variants and blocks are called, from the axes that tell them apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Values = Mapping[str, str]


def block_axes(axes: Sequence[str], blocks: Sequence[Sequence[Values]]) -> list[str]:
    """Axes that tell blocks apart: one value in each block, and not the same in all. `blocks`: the values of the
    variants of each block; explicit variants have none and don't count."""
    found = []
    for axis in axes:
        inside = [{values[axis] for values in block if axis in values} for block in blocks]
        inside = [one for one in inside if one]
        if len(inside) > 1 and all(len(one) == 1 for one in inside) and len(set.union(*inside)) > 1:
            found.append(axis)
    return found


def varying_axes(axes: Sequence[str], block: Sequence[Values]) -> list[str]:
    """Axes with more than one value in a block."""
    return [axis for axis in axes if len({values[axis] for values in block if axis in values}) > 1]


def joined(values: Values, axes: Sequence[str]) -> str:
    """`sasrec · max_length=50`: the values of some axes; a number or a yes/no alone says nothing, so it is named."""
    return " · ".join(value_name(axis, values[axis]) for axis in axes if axis in values)


def value_name(axis: str, value: str) -> str:
    says_nothing = value.lower() in ("true", "false", "none") or not re.search(r"[A-Za-z]", value)
    return f"{axis.rpartition('.')[2]}={value}" if says_nothing else value


def anchor(text: str) -> str:
    """Letters, digits, - and _ only."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") or "block"


def unique(texts: Sequence[str]) -> list[str]:
    """A number behind those that are there before."""
    count: dict[str, int] = {}
    found = []
    for text in texts:
        count[text] = count.get(text, 0) + 1
        found.append(text if count[text] == 1 else f"{text}-{count[text]}")
    return found


def listed(texts: Sequence[str], most: int = 3) -> str:
    """`a, b and c`, `a, b and 3 more`."""
    texts = list(dict.fromkeys(texts))
    if len(texts) <= most:
        return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
    return f"{', '.join(texts[:most])} and {len(texts) - most} more"


def sentences(texts: Sequence[str]) -> str:
    """`the first. The second`: several things said, one after the other."""
    return ". ".join([*texts[:1], *(text[:1].upper() + text[1:] for text in texts[1:])])
