"""The built-in synthetic set under a name like the others. It needs no network."""

from __future__ import annotations

from recsys_lab.data.sources.made_events import Synthetic

SOURCES = [Synthetic()]
