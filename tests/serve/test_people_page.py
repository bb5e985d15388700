"""The page for people in a headless browser: a history is typed, titles and scores are seen."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from served import made_run, service_of

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))
from browser import Browser, Page, find_browser

from recsys_lab.serve.server.app import build_app

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no browser here (Debian: apt-get install chromium)")
READY = "document.documentElement.dataset.ready === 'yes'"
TOKEN = "the-token-of-the-tests-1234"
LIST = "[...document.querySelectorAll('#list tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Of a server without a token and of one with."""
    folder = tmp_path_factory.mktemp("people")
    run, servers, found = made_run(folder), [], []
    for token in (None, TOKEN):
        service = service_of(run, folder / f"{token}.sqlite")
        server = uvicorn.Server(uvicorn.Config(build_app(service, token), log_config=None, access_log=False))
        place = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        servers.append((server, thread))
        found.append(f"http://127.0.0.1:{place.getsockname()[1]}/")
    while not all(server.started for server, _ in servers):
        time.sleep(0.01)
    yield found
    for server, thread in servers:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as browser:
        yield browser


def add(page: Page, words: str) -> None:
    """Types words into the field and presses Enter."""
    page.evaluate(f"at('words').focus(), at('words').value = {words!r}, at('words').dispatchEvent(new Event('input'))")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")


def test_a_typed_history_gives_titles_and_scores(browser: Browser, addresses: list[str]) -> None:
    page = browser.open(addresses[0], 1280, ready=READY)
    assert "run-" in page.evaluate("at('model').textContent")
    add(page, "film 100")
    page.wait_for("at('history').children.length === 1")
    assert page.evaluate("at('history').textContent").startswith("Film 100 (100)")
    add(page, "101, 102")
    page.wait_for("at('history').children.length === 3")
    page.evaluate("at('k').value = 4, at('form').requestSubmit()")
    page.wait_for("document.querySelectorAll('#list tbody tr').length === 4")
    rows = page.evaluate(LIST)
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert all(row[2] == f"Film {row[1]}" and float(row[3]) > -100 for row in rows)
    assert not {"100", "101", "102"} & {row[1] for row in rows}
    page.evaluate("document.querySelector('#history button').click(), at('form').requestSubmit()")
    page.wait_for("at('history').children.length === 2")
    page.evaluate("at('clear').click(), at('form').requestSubmit()")
    page.wait_for("at('note').textContent === 'The most popular items: the history is empty'")
    assert page.complaints == []
    assert all(url.startswith(addresses[0]) for url in page.requests)


def test_an_answer_that_comes_late_replaces_no_newer_one(browser: Browser, addresses: list[str]) -> None:
    page = browser.open(addresses[0], 1280, ready=READY)
    add(page, "100,101")
    page.wait_for("at('history').children.length === 2")
    # The list for these two items comes only after the one for the empty history.
    page.evaluate(
        "window.real = window.fetch, window.late = null,"
        " window.fetch = (path, options) => String(options.body).includes('100')"
        " ? new Promise((done) => { window.late = () => window.real(path, options).then(done); })"
        " : window.real(path, options), at('form').requestSubmit()"
    )
    page.wait_for("window.late !== null")
    page.evaluate("at('clear').click(), at('form').requestSubmit()")
    page.wait_for("at('note').textContent.startsWith('The most popular items')")
    page.evaluate("window.late().then(() => new Promise((done) => setTimeout(done, 300)))")
    assert page.evaluate("at('note').textContent").startswith("The most popular items")


def test_a_button_tells_why_an_item_is_listed(browser: Browser, addresses: list[str]) -> None:
    page = browser.open(addresses[0], 390, ready=READY)
    add(page, "100,101,102")
    page.wait_for("at('history').children.length === 3")
    page.evaluate("at('k').value = 3, at('form').requestSubmit()")
    page.wait_for("document.querySelectorAll('#list td button').length === 3")
    rows = page.evaluate(LIST)
    page.evaluate(
        "document.querySelectorAll('#list td:nth-child(3)').forEach("
        "(cell) => { cell.textContent = 'A rather long title of a film, and of its second part'; })"
    )
    lines = "[...document.querySelectorAll('#list th, #list td button')].map((one) => one.clientHeight)"
    assert max(page.evaluate(lines)) < 40, "words stand in one line, also on a phone"
    page.evaluate("document.querySelectorAll('#list td button')[1].click()")
    page.wait_for("document.querySelectorAll('.why li').length === 3 || at('error').textContent")
    assert page.evaluate("at('error').textContent") == ""
    said = page.evaluate(
        f"ask('/explain', {{history: ['100', '101', '102'], item: {rows[1][1]}, methods: ['leave_one_out']}})"
    )
    shown = page.evaluate("[...document.querySelectorAll('.why li')].map((line) => line.textContent)")
    events = sorted(said["events"], key=lambda event: -abs(event["leave_one_out"]))
    signs = [("\u2212" if event["leave_one_out"] < 0 else "+") for event in events]
    assert shown == [
        f"{sign}{abs(event['leave_one_out']):.3f} Film {event['item_id']} ({event['item_id']})"
        for sign, event in zip(signs, events, strict=True)
    ]
    assert page.evaluate("document.querySelector('.why').previousSibling.cells[1].textContent") == rows[1][1]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("document.querySelectorAll('#list td button')[1].click()")
    page.wait_for("document.querySelectorAll('.why').length === 0")
    page.evaluate("at('clear').click(), at('form').requestSubmit()")
    page.wait_for("at('note').textContent.startsWith('The most popular items')")
    assert page.evaluate("document.querySelectorAll('#list td button').length") == 0, "the model did not choose them"
    assert page.complaints == []


def test_what_is_not_found_is_said_and_markup_is_text(browser: Browser, addresses: list[str]) -> None:
    page = browser.open(addresses[0], 390, ready=READY)
    add(page, "no such film")
    page.wait_for("at('error').textContent.includes('no item has')")
    add(page, "<img src=x onerror=alert(1)>,100")
    page.wait_for("at('history').children.length === 2")
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    page.evaluate("at('k').value = 0, at('form').noValidate = true, at('form').requestSubmit()")
    page.wait_for("at('error').textContent.startsWith('k: Input should be greater')")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_token_is_asked_for_and_not_kept(browser: Browser, addresses: list[str]) -> None:
    page = browser.open(addresses[1], 1280, ready=READY)
    assert page.evaluate("at('key').hidden")
    add(page, "film 100")
    page.wait_for("at('error').textContent.includes('needs its token') && !at('key').hidden")
    page.evaluate(f"at('token').value = {TOKEN!r}")
    add(page, "film 100")
    page.wait_for("at('history').children.length === 1")
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
