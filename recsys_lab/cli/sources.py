"""`recsys-lab sources`: the public data sets that are known by name."""

from __future__ import annotations

from recsys_lab.data.sources import get_source, source_names
from recsys_lab.words import RecsysLabError


def run(arguments: list[str]) -> None:
    """Prints each source with its licence, its page and how its files are checked."""
    if arguments[1:] and arguments[1] not in ("-h", "--help"):
        raise RecsysLabError(f"sources takes no arguments, got {arguments[1]!r}")
    print("Prepare one with: recsys-lab prepare NAME\n")
    for name in source_names():
        source = get_source(name)
        print(f"{name}\n  licence  {source.licence}\n  page     {source.homepage}\n  checked  {source.checked_by}")
        if not source.urls:
            print("  fetched  by hand: `recsys-lab prepare` says what to put where")
