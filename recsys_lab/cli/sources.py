"""`recsys-lab sources`: the public data sets that are known by name."""

from __future__ import annotations


def sources(*, json: bool = False) -> None:
    """Lists the public data sets that `recsys-lab prepare NAME` knows, each with its licence, its page and how its
    files are checked.

    Args:
        json: as JSON.
    """
    from recsys_lab.data.sources import get_source, source_names
    from recsys_lab.report.escapes import as_json
    from recsys_lab.report.terminal import folded, terminal_width

    if json:
        facts = ("name", "licence", "homepage", "citation", "checked_by", "urls", "has_timestamps")
        found = [{fact: getattr(get_source(name), fact) for fact in facts} for name in source_names()]
        print(as_json(found))
        return
    width = terminal_width()
    print("Prepare one with: recsys-lab prepare NAME\n")
    for name in source_names():
        source = get_source(name)
        about = {"licence": source.licence, "page": source.homepage, "checked": source.checked_by}
        if not source.urls and source.homepage != "built in":
            about["fetched"] = "by hand: `recsys-lab prepare` says what to put where"
        print(name)
        for fact, value in about.items():
            print("\n".join(folded(f"  {fact:7}  {value}", width, " " * 9)))
