"""The client that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar, overload

from gradcam_client import images
from gradcam_client.answers import read_status
from gradcam_client.core import Flow, ServedModel, class_choices
from gradcam_client.errors import ServerError
from gradcam_client.options import DEFAULT_TIMEOUT_S, UNSET, Connection, GivenTimeout, Timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcam_client.images import Source
    from gradcam_client.manifest import Manifest
    from gradcam_client.results import Explanation, Prediction, VersionStatus

T = TypeVar("T")


class Client:
    """Asks a served classifier what it sees in an image, and where.

    May be used from any number of threads. Close it when done, or use it in a `with` statement.

    Every `timeout` is in seconds and holds for each call to the server; lists are sent in several.
    `None` waits without limit.

    Args:
        target: the server's gRPC address, `host:port`.
        model: the name the model is served under.
        version: the version to ask; `None` follows the label, or without one the latest.
        label: the version label to ask, such as `"stable"` or `"canary"`: the version that the server's configuration
            points it at, which may change from one call to the next.
        timeout: what every method uses unless it is given its own.

    Raises:
        OptionError: an argument has a value it cannot have.

    Example:
        ```python
        with Client("localhost:8500", model="flowers") as client:
            explanation = client.explain("rose.jpg")
            explanation.save("rose_cam.png")
        ```
    """

    def __init__(
        self,
        target: str,
        *,
        model: str,
        version: int | None = None,
        label: str | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT_S,
    ) -> None:
        # gRPC would be a third of the time that importing this package takes; overlays and reports never need it.
        from gradcam_client.rpc import Channel

        self._connection = Connection(target=target, model=model, version=version, label=label, timeout=timeout)
        self._model = ServedModel(model, version, label)
        self._channel = Channel(target)

    # A string is a sequence of strings too, which mypy takes for a contradiction.
    @overload
    def explain(  # type: ignore[overload-overlap]
        self,
        image: Source,
        *,
        class_index: int | None = None,
        label: str | None = None,
        method: str | None = None,
        timeout: GivenTimeout = UNSET,
    ) -> Explanation: ...

    @overload
    def explain(
        self,
        image: Sequence[Source],
        *,
        class_index: int | Sequence[int] | None = None,
        label: str | Sequence[str] | None = None,
        method: str | None = None,
        timeout: GivenTimeout = UNSET,
    ) -> list[Explanation]: ...

    def explain(
        self,
        image: Source | Sequence[Source],
        *,
        class_index: int | Sequence[int] | None = None,
        label: str | Sequence[str] | None = None,
        method: str | None = None,
        timeout: GivenTimeout = UNSET,
    ) -> Explanation | list[Explanation]:
        """Ask what the model sees in an image, and which regions raised that class's score.

        Args:
            image: a path, the bytes of an image file, a Pillow image, a uint8 array `[H, W]` or `[H, W, C]`,
                or a list of them, of any sizes.
            class_index: the class to explain, one for all images or one for each; -1 is the predicted class.
            label: the class to explain by its name, likewise.
            method: the CAM method, one of the manifest's `methods`; the first of them if not given.
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
        pictures = images.read_all(image)
        choices = class_choices(len(pictures), class_index, label)
        found = self._run(self._model.explain(pictures, images.fit, choices, method), timeout)
        return found if isinstance(image, list | tuple) else found[0]

    @overload
    def top_k(  # type: ignore[overload-overlap]
        self, image: Source, *, timeout: GivenTimeout = UNSET
    ) -> list[Explanation]: ...

    @overload
    def top_k(self, image: Sequence[Source], *, timeout: GivenTimeout = UNSET) -> list[list[Explanation]]: ...

    def top_k(
        self, image: Source | Sequence[Source], *, timeout: GivenTimeout = UNSET
    ) -> list[Explanation] | list[list[Explanation]]:
        """Ask which T classes the model scores highest in an image, and which regions raised each; one call for all.

        T is the manifest's `top_k`, which was set at export. Args and errors are those of `explain`.

        Returns:
            T explanations, best class first; for a list, a list of such lists in the same order.
        """
        found = self._run(self._model.top_k(images.read_all(image), images.fit), timeout)
        return found if isinstance(image, list | tuple) else found[0]

    @overload
    def predict(  # type: ignore[overload-overlap]
        self, image: Source, *, timeout: GivenTimeout = UNSET
    ) -> Prediction: ...

    @overload
    def predict(self, image: Sequence[Source], *, timeout: GivenTimeout = UNSET) -> list[Prediction]: ...

    def predict(
        self, image: Source | Sequence[Source], *, timeout: GivenTimeout = UNSET
    ) -> Prediction | list[Prediction]:
        """Ask what the model sees in an image, without the heatmap.

        Args and errors are those of `explain`.
        """
        found = self._run(self._model.predict(images.read_all(image), images.fit), timeout)
        return found if isinstance(image, list | tuple) else found[0]

    def describe(self, *, timeout: GivenTimeout = UNSET) -> Manifest:
        """Ask the model what it is: input, labels, explanation, overlay defaults.

        Raises:
            IncompatibleModel: the model and this client do not speak the same contract.
            MalformedAnswer: the server answered what the contract does not allow.
            ServerError: the server refused, or could not be reached.
        """
        return self._run(self._model.describe(), timeout)

    def status(self, *, timeout: GivenTimeout = UNSET) -> tuple[VersionStatus, ...]:
        """Ask the server for the state of the model's versions, newest first; of one, where this client asks for one.

        Raises:
            IncompatibleModel: a label is asked for, and the model does not say which of its versions that is.
            ServerError: the server refused, or could not be reached.
        """
        # Stock servers tell the state of all versions to whoever asks by label.
        version = None if self._connection.label is None else self.describe(timeout=timeout).version
        request = self._model.status_request(version)
        return read_status(self._channel.status(request, self._connection.deadline(timeout)))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, flow: Flow[T], timeout: GivenTimeout) -> T:
        """Send what `flow` asks for, and give it the answers, until it returns."""
        deadline = self._connection.deadline(timeout)
        try:
            request = next(flow)
            while True:
                try:
                    response = self._channel.predict(request, deadline)
                except ServerError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]
