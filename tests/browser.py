"""Pages in headless Chromium, for tests of what a reader sees."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def opened(file: Path, width: int = 1400) -> Iterator[Any]:
    """Opens a file and yields the page; at the end, nothing may have been wrong in the console.

    Errors and warnings of the console, scripts that stop, and whatever is loaded from elsewhere
    than this file are wrong. Skips where there is no Chromium.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium here: apt-get install chromium (Debian's package)")
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with sync_playwright() as driver:
        # No sandbox: tests may run as root in a container. The pages are our own.
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.on(
            "console",
            lambda m: (
                wrong.append(m.text)
                # What Snakemake's own page says of a library of its own.
                if m.type in ("error", "warning") and "tailwindcss" not in m.text
                else None
            ),
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith(("data:", "blob:")) or asked.url == file.as_uri()
                else wrong.append(f"loads {asked.url}")
            ),
        )
        page.goto(file.as_uri())
        yield page
        chromium.close()
    assert wrong == []
