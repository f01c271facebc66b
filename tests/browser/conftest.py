"""Pages in a real, headless Chromium: that of the environment variable CHROMIUM, or one on PATH."""

from __future__ import annotations

import functools
import json
import os
import shutil

import pytest
from colour_server import manifest
from gradcam_client import Manifest

from browser.pictures import LABELS, SIZE, write

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium():
    """Open for one module alone: Playwright keeps an event loop running in this thread for as long."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    binary = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        pytest.skip(f"no Chromium: set CHROMIUM, or have one of {', '.join(NAMES)} on PATH")
    with playwright.sync_playwright() as started:
        # Chromium refuses its sandbox to root.
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = started.chromium.launch(executable_path=binary, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open a file as a page; whatever it writes to the console, throws or asks of a network fails the test."""
    contexts, complaints = [], []

    def opened(path, **options):
        defaults = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
        context = chromium.new_context(**defaults | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def described():
    text = manifest(labels=list(LABELS))
    text["input"]["shape"] = [SIZE[1] // 10, SIZE[0] // 10, 3]
    return Manifest.parse(json.dumps(text).encode(), version=3)


@pytest.fixture
def write_report(described, tmp_path):
    """Write a page of pictures, given as name and ranked explanations."""
    return functools.partial(write, tmp_path / "report.html", described)
