"""The client that is awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from gradcam_client import images
from gradcam_client.choices import class_choices
from gradcam_client.connected import Connected
from gradcam_client.many import ManyOptions
from gradcam_client.options import UNSET
from gradcam_client.waiting import AsyncWaiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence

    from gradcam_client.errors import ImageError
    from gradcam_client.images import Source
    from gradcam_client.manifest import Manifest
    from gradcam_client.options import CallOptions, ExplainListOptions, ExplainOptions, GivenTimeout, Timeout
    from gradcam_client.outcomes import Outcome
    from gradcam_client.results import Explanation, Prediction, VersionStatus
    from gradcam_client.steps import Flow

T = TypeVar("T")


class AsyncClient(Connected):
    """Asks a served classifier what it sees in an image, and where, from an event loop.

    Takes what `Client` takes, offers what it offers, and raises what it raises; each method is awaited. Images are
    read and prepared in other threads. A client belongs to the event loop of its first call: close it there when
    done, or use it in an `async with` statement.

    Example:
        ```python
        async with AsyncClient("localhost:8500", model="flowers") as client:
            explanation = await client.explain("rose.jpg")
            async for outcome in client.explain_many(paths):
                ...
        ```
    """

    def _open(self) -> None:
        self._waiter = AsyncWaiter(self._connection)
        self._model = self._waiter.model

    # A string is a sequence of strings too, which mypy takes for a contradiction.
    @overload
    async def explain(  # type: ignore[overload-overlap]
        self, image: Source, *, strict: bool = True, **options: Unpack[ExplainOptions]
    ) -> Explanation: ...
    @overload
    async def explain(
        self, image: Sequence[Source], *, strict: Literal[True] = True, **options: Unpack[ExplainListOptions]
    ) -> list[Explanation]: ...
    @overload
    async def explain(
        self, image: Sequence[Source], *, strict: bool, **options: Unpack[ExplainListOptions]
    ) -> list[Explanation | ImageError]: ...

    async def explain(
        self,
        image: Source | Sequence[Source],
        *,
        class_index: int | Sequence[int] | None = None,
        label: str | Sequence[str] | None = None,
        method: str | None = None,
        strict: bool = True,
        timeout: GivenTimeout = UNSET,
    ) -> Any:
        """Ask what the model sees in an image, and which regions raised that class's score: see `Client.explain`."""
        pictures = await asyncio.to_thread(images.read_all, image, strict=strict)
        choices = class_choices(len(pictures), class_index, label)
        return await self._answer(image, self._model.explain(pictures, choices, method), timeout)

    @overload
    async def top_k(  # type: ignore[overload-overlap]
        self, image: Source, *, strict: bool = True, **options: Unpack[CallOptions]
    ) -> list[Explanation]: ...
    @overload
    async def top_k(
        self, image: Sequence[Source], *, strict: Literal[True] = True, **options: Unpack[CallOptions]
    ) -> list[list[Explanation]]: ...
    @overload
    async def top_k(
        self, image: Sequence[Source], *, strict: bool, **options: Unpack[CallOptions]
    ) -> list[list[Explanation] | ImageError]: ...

    async def top_k(
        self, image: Source | Sequence[Source], *, strict: bool = True, timeout: GivenTimeout = UNSET
    ) -> Any:
        """Ask which T classes the model scores highest in an image, and why: see `Client.top_k`."""
        pictures = await asyncio.to_thread(images.read_all, image, strict=strict)
        return await self._answer(image, self._model.top_k(pictures), timeout)

    @overload
    async def predict(  # type: ignore[overload-overlap]
        self, image: Source, *, strict: bool = True, **options: Unpack[CallOptions]
    ) -> Prediction: ...
    @overload
    async def predict(
        self, image: Sequence[Source], *, strict: Literal[True] = True, **options: Unpack[CallOptions]
    ) -> list[Prediction]: ...
    @overload
    async def predict(
        self, image: Sequence[Source], *, strict: bool, **options: Unpack[CallOptions]
    ) -> list[Prediction | ImageError]: ...

    async def predict(
        self, image: Source | Sequence[Source], *, strict: bool = True, timeout: GivenTimeout = UNSET
    ) -> Any:
        """Ask what the model sees in an image, without the heatmap: see `Client.predict`."""
        pictures = await asyncio.to_thread(images.read_all, image, strict=strict)
        return await self._answer(image, self._model.predict(pictures), timeout)

    async def overlay(
        self, image: Source, *, class_index: int | None = None, label: str | None = None, timeout: GivenTimeout = UNSET
    ) -> bytes:
        """Ask for the image with its heatmap over it, a JPEG that the server draws: see `Client.overlay`."""
        choices = class_choices(1, class_index, label)
        file = await asyncio.to_thread(images.encoded, image)
        return await self._answer(image, self._model.overlay([file], choices), timeout)  # type: ignore[no-any-return]

    def explain_many(
        self,
        images: Iterable[Source] | AsyncIterable[Source],
        *,
        concurrency: int = 4,
        class_index: int | None = None,
        label: str | None = None,
        method: str | None = None,
        top_k: bool = False,
        timeout: GivenTimeout = UNSET,
    ) -> AsyncIterator[Outcome]:
        """Explain any number of images, several calls at a time, by `async for`: see `Client.explain_many`.

        A plain iterable is gone through on the event loop: give an asynchronous one where its next image takes time.
        """
        options = ManyOptions(
            images=images, concurrency=concurrency, class_index=class_index, label=label, method=method, top_k=top_k
        )
        return self._waiter.many(images, options, timeout)

    async def describe(self, *, timeout: GivenTimeout = UNSET) -> Manifest:
        """Ask the model what it is: see `Client.describe`."""
        return await self._waiter.answer(self._model.describe(), timeout)

    async def status(self, *, timeout: GivenTimeout = UNSET) -> tuple[VersionStatus, ...]:
        """Ask the server for the state of the model's versions: see `Client.status`."""
        return await self._waiter.answer(self._model.status(), timeout)

    async def wait_until_ready(self, timeout: Timeout = 60.0) -> None:
        """Wait until the version that this client asks for can be asked: see `Client.wait_until_ready`."""
        await self._waiter.until_ready(timeout)

    async def close(self) -> None:
        """Close the connection; calls still under way are cancelled."""
        await self._waiter.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _answer(self, image: Source | Sequence[Source], flow: Flow[list[T]], timeout: GivenTimeout) -> Any:
        found = await self._waiter.answer(flow, timeout)
        return found if isinstance(image, list | tuple) else found[0]
