"""Looking at something again and again, from a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from gradcam_export.errors import ServeError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("gradcam_export.server")


def start_polling(
    look: Callable[[], None], *, seconds: float, what: str, stopping: threading.Event
) -> threading.Thread:
    """Call `look` every `seconds`, until `stopping` is set; a failure that stays the same is logged once.

    Args:
        look: may raise OSError or ServeError, which change nothing.
        seconds: between two calls, and before the first.
        what: begins the line that tells a failure.
        stopping: ends the thread after the call under way.

    Returns:
        The thread, started.
    """

    def run() -> None:
        told = ""
        while not stopping.wait(seconds):
            failure = ""
            try:
                look()
            except (OSError, ServeError) as error:
                failure = str(error).removesuffix(".")
            if failure and failure != told:
                logger.error("%s: %s; what is loaded stays", what, failure)
            told = failure

    thread = threading.Thread(target=run, name=f"gradcam-poll {what}", daemon=True)
    thread.start()
    return thread
