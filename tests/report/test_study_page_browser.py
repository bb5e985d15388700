"""The page of a study in a headless browser: nothing breaks, nothing is asked of a network, everything is drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, Page, find_browser
from made_results import NASTY, made_results, made_tuning

from recsys_lab.study.pages.study_page import study_page

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(PROGRAM is None, reason="no browser here (Debian: apt-get install chromium)"),
]
READY = "document.documentElement.dataset.ready === 'yes'"
WINDOWS = {"desktop": (1280, False), "phone": (390, False), "dark": (1280, True)}

# name of the figure -> what was drawn: number of shapes with a size, the text, and whether it keeps inside its place
DRAWN = """
(async () => {
  await window.drawAll();
  const found = {};
  for (const place of document.querySelectorAll(".chart")) {
    const svg = place.querySelector("svg");
    const shapes = svg ? [...svg.querySelectorAll(".mark-symbol path, .mark-line path, .mark-rule line")] : [];
    found[place.dataset.figure] = {
      shapes: shapes.filter((one) => one.getBBox().width + one.getBBox().height > 0).length,
      text: svg ? svg.textContent : "",
      over: svg ? svg.getBoundingClientRect().right - place.getBoundingClientRect().right : null,
      broken: svg ? svg.outerHTML.includes("NaN") : true,
    };
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(study_page(made_results(blocks=2, epochs=10), made_tuning()).html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pages(file: Path) -> Iterator[dict[str, Page]]:
    """The same file in windows of each kind."""
    assert PROGRAM is not None
    with Browser(PROGRAM) as browser:
        yield {kind: browser.open(file, width, dark=dark, ready=READY) for kind, (width, dark) in WINDOWS.items()}


@pytest.mark.parametrize("kind", WINDOWS)
def test_every_figure_is_drawn_without_a_complaint_or_a_request(pages: dict[str, Page], kind: str) -> None:
    page = pages[kind]
    found = page.evaluate(DRAWN)
    kinds = {name.rpartition("-data-")[0] or name for name in found}
    assert kinds >= {"ranking", "effects", "order", "front-parameters"}
    assert kinds >= {"learning-epochs", "learning-seconds", "front-train-seconds", "slices-popularity"}
    assert kinds >= {"tuning-trials"}
    assert {name: one for name, one in found.items() if one["shapes"] < 2 or one["broken"] or not one["text"]} == {}
    assert {name: one["over"] for name, one in found.items() if one["over"] > 1} == {}, "figures wider than their place"
    assert page.complaints == []
    assert page.requests == []
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= WINDOWS[kind][0], "the page scrolls sideways"


def test_names_are_shown_and_never_markup(pages: dict[str, Page]) -> None:
    page = pages["desktop"]
    heads = page.evaluate("[...document.querySelectorAll('tbody th')].map(e => e.textContent)")
    assert NASTY in heads
    assert page.evaluate("document.querySelectorAll('tbody th b').length") == 0
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for("document.querySelector('[data-figure=ranking-data-0] svg')")
    assert "<b>" in page.evaluate("document.querySelector('[data-figure=ranking-data-0] svg').textContent")


@pytest.mark.parametrize("kind", ["desktop", "phone"])
def test_all_figures_come_without_a_scroll(file: Path, kind: str) -> None:
    """A picture of the page, or a saved page, has them all; those in closed parts come when they are opened."""
    assert PROGRAM is not None
    with Browser(PROGRAM) as browser:
        page = browser.open(file, WINDOWS[kind][0], height=700, ready=READY)
        places = "[...document.querySelectorAll('.chart')].filter(e => e.clientWidth)"
        assert page.evaluate(f"{places}.length") > 5
        page.wait_for(f"{places}.every(e => e.querySelector('svg'))", patience=30)


@pytest.mark.parametrize(("kind", "columns"), [("desktop", 4), ("phone", 2)])
def test_the_deciding_columns_are_in_sight(pages: dict[str, Page], kind: str, columns: int) -> None:
    """Of the ranking, without a sideways scroll: variant, metric, behind best, p; on a phone the first two."""
    heads = "[...document.querySelector('.sortable').tHead.rows[0].cells]"
    names = pages[kind].evaluate(f"{heads}.map(e => e.textContent.trim())")
    assert names[:4] == ["variant", "ndcg@10", "behind best", "p"]
    edge = "document.querySelector('.sortable').parentNode.getBoundingClientRect().right"
    assert pages[kind].evaluate(f"{heads}[{columns - 1}].getBoundingClientRect().right <= {edge}")


def test_a_tick_brings_the_other_columns(pages: dict[str, Page]) -> None:
    shown = "[...document.querySelector('.sortable').tHead.rows[0].cells].filter(e => e.offsetWidth).length"
    page, tick = pages["desktop"], "document.querySelector('.columns input')"
    few = page.evaluate(shown)
    page.evaluate(f"{tick}.click()")
    assert page.evaluate(shown) == page.evaluate(shown.replace(".filter(e => e.offsetWidth)", "")) > few + 5
    page.evaluate(f"{tick}.click()")
    assert page.evaluate(shown) == few == 5


def column(page: Page, place: int) -> list[str]:
    rows = "[...document.querySelector('.sortable').tBodies[0].rows]"
    return list(page.evaluate(f"{rows}.map(row => row.cells[{place}].textContent)"))


def click(page: Page, place: int) -> str:
    """Clicks a head of the first table; its aria-sort."""
    head = f"document.querySelectorAll('.sortable')[0].tHead.rows[0].cells[{place}]"
    page.evaluate(f"{head}.querySelector('button').click()")
    return str(page.evaluate(f"{head}.getAttribute('aria-sort')"))


def test_a_click_on_a_head_sorts_the_table(file: Path, pages: dict[str, Page]) -> None:
    page = pages["desktop"]
    metric, versus = 1, 2
    as_given = column(page, metric)
    assert click(page, metric) == "ascending"  # it came best first
    assert column(page, metric) == as_given[::-1]
    assert click(page, metric) == "descending"
    assert column(page, metric) == as_given
    assert click(page, versus) == "descending"
    differences = column(page, versus)
    assert differences[-1] == "\N{EN DASH}", "what has no value comes last"
    assert click(page, versus) == "ascending"
    assert column(page, versus) == [*differences[:-1][::-1], "\N{EN DASH}"]
    sorted_by = page.evaluate("document.querySelector('.sortable').querySelectorAll('[aria-sort]').length")
    assert sorted_by == 1


def test_the_button_turns_light_into_dark_and_figures_follow(pages: dict[str, Page]) -> None:
    page = pages["desktop"]
    page.evaluate("window.drawAll().then(() => 1)")
    text = "document.querySelector('[data-figure=ranking-data-0] svg .role-axis-label text').getAttribute('fill')"
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(text), page.evaluate(background)
    page.evaluate("document.getElementById('theme').click()")
    page.wait_for("[...document.querySelectorAll('.chart')].every(e => e.dataset.drawn === 'dark')")
    after = page.evaluate(text), page.evaluate(background)
    page.evaluate("document.getElementById('theme').click()")
    page.wait_for("[...document.querySelectorAll('.chart')].every(e => e.dataset.drawn === 'light')")
    assert after[0] != before[0] and after[1] != before[1]
    assert (page.evaluate(text), page.evaluate(background)) == before
    assert after == (pages["dark"].evaluate(text), pages["dark"].evaluate(background))
    assert page.complaints == []


def test_warnings_stand_before_the_tables(pages: dict[str, Page]) -> None:
    place = "document.querySelector('{}').getBoundingClientRect().top"
    page = pages["phone"]
    assert page.evaluate(place.format(".answer")) < page.evaluate(place.format(".warnings"))
    assert page.evaluate(place.format(".warnings")) < page.evaluate(place.format(".sortable"))


def test_the_first_section_is_open_and_a_link_opens_another(file: Path) -> None:
    """The answer, the first figure and its table are there at once; the rest is one click away."""
    assert PROGRAM is not None
    with Browser(PROGRAM) as browser:
        page = browser.open(file, 1280, ready=READY)
        folded = "e.querySelector(':scope > details:not([open])')"
        opened = f"[...document.querySelectorAll('main > section')].map(e => !{folded})"
        assert page.evaluate(opened) == [True, *[False] * (len(page.evaluate(opened)) - 1)]
        page.evaluate("document.querySelector('nav a[href=\"#learning\"]').click()")
        page.wait_for("document.querySelector('#learning > details').open")
        order = "document.querySelector('{}').compareDocumentPosition(document.querySelector('{}')) & 4"
        assert page.evaluate(order.format("#ranking figure", "#ranking table")), "the figure comes before its table"


def test_the_screenshot_helper_makes_a_picture(pages: dict[str, Page], tmp_path: Path) -> None:
    """For eyes: set REPORT_SCREENSHOTS to a folder to keep them."""
    folder = Path(os.environ.get("REPORT_SCREENSHOTS", tmp_path))
    for kind, page in pages.items():
        page.screenshot(folder / f"{kind}.png")
        assert (folder / f"{kind}.png").read_bytes().startswith(b"\x89PNG")


OUTSIDE = """
(() => {
  const edge = document.documentElement.getBoundingClientRect();
  return [...document.querySelectorAll("text")].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.width > 0 && (box.left < edge.left || box.right > edge.right || box.bottom > edge.bottom);
  }).map((one) => one.textContent);
})()
"""
ON_EACH_OTHER = """
(() => {
  const boxes = [...document.querySelectorAll(".role-legend-label text")].map((one) => one.getBoundingClientRect());
  return boxes.filter((a) => boxes.some((b) => a !== b && Math.abs(a.top - b.top) < 4 && a.left < b.left
    && a.right > b.left)).length;
})()
"""


def test_files_have_room_for_their_texts_in_other_fonts(tmp_path: Path) -> None:
    """The SVG was laid out with other fonts than this browser has."""
    results = made_results(blocks=2, epochs=4)
    figures = [one for one in study_page(results).figures if one.name.startswith(("ranking", "order"))]
    assert PROGRAM is not None and len(figures) == 3
    with Browser(PROGRAM) as browser:
        for figure in figures:
            file = figure.save(tmp_path)[0]
            page = browser.open(file, 1000, ready="document.querySelectorAll('text').length > 0")
            assert page.evaluate(OUTSIDE) == [] and page.evaluate(ON_EACH_OTHER) == 0
