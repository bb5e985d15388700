"""Pages of the documentation site that are not files in docs/: what the code says of itself (`docs_reference.py`), and
pages that lie beside what they tell of. A hook of MkDocs, named in mkdocs.yml; scripts/docs.sh builds the site.

Links between pages are those of the repository, so that they also work there. Here they become links of the site; a
link to a file that is no page becomes the file's name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docs_reference import commands_page, python_page, room_page, rooms, settings_page

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
BESIDE = (
    "experiments/README.md",
    "experiments/*/README.md",
    "scripts/cluster/README.md",
    "scripts/benchmarks/LOG.md",
    "*.md",
)
"""Pages outside docs/. The README is the repository's own first page and not one of the site."""
SECTIONS = {
    "reference/python.md": lambda: [f"reference/python/{room}.md" for room in rooms()],
    "experiments/README.md": lambda: [name for name in beside() if re.fullmatch(r"experiments/[^/]+/README.md", name)],
}
"""Entries of the navigation that stand for a section: the page itself, and those below it."""
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
CODE = re.compile(r"(^ *```.*?^ *```)", flags=re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    config["nav"] = filled(config["nav"])
    return config


def filled(nav: list[Any]) -> list[Any]:
    """The navigation with the pages of `SECTIONS`."""
    found: list[Any] = []
    for entry in nav:
        ((title, below),) = entry.items()
        if isinstance(below, list):
            found.append({title: filled(below)})
        elif below in SECTIONS:
            found.append({title: [below, *SECTIONS[below]()]})
        else:
            found.append(entry)
    return found


def on_files(files: Files, config: Any) -> Files:
    from mkdocs.structure.files import File

    for uri, content in made_pages().items():
        files.append(File.generated(config, uri, content=content))
    for uri in beside():
        path = ROOT / uri
        files.append(File.generated(config, uri, content=path.read_text()))
        for figure in (*path.parent.glob("figures/*.svg"), *path.parent.glob("figures/*.png")):
            files.append(File.generated(config, str(figure.relative_to(ROOT)), abs_src_path=str(figure)))
    return files


def made_pages() -> dict[str, str]:
    """Where in the site, and the text."""
    pages = {
        "reference/commands.md": commands_page(),
        "reference/settings.md": settings_page(),
        "reference/python.md": python_page([ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]),
    }
    return pages | {f"reference/python/{room}.md": room_page(room) for room in rooms()}


def beside() -> list[str]:
    found = [path for pattern in BESIDE for path in sorted(ROOT.glob(pattern)) if path != ROOT / "README.md"]
    return [path.relative_to(ROOT).as_posix() for path in found]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    return linked(markdown, page.file.src_uri, list(files.src_uris))


def linked(markdown: str, here: str, pages: list[str]) -> str:
    """A page with links of the site.

    Args:
        here: the page, as the site names it.
        pages: every page and picture of the site.
    """
    uris = {place_in_repository(uri): uri for uri in pages}

    def one(found: re.Match[str]) -> str:
        image, text, target, anchor = found.group(1), found.group(2), found.group(3), found.group(4) or ""
        if not target or re.match(r"[a-z]+:", target):
            return found.group(0)
        place = posixpath.normpath(posixpath.join(posixpath.dirname(place_in_repository(here)), target))
        uri = uris.get(place) or uris.get(f"{place}/README.md")
        if uri is None:
            return text if (ROOT / place).exists() else found.group(0)
        return f"{image}[{text}]({posixpath.relpath(uri, posixpath.dirname(here) or '.')}{anchor})"

    return "".join(part if number % 2 else LINK.sub(one, part) for number, part in enumerate(CODE.split(markdown)))


def place_in_repository(uri: str) -> str:
    """Where the source of a page lies."""
    return uri if (ROOT / uri).exists() and not (ROOT / "docs" / uri).exists() else f"docs/{uri}"
