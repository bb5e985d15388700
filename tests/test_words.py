"""How a number and what it counts are written: one of a thing is not several."""

from __future__ import annotations

import pytest

from recsys_lab.words import number_of, number_of_these


def test_a_number_and_its_noun() -> None:
    assert [number_of(n, "check") for n in (0, 1, 2, 1_000)] == ["0 checks", "1 check", "2 checks", "1,000 checks"]
    assert (number_of(1, "search", "searches"), number_of(3, "search", "searches")) == ("1 search", "3 searches")


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("empty lines", "1 empty line"),
        ("rows without a usable time", "1 row without a usable time"),
        ("val events that are their user's first (no history)", "1 val event that is their user's first (no history)"),
        ("users with fewer than 3 events (they train only)", "1 user with fewer than 3 events (they train only)"),
    ],
)
def test_a_number_and_a_phrase(plural: str, one: str) -> None:
    assert number_of_these(1, plural) == one and number_of_these(1_200, plural) == f"1,200 {plural}"
