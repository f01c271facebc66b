"""What to ask a served model. Nothing here waits or opens anything.

Each question is a generator: it yields the requests to send, is sent the answers, and returns what the caller
gets. A server's refusal is thrown into it. So the logic is written once, for whoever does the waiting.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np

from gradcam_client import codec, contract
from gradcam_client.answers import (
    EXPLAIN_OUTPUTS,
    PREDICT_OUTPUTS,
    read_description,
    read_explanations,
    read_overlays,
    read_predictions,
    read_status,
    read_top_k,
)
from gradcam_client.choices import Asked, class_indices
from gradcam_client.errors import (
    ImageError,
    IncompatibleModel,
    InvalidRequest,
    ModelNotFound,
    OptionError,
    SignatureNotFound,
)
from gradcam_client.manifest import Manifest
from gradcam_client.wire import gradcam_wire_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL import Image

    from gradcam_client.choices import Choice
    from gradcam_client.options import Connection
    from gradcam_client.results import Explanation, Prediction, VersionStatus
    from gradcam_client.steps import Flow

P = TypeVar("P")
T = TypeVar("T")
Array = np.ndarray[Any, np.dtype[Any]]
Fit: TypeAlias = "Callable[[Image.Image, tuple[int, int, int]], Array]"
"""Brings a picture to a model's `(H, W, C)`, uint8."""
Read: TypeAlias = "Image.Image | ImageError"
"""A picture, or why there is none."""

CHUNK: Final = 8
"""The most images sent in one call: enough to fill a server, few enough to be answered within a deadline."""

ATTEMPTS: Final = 3
"""How often to ask anew when the server turns to another version of the model in the middle of a question."""


class ServedModel:
    """A model behind a server, and what its versions are known to want.

    Args:
        connection: which model it is; `fit` brings pictures to its input.
    """

    def __init__(self, connection: Connection, fit: Fit) -> None:
        self.name = connection.model
        self._version = connection.version
        self._label = connection.label
        self._fit = fit
        self._manifests: dict[int, Manifest] = {}
        self._latest: Manifest | None = None

    def describe(self, version: int | None = None) -> Flow[Manifest]:
        """Ask for the manifest of `version`, else of the version that answers."""
        asked = self._version if version is None else version
        key = np.array([contract.DESCRIBE_MANIFEST.encode()], object)
        request = self._request(contract.DESCRIBE, {contract.KEY: key}, asked, (contract.VALUE,))
        try:
            response = yield request
        except InvalidRequest as error:
            if asked is not None or self._label is None:
                raise
            # The key is one that every model takes: what is left to refuse is the label.
            raise ModelNotFound(
                f"model {self.name!r} has no version label {self._label!r}: the server's configuration gives it, "
                f"once the version is loaded ({error})",
                target=error.target,
                status=error.status,
                details=error.details,
            ) from error
        except SignatureNotFound as error:
            raise IncompatibleModel(
                f"model {self.name!r} does not describe itself: serve what gradcam-export built ({error})"
            ) from error
        manifest = Manifest.parse(read_description(response), version=response.model_spec.version.value)
        self._manifests[manifest.version] = self._latest = manifest
        return manifest

    def status(self) -> Flow[tuple[VersionStatus, ...]]:
        """Ask for the state of the version asked for, else of all."""
        # Stock servers tell the state of all versions to whoever asks by label.
        version = self._version if self._label is None else (yield from self.describe()).version
        response = yield wire.GetModelStatusRequest(model_spec=self._spec(version))
        return read_status(response)

    def obstacle(self) -> Flow[str | None]:
        """Ask whether the version asked for, or without one any, can be asked; `None`, or what it waits for."""
        if self._label is not None:
            yield from self.describe()
            return None
        versions = [one for one in (yield from self.status()) if self._version in (None, one.version)]
        if any(one.state == "AVAILABLE" for one in versions):
            return None
        return (
            ", ".join(f"version {one.version} is {one.state} {one.error}".rstrip() for one in versions) or "no version"
        )

    def predict(self, images: Sequence[Read]) -> Flow[list[Prediction | ImageError]]:
        """Ask for the classes of `images`."""

        def build(manifest: Manifest, part: Sequence[Asked]) -> wire.PredictRequest:
            return self._request(contract.PREDICT, self._stack(part, manifest), self._version, PREDICT_OUTPUTS)

        return (yield from self._in_parts(images, [None] * len(images), build, read_predictions))

    def explain(
        self, images: Sequence[Read], choices: Sequence[Choice], method: str | None = None
    ) -> Flow[list[Explanation | ImageError]]:
        """Ask for the classes of `images`, and the heatmaps of `choices`, one class for each image, by `method`."""

        def build(manifest: Manifest, part: Sequence[Asked]) -> wire.PredictRequest:
            signature = manifest.explain_signature(method)
            inputs = self._stack(part, manifest)
            if signature == contract.EXPLAIN and all(choice is None for choice in choices):
                return self._request(contract.SERVING_DEFAULT, inputs, self._version, EXPLAIN_OUTPUTS)
            inputs |= class_indices(part, manifest)
            return self._request(signature, inputs, self._version, EXPLAIN_OUTPUTS)

        read = functools.partial(read_explanations, method=method)
        return (yield from self._in_parts(images, choices, build, read))

    def top_k(self, images: Sequence[Read]) -> Flow[list[list[Explanation] | ImageError]]:
        """Ask for the classes of `images`, and the heatmaps of the best T of each."""

        def build(manifest: Manifest, part: Sequence[Asked]) -> wire.PredictRequest:
            manifest.check_top_k()
            return self._request(contract.TOP_K, self._stack(part, manifest), self._version, EXPLAIN_OUTPUTS)

        return (yield from self._in_parts(images, [None] * len(images), build, read_top_k))

    def overlay(self, files: Sequence[bytes], choices: Sequence[Choice]) -> Flow[list[bytes | ImageError]]:
        """Ask for the finished overlays of `files`, each the bytes of a JPEG or PNG."""

        def build(manifest: Manifest, part: Sequence[Asked]) -> wire.PredictRequest:
            files = np.array([None] * len(part), object)
            files[:] = [one.image for one in part]
            inputs = {contract.IMAGE_BYTES: files} | class_indices(part, manifest)
            return self._request(contract.OVERLAY, inputs, self._version, (contract.OVERLAY_BYTES,))

        try:
            return (yield from self._in_parts(files, choices, build, read_overlays))
        except SignatureNotFound as error:
            raise IncompatibleModel(
                f"model {self.name!r} draws no overlays: it takes no pictures, or was exported with "
                f"--max-image-bytes 0; explain the image, and draw the explanation's overlay here ({error})"
            ) from error

    def _in_parts(
        self,
        images: Sequence[P | ImageError],
        choices: Sequence[Choice],
        build: Callable[[Manifest, Sequence[Asked]], wire.PredictRequest],
        read: Callable[[wire.PredictResponse, Manifest, Sequence[P]], list[T]],
    ) -> Flow[list[T | ImageError]]:
        """Ask for so many images at a time as the server takes; an error among the images keeps its place."""
        asked = [Asked(*one) for one in zip(images, choices, strict=True) if not isinstance(one[0], ImageError)]
        found: list[T] = []
        while len(found) < len(asked):
            manifest = self._latest or (yield from self.describe())
            size = min(CHUNK, manifest.max_batch_size or CHUNK)
            part = asked[len(found) : len(found) + size]
            answered, response = yield from self._ask(build, part)
            found += read(response, answered, [one.image for one in part])
        results = iter(found)
        return [image if isinstance(image, ImageError) else next(results) for image in images]

    def _ask(
        self, build: Callable[[Manifest, Sequence[Asked]], wire.PredictRequest], part: Sequence[Asked]
    ) -> Flow[tuple[Manifest, wire.PredictResponse]]:
        """Ask, and ask anew if the model has moved on to a version that wants or means something else."""
        manifest = self._latest or (yield from self.describe())
        for _ in range(ATTEMPTS):
            try:
                response = yield build(manifest, part)
            except (InvalidRequest, SignatureNotFound, OptionError, IncompatibleModel) as refusal:
                current = yield from self.describe()
                if current.version == manifest.version:
                    raise refusal from refusal.__cause__
            else:
                version = response.model_spec.version.value
                current = self._manifests.get(version) or (yield from self.describe(version))
                if _terms(current) == _terms(manifest):
                    return current, response
            manifest = current
        raise IncompatibleModel(
            f"model {self.name!r} answered from another version {ATTEMPTS} times in a row, each with "
            "its own input, labels or methods: ask for one version"
        )

    def _stack(self, part: Sequence[Asked], manifest: Manifest) -> dict[str, Array]:
        """`images` `[B, H, W, C]` uint8."""
        shape = manifest.picture_shape()
        return {contract.IMAGES: np.stack([self._fit(one.image, shape) for one in part])}

    def _request(
        self, signature: str, inputs: Mapping[str, Array], version: int | None, outputs: Sequence[str]
    ) -> wire.PredictRequest:
        spec = self._spec(version)
        if version is None and self._label is not None:
            spec.version_label = self._label
        spec.signature_name = signature
        tensors = {name: codec.encode(array) for name, array in inputs.items()}
        return wire.PredictRequest(model_spec=spec, inputs=tensors, output_filter=outputs)

    def _spec(self, version: int | None) -> wire.ModelSpec:
        spec = wire.ModelSpec(name=self.name)
        if version is not None:
            spec.version.value = version
        return spec


def _terms(manifest: Manifest) -> tuple[object, ...]:
    """All that a request is built from: versions that agree on it read the same request alike."""
    return manifest.inputs, manifest.labels, manifest.method, manifest.methods
