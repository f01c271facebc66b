"""`AsyncClient` for tests that are written for `Client`: driven on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading

from gradcam_client import AsyncClient


@functools.cache
def running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="event loop").start()
    return loop


def wait_for(awaitable):
    """Run on the loop, and return or raise what comes of it."""

    async def run():
        return await awaitable

    return asyncio.run_coroutine_threadsafe(run(), running_loop()).result()


class ClientOnALoop:
    """Has `AsyncClient`'s methods, each of which waits for the answer."""

    def __init__(self, *arguments, **options) -> None:
        self._client = AsyncClient(*arguments, **options)

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if inspect.iscoroutinefunction(method):
            return lambda *arguments, **options: wait_for(method(*arguments, **options))
        return lambda *arguments, **options: one_by_one(method(*arguments, **options))

    def __enter__(self):
        wait_for(self._client.__aenter__())
        return self

    def __exit__(self, *exception) -> None:
        wait_for(self._client.__aexit__(*exception))


def one_by_one(found):
    """What an asynchronous generator yields, and its end when this is left early."""
    try:
        while True:
            try:
                yield wait_for(anext(found))
            except StopAsyncIteration:
                return
    finally:
        wait_for(found.aclose())
