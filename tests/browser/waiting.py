"""Wait for a page."""

import time

SECONDS = 30


def until(page, holds) -> None:
    """Ask `holds()` until it does. The page's own policy forbids Playwright to ask from within."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, "the page never came to it"
        page.wait_for_timeout(20)
