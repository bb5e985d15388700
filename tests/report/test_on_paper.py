"""Every kind of page as a PDF: all parts are on it and open, no table or figure is cut, and it is light."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, find_browser
from made_results import NASTY, made_results, made_tuning
from test_gallery import made_run
from test_still_pages import made_calibration, made_shuffle

from recsys_lab.audit import audit
from recsys_lab.audit.audit_page import audit_page
from recsys_lab.data.locate import locate
from recsys_lab.data.split.leave_one_out import LeaveOneOut
from recsys_lab.diagnose.explain.explained_page import explained_page
from recsys_lab.diagnose.reliability_page import reliability_page
from recsys_lab.diagnose.shuffle_page import shuffle_page
from recsys_lab.report.theme import DARK, LIGHT, SERIES_DARK
from recsys_lab.runs.gallery import gallery
from recsys_lab.study.pages.study_page import study_page

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(PROGRAM is None, reason="no browser here (Debian: apt-get install chromium)"),
]
KINDS = ("study", "audit", "calibration", "shuffle", "explanation", "gallery")
A4 = 717
"""Pixels between the margins of the paper."""

CELLS = """
[...document.querySelectorAll("tbody tr > *, figcaption, h1, h2, h3, dt, dd")]
  .filter((one) => !one.closest(".extra, .columns") && getComputedStyle(one).display !== "none")
  .map((one) => one.textContent.replace(/\\s/g, ""))
"""
# What is wider than its place or than the paper, and what is closed.
CUT = """
(() => {
  const found = [];
  for (const one of document.querySelectorAll("th, td, p, li, dd, figure, .chart svg, .chart text, .scroll")) {
    const box = one.getBoundingClientRect();
    if (!box.width || one.classList.contains("unseen")) continue;
    const wider = ["TH", "TD", "DIV"].includes(one.tagName) && one.scrollWidth > one.clientWidth + 1;
    if (wider || box.right > innerWidth + 0.5 || box.left < 0) found.push([one.tagName, one.textContent.slice(0, 60)]);
  }
  for (const one of document.querySelectorAll("details > :not(summary, .columns)")) {
    if (!one.closest(".chart") && !one.getBoundingClientRect().height) found.push(["closed", one.textContent]);
  }
  return found;
})()
"""


def made_explanation() -> dict[str, Any]:
    events = [
        {"ago": i + 1, "item_id": i, "title": f"{NASTY} {i}", "attention": 0.1, "removal": 0.5 - i / 10}
        for i in range(9)
    ]
    methods = {name: {"events": True, "note": NASTY} for name in ("attention", "removal")}
    item = {"item_id": 7, "title": NASTY, "rank": 1, "probability": 0.2, "is_first_of_list": True}
    fields = {"removal": {"item_id": 0.5, "a field with a name of some length": -0.25}}
    return {"item": item, "events": events, "methods": methods, "fields": fields, "model": "SASRec", "user": NASTY} | {
        "notes": ["a note"]
    }


@pytest.fixture(scope="module")
def files(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("paper")
    for seed in range(3):
        made_run(folder / "runs" / "losses" / "variant-with-a-long-name" / f"seed{seed}", NASTY, seed, 0.4)
    pages = {
        "study": study_page(made_results(blocks=2, epochs=10), made_tuning()),
        "audit": audit_page(audit(locate(str(small_folder), "data"), LeaveOneOut())),
        "calibration": reliability_page(made_calibration()),
        "shuffle": shuffle_page(made_shuffle()),
        "explanation": explained_page(made_explanation(), "a run"),
        "gallery": gallery(folder / "runs"),
    }
    for kind, page in pages.items():
        (folder / f"{kind}.html").write_text(page.html, encoding="utf-8")
    return {kind: folder / f"{kind}.html" for kind in pages}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as browser:
        yield browser


def drawn_in(colour: str) -> str:
    """As a PDF has it: red, green, blue from 0 to 1, with two digits."""
    return " ".join(f"{int(colour[i : i + 2], 16) / 255:.2f}" for i in (1, 3, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [390, 1400])
def test_paper_shows_all_and_is_light(browser: Browser, files: dict[str, Path], kind: str, width: int) -> None:
    page = browser.open(files[kind], width, dark=True)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    open_before = page.evaluate("document.querySelectorAll('details[open]').length")
    printed = page.print()
    assert printed.pages >= 1
    found = page.evaluate(CELLS)
    assert len(found) > 8
    lost = [text for text in found if text and not all(part in printed.text for part in re.split(r"[^ -~]+", text))]
    assert lost == []
    colours = {" ".join(f"{float(one):.2f}" for one in found.split()) for found in printed.colours}
    assert drawn_in(LIGHT["ink"]) in colours
    dark = {drawn_in(colour) for colour in (DARK["ink"], DARK["soft"], DARK["page"], DARK["card"], *SERIES_DARK)}
    assert not colours & dark
    assert page.evaluate("document.querySelectorAll('details[open]').length") == open_before, "the page is as it was"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_or_closed_on_paper(browser: Browser, files: dict[str, Path], kind: str) -> None:
    page = browser.open(files[kind], A4)
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.call("Emulation.setEmulatedMedia", media="print", features=[])
    page.wait_for("[...document.querySelectorAll('.chart')].every(one => one.querySelector('svg'))", patience=30)
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= A4
    page.evaluate("document.querySelectorAll('.columns input').forEach((one) => one.click())")
    assert page.evaluate(CUT) == [], "with all columns"
