"""Requests that a server replays before it calls a version available."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from gradcam_export import contract
from gradcam_export.manifest import file_signatures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tensorflow.core.framework.tensor_pb2 import TensorProto

    from gradcam_export.manifest import Manifest

WARMUP_FILE = "tf_serving_warmup_requests"


def write_warmup(path: Path, manifest: Manifest) -> None:
    """Write one `PredictionLog` per signature and batch size that it can meet, as a TFRecord file at `path`.

    TensorFlow Serving reads `assets.extra/tf_serving_warmup_requests`.
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in manifest.batching["allowed_batch_sizes"]:
            for signature, inputs in _requests(manifest, size):
                log = prediction_log_pb2.PredictionLog()
                request = log.predict_log.request
                request.model_spec.name = manifest.model["name"]
                request.model_spec.signature_name = signature
                for name, value in inputs.items():
                    request.inputs[name].CopyFrom(_tensor(value))
                # A map has no order of its own.
                writer.write(log.SerializeToString(deterministic=True))


def read_warmup(path: Path) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield signature name and inputs of each request in a warm-up file.

    Raises:
        tf.errors.DataLossError: `path` is no TFRecord file.
    """
    for record in tf.compat.v1.io.tf_record_iterator(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def _requests(manifest: Manifest, size: int) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    inputs = {one["name"]: _values(one, size) for one in (manifest.input, *manifest.more_inputs)}
    chosen = inputs | {contract.CLASS_INDEX: np.full(size, contract.PREDICTED_CLASS, np.int32)}
    yield contract.PREDICT, inputs
    first, *further = manifest.explanation["methods"]
    if size == 1 or first in manifest.batching["methods"]:
        yield contract.SERVING_DEFAULT, inputs
        yield contract.EXPLAIN, chosen
        yield contract.TOP_K, inputs
        pixels, grid = manifest.input["shape"][:-1], manifest.explanation["grid"]
        for signature in file_signatures(encoded=manifest.input["encoded"], size=pixels, grid=grid):
            files = _pictures(inputs[manifest.input["name"]])
            yield signature, {contract.IMAGE_BYTES: files, contract.CLASS_INDEX: chosen[contract.CLASS_INDEX]}
    for method in further:
        if size == 1 or method in manifest.batching["methods"]:
            yield contract.explain_signature(method), chosen
    if size == 1:
        yield contract.DESCRIBE, {contract.KEY: np.array([contract.DESCRIBE_MANIFEST.encode()], object)}


def _tensor(value: np.ndarray) -> TensorProto:
    """Return `value`; of one that is the same everywhere, its shape and that one number."""
    if value.dtype == object or len(value) == 1 or not (value == value.flat[0]).all():
        return tf.make_tensor_proto(value)
    return tf.make_tensor_proto(value.flat[0], shape=value.shape)


def _values(one: Mapping[str, Any], size: int) -> np.ndarray:
    shape = (size, *one["shape"])
    if size > 1:
        # All batches of all signatures as noise would be larger than a small model.
        return np.ones(shape, one["dtype"])
    # Noise, not zeros: kernels that choose an algorithm by trying see ordinary values.
    random = np.random.default_rng(0)
    if one["dtype"] == "float32":
        return random.standard_normal(shape, np.float32)
    # Of tokens no more is known than that there are two.
    return random.integers(0, 256 if one["dtype"] == "uint8" else 2, shape, one["dtype"])


def _pictures(images: np.ndarray) -> np.ndarray:
    """Return images `[B,H,W,C]` as JPEG files `[B]`."""
    return np.array([tf.io.encode_jpeg(image).numpy() for image in images], object)
