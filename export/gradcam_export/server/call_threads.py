"""Threads for calls whose message may never come."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class CallThreads(futures.ThreadPoolExecutor):
    """A thread at once for each call: a kept one, or one of its own while those are busy.

    gRPC gives a call its thread when it begins, and lets it wait for the message: callers who begin calls and send
    nothing would hold all threads of a pool. How many calls are worked on at once is for the calls to see to.
    """

    def __init__(self, kept: int) -> None:
        super().__init__(kept, "gradcam-serve")
        self._free = threading.Semaphore(kept)

    def submit(self, fn: Callable[..., T], /, *args: Any, **keywords: Any) -> futures.Future[T]:
        """Run `fn` now."""
        if self._free.acquire(blocking=False):
            future = super().submit(fn, *args, **keywords)
            future.add_done_callback(lambda _: self._free.release())
            return future
        own: futures.Future[T] = futures.Future()
        threading.Thread(target=_run, args=[own, fn, args, keywords], daemon=True, name="gradcam-serve-own").start()
        return own


def _run(future: futures.Future[T], fn: Callable[..., T], args: Any, keywords: Any) -> None:
    try:
        future.set_result(fn(*args, **keywords))
    except BaseException as error:  # noqa: BLE001 - the future's owner gets it, as from any executor
        future.set_exception(error)
