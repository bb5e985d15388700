"""Where raw interactions come from: public data sets by name, and the user's own files.

A new public set is one new module in this package with a `SOURCES` list; nothing else has to know of it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.download import DownloadError
from recsys_lab.data.reading.file_source import FileSource
from recsys_lab.data.reading.source import RawTables, Source
from recsys_lab.words import RecsysLabError, did_you_mean

__all__ = ["Columns", "DownloadError", "FileSource", "RawTables", "Source", "get_source", "own_source", "source_names"]


@functools.cache
def _sources() -> dict[str, Source]:
    found: dict[str, Source] = {}
    for module in pkgutil.iter_modules(__path__):
        for source in getattr(importlib.import_module(f"{__name__}.{module.name}"), "SOURCES", []):
            if source.name in found:
                raise ValueError(f"two sources are called {source.name!r}; the second is in {module.name}")
            found[source.name] = source
    return dict(sorted(found.items()))


def source_names() -> list[str]:
    """Names of all known public sets, sorted."""
    return list(_sources())


def get_source(name: str) -> Source:
    """The public set of this name; upper case and `_` are read as lower case and `-`.

    Raises:
        RecsysLabError: for an unknown name, suggesting the closest and listing the known ones.
    """
    known = _sources()
    wanted = name.lower().replace("_", "-")
    if wanted in known:
        return known[wanted]
    raise RecsysLabError(f"unknown data set {name!r}.{did_you_mean(wanted, known)} Known: {', '.join(known)}")


def own_source(path: str) -> Source:
    """A source of the user's own: `my_package.source`, or `my_package.source:our-shop` where its `SOURCES` are several.
    The module is imported: for what is typed, not for what a file of others names.

    Raises:
        RecsysLabError: where there is no such module, or no such source in it.
    """
    module, _, name = path.partition(":")
    try:
        found = {source.name: source for source in importlib.import_module(module).SOURCES}
    except (ImportError, AttributeError) as error:
        raise RecsysLabError(f"{module!r} is no module with a list SOURCES: {error}") from error
    if taken := sorted(set(found) & set(_sources())):
        raise RecsysLabError(f"{module} has a source {taken[0]!r}, which is the name of a public data set: rename it")
    if name in found or (not name and len(found) == 1):
        return found[name or next(iter(found))]
    raise RecsysLabError(f"{module} has the sources {', '.join(found)}: name one, {module}:{next(iter(found), 'NAME')}")
