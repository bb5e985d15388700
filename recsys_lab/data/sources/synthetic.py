"""The built-in synthetic set under a name like the others. It needs no network."""

from __future__ import annotations

from recsys_lab.data.synthetic import Synthetic

SOURCES = [Synthetic()]
