"""The client that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from gradcam_client import images
from gradcam_client.choices import class_choices
from gradcam_client.connected import Connected
from gradcam_client.many import ManyOptions
from gradcam_client.options import UNSET
from gradcam_client.waiting import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradcam_client.errors import ImageError
    from gradcam_client.images import Source
    from gradcam_client.manifest import Manifest
    from gradcam_client.options import CallOptions, ExplainListOptions, ExplainOptions, GivenTimeout, Timeout
    from gradcam_client.outcomes import Outcome
    from gradcam_client.results import Explanation, Prediction, VersionStatus
    from gradcam_client.steps import Flow

T = TypeVar("T")


class Client(Connected):
    """Asks a served classifier what it sees in an image, and where.

    May be used from any number of threads. Close it when done, or use it in a `with` statement.

    Every `timeout` is in seconds and holds for each call to the server; lists are sent in several.
    `None` waits without limit. A call that finds no server, or one that is full, is tried again within it.

    Args:
        target: the server's gRPC address, `host:port`, or any that gRPC resolves to several, which take turns:
            `dns:///host:port`, `ipv4:10.0.0.1:8500,10.0.0.2:8500`; or `unix:/path`.
        model: the name the model is served under.
        version: the version to ask; `None` follows the label, or without one the latest.
        label: the version label to ask, such as `"stable"` or `"canary"`: the version that the server's configuration
            points it at, which may change from one call to the next.
        timeout: what every method uses unless it is given its own.
        tls: certificates, `Tls(...)` or `Tls.read(ca=PATH, ...)`; without, the connection is not encrypted.
        token: bearer token, or a function that returns the one that is valid now; it is called before each call.
        metadata: names and values that go with each call.
        compression: `"gzip"` or `"deflate"`: compresses requests; images hardly gain by it.
        channel_options: gRPC's channel arguments, such as `{"grpc.keepalive_time_ms": 60_000}`, which go before ours.

    Raises:
        OptionError: an argument has a value it cannot have.

    Example:
        ```python
        with Client("localhost:8500", model="flowers") as client:
            explanation = client.explain("rose.jpg")
            explanation.save("rose_cam.png")
        ```
    """

    def _open(self) -> None:
        self._waiter = Waiter(self._connection)
        self._model = self._waiter.model

    # A string is a sequence of strings too, which mypy takes for a contradiction.
    @overload
    def explain(  # type: ignore[overload-overlap]
        self, image: Source, *, strict: bool = True, **options: Unpack[ExplainOptions]
    ) -> Explanation: ...
    @overload
    def explain(
        self, image: Sequence[Source], *, strict: Literal[True] = True, **options: Unpack[ExplainListOptions]
    ) -> list[Explanation]: ...
    @overload
    def explain(
        self, image: Sequence[Source], *, strict: bool, **options: Unpack[ExplainListOptions]
    ) -> list[Explanation | ImageError]: ...

    def explain(
        self,
        image: Source | Sequence[Source],
        *,
        class_index: int | Sequence[int] | None = None,
        label: str | Sequence[str] | None = None,
        method: str | None = None,
        strict: bool = True,
        timeout: GivenTimeout = UNSET,
    ) -> Any:
        """Ask what the model sees in an image, and which regions raised that class's score.

        Args:
            image: a path, the bytes of an image file, a Pillow image, a uint8 array `[H, W]` or `[H, W, C]`,
                or a list of them, of any sizes.
            class_index: the class to explain, one for all images or one for each; -1 is the predicted class.
            label: the class to explain by its name, likewise.
            method: the CAM method, one of the manifest's `methods`; the first of them if not given.
            strict: whether one image of a list that cannot be read is an error; if not, its `ImageError` stands in its
                place in the list. An image on its own is always an error.
            timeout: seconds for each call.

        Returns:
            An explanation; for a list, a list in the same order.

        Raises:
            OptionError: an argument has a value it cannot have, or the model has no such method.
            UnknownClass: the model has no such class.
            ImageError: an image cannot be read.
            IncompatibleModel: the model and this client do not speak the same contract, or it takes no pictures.
            MalformedAnswer: the server answered what the contract does not allow.
            ServerError: the server refused, or could not be reached.
        """
        pictures = images.read_all(image, strict=strict)
        choices = class_choices(len(pictures), class_index, label)
        return self._answer(image, self._model.explain(pictures, choices, method), timeout)

    @overload
    def top_k(  # type: ignore[overload-overlap]
        self, image: Source, *, strict: bool = True, **options: Unpack[CallOptions]
    ) -> list[Explanation]: ...
    @overload
    def top_k(
        self, image: Sequence[Source], *, strict: Literal[True] = True, **options: Unpack[CallOptions]
    ) -> list[list[Explanation]]: ...
    @overload
    def top_k(
        self, image: Sequence[Source], *, strict: bool, **options: Unpack[CallOptions]
    ) -> list[list[Explanation] | ImageError]: ...

    def top_k(self, image: Source | Sequence[Source], *, strict: bool = True, timeout: GivenTimeout = UNSET) -> Any:
        """Ask which T classes the model scores highest in an image, and which regions raised each; one call for all.

        T is the manifest's `top_k`, which was set at export. Args and errors are those of `explain`.

        Returns:
            T explanations, best class first; for a list, a list of such lists in the same order.
        """
        return self._answer(image, self._model.top_k(images.read_all(image, strict=strict)), timeout)

    @overload
    def predict(  # type: ignore[overload-overlap]
        self, image: Source, *, strict: bool = True, **options: Unpack[CallOptions]
    ) -> Prediction: ...
    @overload
    def predict(
        self, image: Sequence[Source], *, strict: Literal[True] = True, **options: Unpack[CallOptions]
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self, image: Sequence[Source], *, strict: bool, **options: Unpack[CallOptions]
    ) -> list[Prediction | ImageError]: ...

    def predict(self, image: Source | Sequence[Source], *, strict: bool = True, timeout: GivenTimeout = UNSET) -> Any:
        """Ask what the model sees in an image, without the heatmap.

        Args and errors are those of `explain`.
        """
        return self._answer(image, self._model.predict(images.read_all(image, strict=strict)), timeout)

    def overlay(
        self, image: Source, *, class_index: int | None = None, label: str | None = None, timeout: GivenTimeout = UNSET
    ) -> bytes:
        """Ask for the image with its heatmap over it, as the server draws it: a finished JPEG in the image's own size.

        JPEG and PNG files are sent as they are, and decoded by the server; all else is sent as PNG.
        Args and errors are those of `explain`; IncompatibleModel also where the model draws no overlays.
        """
        flow = self._model.overlay([images.encoded(image)], class_choices(1, class_index, label))
        return self._answer(image, flow, timeout)  # type: ignore[no-any-return]

    def explain_many(
        self,
        images: Iterable[Source],
        *,
        concurrency: int = 4,
        class_index: int | None = None,
        label: str | None = None,
        method: str | None = None,
        top_k: bool = False,
        timeout: GivenTimeout = UNSET,
    ) -> Iterator[Outcome]:
        """Explain any number of images, several calls at a time; an error of one image stops none of the others.

        No more than `concurrency + 1` calls of 8 images are ahead of what is taken: memory does not grow.

        Args:
            images: what `explain` takes, from a list, a generator or any other iterable.
            concurrency: the most calls under way at a time.
            class_index: the class to explain in every image; -1 is the predicted class.
            label: the class to explain by its name, likewise.
            method: the CAM method, as in `explain`.
            top_k: whether to explain the best T classes of each image, as `top_k` does.
            timeout: seconds for each call.

        Returns:
            What became of each image, in their order.

        Raises:
            OptionError, IncompatibleModel, MalformedAnswer, ServerError: before the first image, where this model
                cannot be asked this at all; later errors are outcomes.
        """
        options = ManyOptions(
            images=images, concurrency=concurrency, class_index=class_index, label=label, method=method, top_k=top_k
        )
        return self._waiter.many(images, options, timeout)

    def describe(self, *, timeout: GivenTimeout = UNSET) -> Manifest:
        """Ask the model what it is: input, labels, explanation, overlay defaults.

        Raises:
            IncompatibleModel: the model and this client do not speak the same contract.
            MalformedAnswer: the server answered what the contract does not allow.
            ServerError: the server refused, or could not be reached.
        """
        return self._waiter.answer(self._model.describe(), timeout)

    def status(self, *, timeout: GivenTimeout = UNSET) -> tuple[VersionStatus, ...]:
        """Ask the server for the state of the model's versions, newest first; of one, where this client asks for one.

        Raises:
            IncompatibleModel: a label is asked for, and the model does not say which of its versions that is.
            ServerError: the server refused, or could not be reached.
        """
        return self._waiter.answer(self._model.status(), timeout)

    def wait_until_ready(self, timeout: Timeout = 60.0) -> None:
        """Wait until the server answers and has loaded the version that this client asks for, or any if it names none.

        Raises:
            DeadlineExceeded: it has not within `timeout` seconds in all; the message says what was missing last.
            ServerError: the server refused what waiting does not help, such as the token.
        """
        self._waiter.until_ready(timeout)

    def close(self) -> None:
        """Close the connection; calls still under way are cancelled."""
        self._waiter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _answer(self, image: Source | Sequence[Source], flow: Flow[list[T]], timeout: GivenTimeout) -> Any:
        found = self._waiter.answer(flow, timeout)
        return found if isinstance(image, list | tuple) else found[0]
