"""A headless Chromium driven over its own debugging pipe: no driver, no package, no port. For tests of pages."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
import unicodedata
import zlib
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # a container's root has no other way
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find_browser() -> str | None:
    """The program, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One browser process; use it as a context."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # moved out of the way of 3 and 4, which the browser reads and writes
        given = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (commands, answers)]

        def take_ends() -> None:
            os.dup2(given[0], 3)
            os.dup2(given[1], 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            preexec_fn=take_ends,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (commands, answers, *given):
            os.close(end)
        self._unread = b""
        self._last = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol; its result. Events that come meanwhile are kept in `events`."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self, patience: float = 150) -> dict[str, Any]:
        end = time.monotonic() + patience
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            got = os.read(self._answers, 1 << 20)
            if not got:
                raise OSError("the browser has gone")
            self._unread += got
        first, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(first))

    def open(self, file: Path | str, width: int, height: int = 900, dark: bool = False, ready: str = "true") -> Page:
        """Opens a file, or an address, in a tab of its own, and waits until the JavaScript expression `ready` holds."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 700
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=file if isinstance(file, str) else file.resolve().as_uri())
        page.wait_for(f"document.readyState === 'complete' && ({ready})")
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression (of a promise: what it resolves to)."""
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in got:
            raise RuntimeError(f"{expression}: {got['exceptionDetails']}")
        return got["result"].get("value")

    def wait_for(self, expression: str, patience: float = 240) -> None:
        """Waits until the JavaScript expression holds, also over to a page that a click leads to."""
        end = time.monotonic() + patience
        while not self._holds(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {expression}")
            time.sleep(0.05)

    def _holds(self, expression: str) -> bool:
        try:
            return bool(self.evaluate(f"Boolean({expression})"))
        except RuntimeError as problem:
            if "navigated" in str(problem) or "context" in str(problem):  # between the page that was left and the next
                return False
            raise

    def _events(self, method: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self.browser.events
            if event.get("sessionId") == self.session and event.get("method") == method
        ]

    @property
    def complaints(self) -> list[str]:
        """Uncaught errors, console errors and warnings, and entries of the browser's own log."""
        found = [event["exceptionDetails"].get("text", "") for event in self._events("Runtime.exceptionThrown")]
        found += [
            " ".join(str(part.get("value", part.get("description"))) for part in event["args"])
            for event in self._events("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning", "assert")
        ]
        return found + [event["entry"]["text"] for event in self._events("Log.entryAdded")]

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for, other than the file itself and data: addresses."""
        asked = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in asked[1:] if not url.startswith("data:")]

    def screenshot(self, file: Path) -> None:
        """Of the whole page, as PNG."""
        self.call("Page.bringToFront")  # a tab behind another draws nothing
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16_000), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(shot["data"]))

    def print(self) -> Printed:
        """As PDF, on A4, with the margins of the browser's own dialog."""
        made = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)
        return Printed(base64.b64decode(made["data"]))


class Printed:
    """What a PDF of this browser shows: its texts and its colours. PDFs of other programs can't be read."""

    def __init__(self, file: bytes) -> None:
        self._objects = {int(number): body for number, body in re.findall(rb"\n(\d+) 0 obj\n(.*?)endobj", file, re.S)}
        streams = [self._stream(number) for number in self._objects]
        self.pages = sum(b"/Type /Page\n" in body for body in self._objects.values())
        drawn = [one for one in streams if "begincmap" not in one]
        self.colours = {found for one in drawn for found in re.findall(r"[\d.]+ [\d.]+ [\d.]+(?= rg\b)", one)}
        fonts = dict(re.findall(rb"/(F\d+) (\d+) 0 R", file))
        glyphs = {name.decode(): self._glyphs(int(number)) for name, number in fonts.items()}
        self.text = "".join(self._texts(one, glyphs) for one in drawn)

    def _stream(self, number: int) -> str:
        """Its content, where it is one of texts or of drawing."""
        head, _, body = self._objects[number].partition(b"stream\n")
        if not body or b"/FlateDecode" not in head or b"/Length1" in head or b"/Image" in head:
            return ""
        return zlib.decompressobj().decompress(body).decode("latin-1")

    def _glyphs(self, font: int) -> dict[int, str]:
        """Of a font: the letter of each glyph."""
        found: dict[int, str] = {}
        table = re.search(rb"/ToUnicode (\d+)", self._objects[font])
        for kind, lines in re.findall(
            r"beginbf(char|range)\n(.*?)endbf", self._stream(int(table[1])) if table else "", re.S
        ):
            for line in lines.splitlines():
                first, *others = (int(one, 16) for one in re.findall(r"<([0-9A-F]{4,8})>", line))
                last = others[0] if kind == "range" else first
                found |= {glyph: chr(others[-1] + glyph - first) for glyph in range(first, last + 1)}
        return found

    @staticmethod
    def _texts(drawn: str, glyphs: dict[str, dict[int, str]]) -> str:
        """Without the blanks, since a browser draws a line of text in parts."""
        found, font = "", {}
        for name, text in re.findall(r"/(F\d+) [\d.]+ Tf|<([0-9A-F]+)> Tj", drawn):
            font = glyphs[name] if name else font
            found += "".join(font.get(int(text[i : i + 4], 16), "") for i in range(0, len(text), 4))
        return re.sub(r"\s", "", unicodedata.normalize("NFKC", found))  # without ligatures
