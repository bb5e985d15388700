"""Every page of the project leads somewhere: its links resolve, and the files and modules that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "experiments", "scripts", "recsys_lab")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
NAMING = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which also names what is gone
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"(?<![\w/.-])((?:recsys_lab|tests|scripts|docs|configs|experiments)/[\w./-]*\w)")
MODULE = re.compile(r"\brecsys_lab(?:\.\w+)+")
ROOM_FILE = re.compile(r"`(\w+(?:/\w+)*\.py)\b")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Without blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def has_module(dotted: str) -> bool:
    """`recsys_lab.losses.BCE`: a module, or a name that the text of its module holds."""
    parts = dotted.split(".")
    for number in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:number])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.is_file():
            return number == len(parts) or re.search(rf"\b{parts[number]}\b", file.read_text()) is not None
    return False


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    assert not dead_links(page)


@pytest.mark.parametrize("page", NAMING, ids=name_of)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    files = [name for name in FILE.findall(text) if not (ROOT / name).exists() and not (page.parent / name).exists()]
    modules = [name for name in MODULE.findall(text) if not has_module(name)]
    inside = [name for name in ROOM_FILE.findall(text) if "/" in name]
    rooms = [name for name in inside if not any((ROOT / top / name).is_file() for top in (".", "recsys_lab"))]
    assert not files + modules + rooms


def test_the_check_sees_what_is_gone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` c\n[x](gone.md) [y](#a-b-c) [z](#a-b) [w](https://example.org)\n")
    assert dead_links(page) == ["gone.md", "#a-b"]
    assert has_module("recsys_lab.losses.BCE") and not has_module("recsys_lab.callbacks.ranking")
