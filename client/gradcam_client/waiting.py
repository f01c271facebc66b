"""Who waits for the answers: a thread, or an event loop. What to ask, and when, is none of their business."""

from __future__ import annotations

import asyncio
import collections
import itertools
import time
from collections.abc import AsyncIterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from gradcam_client import images
from gradcam_client.core import ServedModel
from gradcam_client.errors import ServerError
from gradcam_client.many import ManyImages, ManyOptions, Numbered, until_ready
from gradcam_client.options import check_timeout
from gradcam_client.rpc import AsyncChannel, Channel, closed
from gradcam_client.steps import Call, Finished, Pause, advance, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from gradcam_client.images import Source
    from gradcam_client.options import Connection, GivenTimeout, Timeout
    from gradcam_client.outcomes import Outcome
    from gradcam_client.steps import Flow, Steps

T = TypeVar("T")


class Waiter:
    """Waits in the thread that asks."""

    def __init__(self, connection: Connection) -> None:
        self.model = ServedModel(connection, images.fit)
        self._connection = connection
        self._channel = Channel(connection)
        self._closed = False

    def answer(self, flow: Flow[T], timeout: GivenTimeout) -> T:
        """Ask all that `flow` asks, each call within `timeout`, and return what it comes to."""
        return self._drive(within(flow, self._connection.deadline(timeout), time.monotonic))

    def until_ready(self, timeout: Timeout) -> None:
        """Wait until the model can be asked."""
        check_timeout(timeout)
        self._drive(until_ready(self.model, timeout, time.monotonic, self._connection.target))

    def many(self, sources: Iterable[Source], options: ManyOptions, timeout: GivenTimeout) -> Iterator[Outcome]:
        """Ask for each of `sources`, `options.concurrency` calls at a time, in threads that also read the images."""
        many = ManyImages(self.model, options, self._connection.deadline(timeout), time.monotonic)
        return self._many(sources, many, options.concurrency)

    def _many(self, sources: Iterable[Source], many: ManyImages, concurrency: int) -> Iterator[Outcome]:
        size = self._drive(many.chunk_size())
        numbered = enumerate(sources)
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="gradcam")
        pending: collections.deque[Future[list[Outcome]]] = collections.deque()
        try:
            while part := list(itertools.islice(numbered, size)):
                pending.append(pool.submit(self._outcomes, many, part))
                # One more than can run, so that no thread has to wait for whoever takes the outcomes.
                if len(pending) > concurrency:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            # Whoever stops half-way is not made to wait for calls under way.
            pool.shutdown(wait=False, cancel_futures=True)

    def _outcomes(self, many: ManyImages, part: list[tuple[int, Source]]) -> list[Outcome]:
        return self._drive(many.outcomes(_read(part)))

    def _drive(self, steps: Steps[T]) -> T:
        step = advance(steps)
        while not isinstance(step, Finished):
            answer, error = None, None
            try:
                answer = self._take(step)
            except ServerError as failed:
                error = failed
            step = advance(steps, answer, error)
        return step.value

    def _take(self, step: Call | Pause) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if self._closed:
            raise closed(self._connection.target)
        return self._channel.call(step)

    def close(self) -> None:
        """Close the connection; calls still under way are cancelled."""
        self._closed = True
        self._channel.close()


class AsyncWaiter:
    """Waits on an event loop; reads and prepares images in other threads, so that the loop never stands still."""

    def __init__(self, connection: Connection) -> None:
        self.model = ServedModel(connection, images.fit)
        self._connection = connection
        self._channel: AsyncChannel | None = None
        self._closed = False

    async def answer(self, flow: Flow[T], timeout: GivenTimeout) -> T:
        """Ask all that `flow` asks, each call within `timeout`, and return what it comes to."""
        return await self._drive(within(flow, self._connection.deadline(timeout), time.monotonic))

    async def until_ready(self, timeout: Timeout) -> None:
        """Wait until the model can be asked."""
        check_timeout(timeout)
        await self._drive(until_ready(self.model, timeout, time.monotonic, self._connection.target))

    def many(
        self, sources: Iterable[Source] | AsyncIterable[Source], options: ManyOptions, timeout: GivenTimeout
    ) -> AsyncIterator[Outcome]:
        """Ask for each of `sources`, `options.concurrency` calls at a time."""
        many = ManyImages(self.model, options, self._connection.deadline(timeout), time.monotonic)
        return self._many(sources, many, options.concurrency)

    async def _many(
        self, sources: Iterable[Source] | AsyncIterable[Source], many: ManyImages, concurrency: int
    ) -> AsyncIterator[Outcome]:
        size = await self._drive(many.chunk_size())
        calls = asyncio.Semaphore(concurrency)
        pending: collections.deque[asyncio.Task[list[Outcome]]] = collections.deque()
        try:
            async for part in _parts(sources, size):
                pending.append(asyncio.create_task(self._outcomes(many, part, calls)))
                if len(pending) > concurrency:
                    for outcome in await pending.popleft():
                        yield outcome
            while pending:
                for outcome in await pending.popleft():
                    yield outcome
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _outcomes(
        self, many: ManyImages, part: list[tuple[int, Source]], calls: asyncio.Semaphore
    ) -> list[Outcome]:
        async with calls:
            return await self._drive(many.outcomes(await asyncio.to_thread(_read, part)))

    async def _drive(self, steps: Steps[T]) -> T:
        step = await asyncio.to_thread(advance, steps)
        while not isinstance(step, Finished):
            answer, error = None, None
            try:
                answer = await self._take(step)
            except ServerError as failed:
                error = failed
            step = await asyncio.to_thread(advance, steps, answer, error)
        return step.value

    async def _take(self, step: Call | Pause) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if self._closed:
            raise closed(self._connection.target)
        if self._channel is None:
            # Only now: a channel belongs to the event loop that it is made on.
            self._channel = AsyncChannel(self._connection)
        return await self._channel.call(step)

    async def close(self) -> None:
        """Close the connection; calls still under way are cancelled."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()


def _read(part: list[tuple[int, Source]]) -> list[Numbered]:
    return [Numbered(position, source, images.read_or_error(source)) for position, source in part]


async def _parts(
    sources: Iterable[Source] | AsyncIterable[Source], size: int
) -> AsyncIterator[list[tuple[int, Source]]]:
    """The numbered sources, `size` at a time."""
    if not isinstance(sources, AsyncIterable):
        numbered = enumerate(sources)
        while part := list(itertools.islice(numbered, size)):
            yield part
        return
    part = []
    position = 0
    async for source in sources:
        part.append((position, source))
        position += 1
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
