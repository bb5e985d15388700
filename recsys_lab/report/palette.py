"""Which variant has which colour: the same one in every figure and every block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from recsys_lab.report.theme import SERIES


class Palette:
    """Slots of the series colours. The first keys to ask for a slot keep it in every later figure; where a figure would
    get two of one slot, the later key takes a free one there."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._slot: dict[str, int] = {}
        for key in keys:
            self._wanted(key)

    def slots(self, shown: Sequence[str], keys: Sequence[str] | None = None) -> list[str]:
        """(SERIES,) the name in each slot of one figure; `unused k` where there is none.

        Args:
            shown: names as the figure shows them, at most SERIES.
            keys: what they are called in every block; None = the same.
        """
        found: dict[int, str] = {}
        for name, key in zip(shown, keys if keys is not None else shown, strict=True):
            wanted = self._wanted(key)
            around = ((wanted + step) % SERIES for step in range(SERIES))
            found[next(slot for slot in around if slot not in found)] = name
        return [found.get(slot, f"unused {slot}") for slot in range(SERIES)]

    def _wanted(self, key: str) -> int:
        return self._slot.setdefault(key, len(self._slot) % SERIES)
