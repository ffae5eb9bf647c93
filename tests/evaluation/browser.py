"""A real browser for pages this project writes: Debian's chromium, driven by Playwright, without a network.

    from evaluation.browser import Browser, browser  # noqa: F401  (browser is a fixture)

    def test_a_page(browser: Browser) -> None:
        page = browser.open(html, width=390, dark=True)

A page that logs an error or a warning, throws, or asks for anything beside itself fails the test that opened it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Browser:
    """Opens pages from files and remembers what they did wrong.

    Attributes:
        problems: console errors and warnings, uncaught exceptions, and requests for anything but the page.
    """

    def __init__(self, chromium: Any, folder: Path) -> None:
        self._chromium, self._folder = chromium, folder
        self._contexts: list[Any] = []
        self.problems: list[str] = []

    def open(self, html: str, *, width: int = 1440, height: int = 900, dark: bool = False, **options: Any) -> Any:
        """A Playwright page that shows ``html`` from a file; ``options`` are those of a browser context."""
        path = self._folder / f"page{len(self._contexts)}.html"
        path.write_text(html, encoding="utf-8")
        viewport = {"width": width, "height": height}
        scheme = "dark" if dark else "light"
        context = self._chromium.new_context(viewport=viewport, color_scheme=scheme, offline=True, **options)
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: self._logged(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self._asked(request.url, path))
        page.goto(path.as_uri())
        return page

    def close(self) -> None:
        """Close every page."""
        while self._contexts:
            self._contexts.pop().close()

    def _logged(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(f"{kind}: {text}")

    def _asked(self, url: str, path: Path) -> None:
        if url != path.as_uri() and not url.startswith(("data:", "blob:")):
            self.problems.append(f"request: {url}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Chromium, started once per module; the tests are skipped where it or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # No sandbox: as root, which containers are, Chromium has none.
        running = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def browser(chromium: Any, tmp_path: Path) -> Iterator[Browser]:
    """A browser whose pages have to behave."""
    opened = Browser(chromium, tmp_path)
    yield opened
    opened.close()
    assert opened.problems == []
