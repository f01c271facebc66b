"""A real gRPC server on a loopback port, without TensorFlow: what it answers is computed by plain numpy."""

from __future__ import annotations

import contextlib
import io
import json
import socket
from concurrent import futures
from dataclasses import dataclass, field

import grpc
import numpy as np
from gradcam_client import codec
from gradcam_client.wire import gradcam_wire_pb2 as wire
from PIL import Image

H, W, BLOCK = 8, 12, 4
TOP_K = 2
GRID = (H // BLOCK, W // BLOCK)
LABELS = ("red", "green", "blue")
FURTHER = {"explain_gradcam": "gradcam", "explain_gradcam_pp": "gradcam++"}
"""Signatures of methods that are not the version's own."""

SIGNATURES = ("serving_default", "explain", "explain_gradcam_pp", "top_k", "predict", "overlay", "describe")


def manifest(**changes) -> dict:
    """What a version with the tests' input and labels says of itself; `changes` replace top-level keys."""
    return {
        "schema": 1,
        "model": {"name": "colours", "source": "numpy", "digest": "sha256:0", "created": "2026-01-01T00:00:00+00:00"},
        "input": {
            "name": "images",
            "shape": [H, W, 3],
            "dtype": "uint8",
            "color_order": "rgb",
            "resize": "bilinear",
            "preprocessing": "none",
        },
        "more_inputs": [],
        "labels": list(LABELS),
        "explanation": {
            "method": "gradcam",
            "layer": "body/last",
            "grid": list(GRID),
            "score": "logit",
            "methods": ["gradcam", "gradcam++"],
            "top_k": TOP_K,
        },
        "overlay": {"colormap": "viridis", "alpha": 0.5},
        "weights": "variables",
        "precision": "float32",
        "batching": {"mode": "none", "max_batch_size": None, "allowed_batch_sizes": [1]},
    } | changes


def classify(images: np.ndarray) -> np.ndarray:
    """[B, H, W, 3] uint8 -> [B, 3] softmax of the channels' means."""
    logits = images.astype(np.float64).mean((1, 2)) / 64
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return (odds / odds.sum(1, keepdims=True)).astype(np.float32)


def channel_maps(images: np.ndarray, indices: np.ndarray, method: str = "gradcam") -> np.ndarray:
    """[B, H, W, 3] uint8 -> [B, h, w], 0..255: each block of each image's channel `indices[b]`.

    Means of the blocks by `gradcam`, their maxima by `gradcam++`: two methods that anyone can tell apart.
    """
    chosen = np.stack([image[:, :, index] for image, index in zip(images, indices, strict=True)]).astype(np.float64)
    blocks = chosen.reshape(len(images), GRID[0], BLOCK, GRID[1], BLOCK)
    return {"gradcam": blocks.mean, "gradcam++": blocks.max}[method]((2, 4))


def best_first(predictions: np.ndarray, count: int) -> np.ndarray:
    """[B, N] -> [B, T] indices of the highest, the lower index first among equals."""
    return np.argsort(-predictions, axis=1, kind="stable")[:, :count].astype(np.int32)


@dataclass
class ColourModel:
    """One version: says which colour an image is, and where that colour is."""

    description: dict = field(default_factory=manifest)
    signatures: tuple[str, ...] = (
        "serving_default",
        "explain",
        "explain_gradcam_pp",
        "top_k",
        "predict",
        "overlay",
        "describe",
    )

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if signature == "describe":
            return {"value": np.array([json.dumps(self.description).encode()], object)}
        if signature == "overlay":
            return self._overlay(inputs["image_bytes"], inputs["class_index"])
        images = inputs["images"]
        height, width, channels = self.description["input"]["shape"]
        if images.shape[1:] != (height, width, channels):
            raise ValueError(f"images of shape {images.shape}, not [B, {height}, {width}, {channels}]")
        predictions = classify(images[:, :H, :W])
        if signature == "top_k":
            ranked = best_first(predictions, self.description["explanation"]["top_k"])
            method = self.description["explanation"]["method"]
            columns = [self._answer(images, predictions, indices, method) for indices in ranked.T]
            return {name: np.stack([column[name] for column in columns], 1) for name in columns[0]} | {
                "predictions": predictions
            }
        asked = inputs.get("class_index", np.full(len(images), -1, np.int32))
        indices = np.where(asked < 0, predictions.argmax(1), asked).astype(np.int32)
        method = FURTHER.get(signature, self.description["explanation"]["method"])
        outputs = self._answer(images, predictions, indices, method) | {"predictions": predictions}
        if signature == "predict":
            del outputs["heatmap"], outputs["heatmap_peak"]
        return outputs

    def _overlay(self, files: np.ndarray, indices: np.ndarray) -> dict[str, np.ndarray]:
        """[B] files -> [B] JPEGs in the pictures' own size, of the explained class's channel in grey, -1 of all."""
        drawn = []
        for file, index in zip(files, indices, strict=True):
            if not file.startswith((b"\xff\xd8\xff", b"\x89PNG")):
                raise ValueError("a file is neither JPEG nor PNG")
            with Image.open(io.BytesIO(file)) as picture:
                grey = picture.convert("L") if index < 0 else picture.convert("RGB").getchannel(int(index))
            buffer = io.BytesIO()
            grey.save(buffer, "JPEG", quality=95)
            drawn.append(buffer.getvalue())
        return {"overlay_bytes": np.array(drawn, object)}

    def _answer(
        self, images: np.ndarray, predictions: np.ndarray, indices: np.ndarray, method: str
    ) -> dict[str, np.ndarray]:
        """What one class for each image is answered with."""
        labels = [self.description["labels"][index].encode() for index in indices]
        maps = channel_maps(images[:, :H, :W], indices, method)
        peaks = maps.max((1, 2))
        scaled = np.divide(maps, peaks[:, None, None], out=np.zeros_like(maps), where=peaks[:, None, None] > 0)
        return {
            "class_index": indices,
            "label": np.array(labels, object),
            "score": predictions[np.arange(len(images)), indices],
            "heatmap": scaled.astype(np.float32),
            "heatmap_peak": peaks.astype(np.float32),
        }


class Server:
    """Serves `ColourModel`s by version under the name `colours`, with TensorFlow Serving's paths and status codes."""

    def __init__(self, address: str = "127.0.0.1:0", credentials=None, options=()) -> None:
        self.versions: dict[int, ColourModel] = {1: ColourModel()}
        self.requests: list[wire.PredictRequest] = []
        self.tamper = lambda response: response
        """Changes an answer on its way out."""
        self.refuse = None
        """A (status code, details) that every Predict is refused with."""
        self.delay = None
        """An event that every Predict waits for."""
        self.metadata: list[dict[str, str]] = []
        """What came with each Predict."""
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0), *options))
        for service, method, handler, request, response in (
            ("PredictionService", "Predict", self._predict, wire.PredictRequest, wire.PredictResponse),
            ("ModelService", "GetModelStatus", self._status, wire.GetModelStatusRequest, wire.GetModelStatusResponse),
        ):
            rpc = grpc.unary_unary_rpc_method_handler(handler, request.FromString, response.SerializeToString)
            generic = grpc.method_handlers_generic_handler(f"tensorflow.serving.{service}", {method: rpc})
            self._server.add_generic_rpc_handlers((generic,))
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        self.target = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
        self._server.start()

    def signatures_asked(self) -> list[str]:
        return [request.model_spec.signature_name for request in self.requests]

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _predict(self, request, context):
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.delay:
            self.delay.wait(20)
        if self.refuse:
            context.abort(*self.refuse)
        version, model = self._find(request.model_spec, context)
        signature = request.model_spec.signature_name
        if signature not in model.signatures:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.')
        inputs = {name: codec.decode(tensor) for name, tensor in request.inputs.items()}
        try:
            outputs = model.run(signature, inputs)
        except (ValueError, OSError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = wire.PredictResponse(outputs={name: codec.encode(outputs[name]) for name in request.output_filter})
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        return self.tamper(response)

    def _status(self, request, context):
        self._find(request.model_spec, context)
        states = wire.ModelVersionStatus
        known = [states(version=version, state=states.AVAILABLE) for version in self.versions]
        broken = states(version=0, state=states.END, status=wire.StatusProto(error_code=3, error_message="no pb file"))
        return wire.GetModelStatusResponse(model_version_status=[broken, *known])

    def _find(self, spec, context):
        version = spec.version.value if spec.HasField("version") else max(self.versions)
        if spec.name != "colours" or version not in self.versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {spec.name} {version}")
        return version, self.versions[version]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on yet."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]
