"""Significance groups: a compact letter display. Two rows share a letter exactly when they do not differ
significantly."""

from __future__ import annotations

import string
from collections.abc import Collection, Iterator

LETTERS = string.ascii_lowercase + string.ascii_uppercase


def groups_of(rows: list[int], different: Collection[tuple[int, int]]) -> list[list[int]]:
    """Groups of rows such that two rows are in a group together exactly when they are not in `different`.

    A greedy cover of all pairs that do not differ by cliques of such pairs: the fewest cliques would be NP-hard to
    find, and any cover says the same. (Piepho 2004 inserts and absorbs columns, which can take exponential time for
    hundreds of rows.)

    Args:
        rows: best first; a group is in this order, and groups are sorted by their members' places.
        different: pairs that differ significantly, in either order.
    """
    place = {row: i for i, row in enumerate(rows)}
    everyone = (1 << len(rows)) - 1
    alike = [everyone] * len(rows)  # bit j of alike[i]: i and j do not differ
    for a, b in different:
        if a in place and b in place:
            alike[place[a]] &= ~(1 << place[b])
            alike[place[b]] &= ~(1 << place[a])
    uncovered = [alike[i] & ~(1 << i) for i in range(len(rows))]
    found: list[int] = []
    for i in range(len(rows)):
        while uncovered[i] or not any(group >> i & 1 for group in found):
            group = _grow(1 << i, alike[i], uncovered[i], alike)
            found.append(group)
            for j in _bits(group):
                uncovered[j] &= ~group
    return [[rows[j] for j in places] for places in sorted(list(_bits(group)) for group in found)]


def _grow(group: int, candidates: int, preferred: int, alike: list[int]) -> int:
    """A clique with `group` in it that nothing can be added to: members of `preferred` first, then any candidate."""
    for wanted in (preferred, candidates):
        for j in _bits(wanted & ~group):
            if candidates >> j & 1:
                group, candidates = group | 1 << j, candidates & alike[j]
    return group


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def letters_of(rows: list[int], groups: list[list[int]]) -> dict[int, str]:
    """Row -> its letters; numbers with commas where the letters do not suffice."""
    of_row: dict[int, list[int]] = {row: [] for row in rows}
    for number, group in enumerate(groups):
        for row in group:
            of_row[row].append(number)
    if len(groups) <= len(LETTERS):
        return {row: "".join(LETTERS[number] for number in numbers) for row, numbers in of_row.items()}
    return {row: ",".join(str(number + 1) for number in numbers) for row, numbers in of_row.items()}
