"""What to ask a served model. Nothing here waits or opens anything.

Each question is a generator: it yields the requests to send, is sent the answers, and returns what the caller
gets. A server's refusal is thrown into it. So the logic is written once, for whoever does the waiting.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np

from gradcam_client import codec, contract
from gradcam_client.answers import (
    EXPLAIN_OUTPUTS,
    PREDICT_OUTPUTS,
    read_description,
    read_explanations,
    read_predictions,
    read_top_k,
)
from gradcam_client.errors import (
    IncompatibleModel,
    InvalidRequest,
    ModelNotFound,
    OptionError,
    SignatureNotFound,
)
from gradcam_client.manifest import Manifest
from gradcam_client.wire import gradcam_wire_pb2 as wire

if TYPE_CHECKING:
    from PIL import Image

    from gradcam_client.results import Explanation, Prediction

T = TypeVar("T")
Array = np.ndarray[Any, np.dtype[Any]]
Flow: TypeAlias = Generator[wire.PredictRequest, wire.PredictResponse, T]
Fit: TypeAlias = "Callable[[Image.Image, tuple[int, int, int]], Array]"
"""Brings a picture to a model's `(H, W, C)`, uint8."""
Choice: TypeAlias = int | str | None
"""A class by its index or its label; `None` is the class that the model predicts."""

CHUNK: Final = 8
"""The most images sent in one call: enough to fill a server, few enough to be answered within a deadline."""

ATTEMPTS: Final = 3
"""How often to ask anew when the server turns to another version of the model in the middle of a question."""


class ServedModel:
    """A model behind a server, and what its versions are known to want.

    Args:
        name: the name the model is served under.
        version: the version to ask; `None` follows the label, or without one the latest.
        label: the version label to ask.
    """

    def __init__(self, name: str, version: int | None = None, label: str | None = None) -> None:
        self._name = name
        self._version = version
        self._label = label
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
                f"model {self._name!r} has no version label {self._label!r}: the server's configuration gives it, "
                f"once the version is loaded ({error})",
                target=error.target,
                status=error.status,
            ) from error
        except SignatureNotFound as error:
            raise IncompatibleModel(
                f"model {self._name!r} does not describe itself: serve what gradcam-export built ({error})"
            ) from error
        manifest = Manifest.parse(read_description(response), version=response.model_spec.version.value)
        self._manifests[manifest.version] = self._latest = manifest
        return manifest

    def predict(self, images: Sequence[Image.Image], fit: Fit) -> Flow[list[Prediction]]:
        """Ask for the classes of `images`."""

        def build(manifest: Manifest, part: slice) -> wire.PredictRequest:
            inputs = {contract.IMAGES: _stack(images[part], fit, manifest)}
            return self._request(contract.PREDICT, inputs, self._version, PREDICT_OUTPUTS)

        return (yield from self._in_parts(images, build, read_predictions))

    def explain(
        self, images: Sequence[Image.Image], fit: Fit, choices: Sequence[Choice], method: str | None = None
    ) -> Flow[list[Explanation]]:
        """Ask for the classes of `images`, and the heatmaps of `choices`, one class for each image, by `method`."""

        def build(manifest: Manifest, part: slice) -> wire.PredictRequest:
            signature = manifest.explain_signature(method)
            inputs = {contract.IMAGES: _stack(images[part], fit, manifest)}
            if signature == contract.EXPLAIN and all(choice is None for choice in choices):
                return self._request(contract.SERVING_DEFAULT, inputs, self._version, EXPLAIN_OUTPUTS)
            indices = [_class_index(choice, manifest) for choice in choices[part]]
            inputs[contract.CLASS_INDEX] = np.array(indices, np.int32)
            return self._request(signature, inputs, self._version, EXPLAIN_OUTPUTS)

        return (yield from self._in_parts(images, build, functools.partial(read_explanations, method=method)))

    def top_k(self, images: Sequence[Image.Image], fit: Fit) -> Flow[list[list[Explanation]]]:
        """Ask for the classes of `images`, and the heatmaps of the best T of each."""

        def build(manifest: Manifest, part: slice) -> wire.PredictRequest:
            manifest.check_top_k()
            inputs = {contract.IMAGES: _stack(images[part], fit, manifest)}
            return self._request(contract.TOP_K, inputs, self._version, EXPLAIN_OUTPUTS)

        return (yield from self._in_parts(images, build, read_top_k))

    def status_request(self, version: int | None = None) -> wire.GetModelStatusRequest:
        """The request for the state of `version`, else of the version asked for, else of all."""
        return wire.GetModelStatusRequest(model_spec=self._spec(self._version if version is None else version))

    def _in_parts(
        self,
        images: Sequence[Image.Image],
        build: Callable[[Manifest, slice], wire.PredictRequest],
        read: Callable[[wire.PredictResponse, Manifest, Sequence[Image.Image]], list[T]],
    ) -> Flow[list[T]]:
        """Ask for so many images at a time as the server takes."""
        results: list[T] = []
        while len(results) < len(images):
            manifest = self._latest or (yield from self.describe())
            size = min(CHUNK, manifest.max_batch_size or CHUNK)
            part = slice(len(results), len(results) + size)
            answered, response = yield from self._ask(build, part)
            results += read(response, answered, images[part])
        return results

    def _ask(
        self, build: Callable[[Manifest, slice], wire.PredictRequest], part: slice
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
            f"model {self._name!r} answered from another version {ATTEMPTS} times in a row, each with "
            "its own input, labels or methods: ask for one version"
        )

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
        spec = wire.ModelSpec(name=self._name)
        if version is not None:
            spec.version.value = version
        return spec


def class_choices(
    count: int, class_index: int | Sequence[int] | None, label: str | Sequence[str] | None
) -> list[Choice]:
    """One class for each of `count` images, from one for all or one for each.

    Raises:
        OptionError: index and label are both given, or not as many as images.
    """
    if class_index is not None and label is not None:
        raise OptionError(f"class index {class_index} and label {label!r} were both given: give one of them")
    chosen = label if class_index is None else class_index
    if chosen is None or isinstance(chosen, str | int | np.integer):
        return [chosen] * count
    choices: list[Choice] = list(chosen)
    if len(choices) != count:
        raise OptionError(f"{len(choices)} classes for {count} images: give one for all, or one for each")
    return choices


def _terms(manifest: Manifest) -> tuple[object, ...]:
    """All that a request is built from: versions that agree on it read the same request alike."""
    return manifest.inputs, manifest.labels, manifest.method, manifest.methods


def _class_index(choice: Choice, manifest: Manifest) -> int:
    if choice is None:
        return contract.PREDICTED_CLASS
    if isinstance(choice, str):
        return manifest.class_index(choice)
    manifest.check_class_index(choice)
    return choice


def _stack(images: Sequence[Image.Image], fit: Fit, manifest: Manifest) -> Array:
    """`[B, H, W, C]` uint8."""
    shape = manifest.picture_shape()
    return np.stack([fit(image, shape) for image in images])
