"""Wrong versions, each by one fault: what the gate has to refuse, and what it has to say of it."""

import dataclasses
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf
from conditioned import conditioned
from gradcam_export import export_classifier, module
from gradcam_export.graph import core, explain, images
from gradcam_export.graph.logits import Head
from gradcam_export.manifest import Manifest
from gradcam_export.methods.gradcam import GradCam
from gradcam_export.savedmodel import warmup
from gradcam_export.savedmodel.write import EXTRA_ASSETS, MANIFEST_FILE, write_description
from keras import layers
from lean import LEAN
from tensorflow.core.protobuf import saved_model_pb2

EXPORT = importlib.import_module("gradcam_export.export")
SIZE, GRID, CLASSES = 16, 8, 5
OPTIONS = {"preprocessing": "unit", "top_k": 2}


def network() -> keras.Model:
    """Return a classifier so small that a version of it is written in a second."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(pixels)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(12, 3, padding="same", name="convolution")(x)
    x = layers.ReLU(name="features")(layers.BatchNormalization(name="norm")(x))
    x = layers.Dropout(0.5, name="dropout")(layers.GlobalAveragePooling2D(name="pool")(x))
    model = keras.Model(pixels, layers.Dense(CLASSES, activation="softmax", name="scores")(x))
    return conditioned(model, np.random.default_rng(0).uniform(0, 1, (16, SIZE, SIZE, 3)).astype(np.float32))


def undecided(pixels: np.ndarray) -> keras.Model:
    """Return the same, where bfloat16 cannot tell the best two classes of many of the images from each other.

    They differ by what the features vary least in, and by nothing for the image in the middle.
    """
    model = network()
    features = keras.Model(model.input, model.get_layer("pool").output)(pixels.astype(np.float32) / 255).numpy()
    least = np.linalg.svd(features)[2][-1]
    kernel, bias = model.get_layer("scores").get_weights()
    kernel[:, 1] = kernel[:, 0] + 10 * least
    bias[0] = bias.max() + 5
    bias[1] = bias[0] - np.median(features @ (10 * least))
    model.get_layer("scores").set_weights([kernel, bias])
    return model


def published(model: keras.Model, directory: Path, **options: Any) -> Path:
    """Publish a version that nobody verifies."""
    with mock.patch.object(EXPORT, "_verified", lambda _, manifest, *__: manifest):
        return export_classifier(model, directory / "model", **{**LEAN, **OPTIONS, **options}).path


@dataclass(frozen=True)
class Fault:
    """One fault of an exporter, or of what lies on a disk."""

    name: str
    message: str
    """Regular expression: what the gate must say."""
    road: Callable[[keras.Model], Any] | None = None
    """Return a context in which the exporter has the fault."""
    edit: Callable[[Path], None] | None = None
    """Spoils a version that was good."""
    merged: bool = False
    """Spoils one that merges requests."""
    large: bool = False
    """Left to `make test-all`."""


def patched(owner: Any, name: str, wrong: Callable[..., Any]) -> Callable[[keras.Model], Any]:
    """Return what replaces `owner.name` by `wrong(right, ...)`."""
    right = getattr(owner, name)

    def replaced(*arguments: Any, **keywords: Any) -> Any:
        return wrong(right, *arguments, **keywords)

    return lambda _: mock.patch.object(owner, name, replaced)


def normalised_as(wrong: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]) -> Any:
    """Return what finishes maps by `wrong(signed, raised, peak)`, `[B,P]`, `[B,P]` and `[B,1]`."""

    def normalise(signed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        raised = tf.nn.relu(signed)
        return wrong(signed, raised, tf.reduce_max(raised, axis=1, keepdims=True))

    @contextmanager
    def context(model: keras.Model) -> Iterator[None]:
        with mock.patch.object(explain, "normalise", normalise), mock.patch.object(core, "normalise", normalise):
            yield

    return context


def divided(values: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(values, by)


def moved(change: Callable[[tf.Tensor], tf.Tensor]) -> Any:
    """Return what moves the positions of each heatmap `[B,h,w]`."""

    def wrong(signed: tf.Tensor, raised: tf.Tensor, peak: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps = change(tf.reshape(divided(raised, peak), [-1, GRID, GRID]))
        return tf.reshape(maps, [-1, GRID * GRID]), peak[:, 0]

    return normalised_as(wrong)


def preprocessed_as(function: Callable[[Any], Any]) -> Any:
    return lambda _: mock.patch.dict(images.MODES, {"unit": function})


def called_as(kind: type, call: Callable[..., Any]) -> Any:
    """Return what replaces `call` of a kind of layer by `call(right, layer, x)`."""
    right = kind.call
    return lambda _: mock.patch.object(kind, "call", lambda self, x, *_, **__: call(right, self, x))


def with_weights(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Any:
    """Return what changes the folded weights."""

    def wrong(right: Any, *arguments: Any) -> Any:
        folded = right(*arguments)
        return dataclasses.replace(folded, weights={**folded.weights, **change(dict(folded.weights))})

    return patched(EXPORT, "fold", wrong)


def one_value_perturbed(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name, value = max(weights.items(), key=lambda weight: weight[1].size)
    perturbed = value.copy()
    perturbed.flat[np.abs(value).argmax()] *= 1.01
    return {name: perturbed}


def rounded_to_bfloat16(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value.astype(ml_dtypes.bfloat16).astype(np.float32) for name, value in weights.items()}


@contextmanager
def of_epsilon(model: keras.Model, epsilon: float = 1e-5) -> Iterator[None]:
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    before = [norm.epsilon for norm in norms]
    for norm in norms:
        norm.epsilon = epsilon
    yield
    for norm, value in zip(norms, before, strict=True):
        norm.epsilon = value


@contextmanager
def with_temperature(model: keras.Model) -> Iterator[None]:
    scores = model.get_layer("scores")
    right, scores.activation = scores.activation, lambda logits: keras.ops.softmax(logits / 2)
    yield
    scores.activation = right


def one_layer_too_early(right: Any, forward: Any, layer: str | None) -> Any:
    """Take the layer before, under the name of the right one."""
    target = right(forward, "norm")
    return dataclasses.replace(target, feature_map=dataclasses.replace(target.feature_map, name="features"))


class SwappedLabels(module.ExplainableClassifier):
    def __init__(self, *arguments: Any, labels: Any, **keywords: Any) -> None:
        super().__init__(*arguments, labels=[labels[0], labels[2], labels[1], *labels[3:]], **keywords)


def averaged(right: Any, self: GradCam, evidence: Any) -> tf.Tensor:
    return tf.einsum("bpk,k->bp", evidence.features, tf.reduce_mean(evidence.gradients, axis=[0, 1]))


def _manifest(version: Path) -> Path:
    return version / EXTRA_ASSETS / MANIFEST_FILE


def manifest_with(**sections: Mapping[str, Any]) -> Callable[[Path], None]:
    """Return what changes facts of the manifest, wherever it is written."""

    def edit(version: Path) -> None:
        facts = json.loads(_manifest(version).read_text())
        for section, changes in sections.items():
            facts[section] = {**facts[section], **changes} if isinstance(changes, Mapping) else changes
        _manifest(version).write_text(json.dumps(facts))
        facts.pop("schema")
        write_description(Manifest(**facts), version / "assets" / "describe.tsv")

    return edit


def in_graph(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Return what edits the written `MetaGraphDef`."""

    def edit(version: Path) -> None:
        file = version / "saved_model.pb"
        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        change(saved.meta_graphs[0])
        file.write_bytes(saved.SerializeToString())

    return edit


def unknown_operation(meta_graph: Any) -> None:
    function = next(one for one in meta_graph.graph_def.library.function if any(n.op == "Relu" for n in one.node_def))
    next(node for node in function.node_def if node.op == "Relu").op = "FusedReluOfTheFuture"


def shared_queue(meta_graph: Any) -> None:
    for function in meta_graph.graph_def.library.function:
        for node in function.node_def:
            for key in ("shared_name", "batching_queue"):
                name = node.attr[key].s if key in node.attr else b""
                if name.startswith(b"top_k-"):
                    node.attr[key].s = name.replace(b"top_k-", b"explain-")


def half_of(file: str) -> Callable[[Path], None]:
    def edit(version: Path) -> None:
        content = (version / file).read_bytes()
        (version / file).write_bytes(content[: len(content) // 2])

    return edit


def warm_up_of(**changes: Any) -> Callable[[Path], None]:
    """Return what writes the warm-up of a version with another manifest."""

    def edit(version: Path) -> None:
        facts = json.loads(_manifest(version).read_text())
        facts.pop("schema")
        for section, values in changes.items():
            facts[section] = {**facts[section], **values}
        warmup.write_warmup(version / EXTRA_ASSETS / warmup.WARMUP_FILE, Manifest(**facts))

    return edit


def heatmap_of_row_0(right: Any, forward: Any, choice: Any, classes: tf.Tensor) -> Any:
    return right(forward, choice, tf.fill(tf.shape(classes), classes[0]))


NAN, PEAK_AFTER = "NaN on a zero map", "peak after normalisation"

ROAD = (
    Fault(
        "class index off by one",
        "class index off by one",
        patched(explain, "resolved_class", lambda right, head, index: (right(head, index) + 1) % head.classes),
    ),
    Fault(
        "preprocessing of another mode",
        r"predictions.*the preprocessing is 'tf' instead of 'unit'",
        preprocessed_as(images.MODES["tf"]),
    ),
    Fault(
        "RGB and BGR swapped",
        r"predictions.*red and blue are swapped \(BGR for RGB\)",
        preprocessed_as(lambda pixels: pixels[..., ::-1] / 255.0),
    ),
    Fault(
        "BatchNorm in training mode",
        r"predictions.*batch normalisation is in training mode.*rows depend on each other",
        called_as(layers.BatchNormalization, lambda right, layer, x: right(layer, x, training=True)),
    ),
    Fault(
        "dropout active",
        "two calls differ, as where dropout or noise is active",
        called_as(layers.Dropout, lambda _, layer, x: tf.nn.dropout(x, layer.rate)),
    ),
    Fault(
        "heatmap of the argmax of row 0",
        "heatmap of gradcam.*it explains the class of row 0 in all rows",
        patched(explain, "_heatmaps", heatmap_of_row_0),
    ),
    Fault(
        "gradient averaged over the batch",
        "heatmap of gradcam.*the gradient is averaged over the batch",
        patched(GradCam, "combine", averaged),
    ),
    Fault(
        "normalised by the batch maximum",
        "heatmap of gradcam.*it is normalised by the maximum of the batch.*rows depend on each other",
        normalised_as(lambda _, raised, peak: (raised / tf.reduce_max(raised), peak[:, 0])),
    ),
    Fault(
        "softmax gradient instead of logit",
        r"heatmap of gradcam.*it explains the probability \(the gradient goes through the softmax\)",
        patched(explain, "find_head", lambda right, predictions, _: right(predictions, "probability")),
    ),
    Fault(
        "missing ReLU",
        "heatmap of gradcam.*ReLU is missing.*heatmap spans -",
        normalised_as(
            lambda signed, _, peak: (
                divided(signed, tf.reduce_max(tf.abs(signed), axis=1, keepdims=True)),
                peak[:, 0],
            )
        ),
    ),
    Fault(
        "transposed map",
        "heatmap of gradcam.*it is transposed",
        moved(lambda maps: tf.transpose(maps, [0, 2, 1])),
    ),
    Fault(
        "one layer too early",
        "heatmap of gradcam.*it is the map of layer 'norm'",
        patched(explain, "choose", one_layer_too_early),
    ),
    Fault(
        NAN,
        "a heatmap is NaN where nothing raised the score",
        normalised_as(lambda _, raised, peak: (raised / peak, peak[:, 0])),
    ),
    Fault(
        "eps normalisation",
        r"instead of 1: it is not divided by its own maximum but by that plus eps = 1\.?\d*e-06",
        normalised_as(lambda _, raised, peak: (raised / (peak + 1e-6), peak[:, 0])),
    ),
    Fault(
        "one weight perturbed by 1 %",
        r"predictions.*weight '.*convolution.*' is not the model's: 1 of \d+ values differ by up to 0\.01 ",
        with_weights(one_value_perturbed),
    ),
    Fault(
        "folded with the wrong epsilon",
        "predictions.*batch normalisation is folded with epsilon 1e-05",
        of_epsilon,
    ),
    Fault(
        "weights rounded to bfloat16",
        r"predictions.*2 of 2 weights are rounded to bfloat16",
        with_weights(rounded_to_bfloat16),
        large=True,
    ),
    Fault(
        "temperature", r"predictions.*the logits are multiplied by 0\.5 \(a temperature\)", with_temperature, large=True
    ),
    Fault(
        "top_k unsorted",
        "top_k is not sorted by falling score",
        patched(Head, "best_classes", lambda right, head, count: right(head, count)[:, ::-1]),
    ),
    Fault(
        PEAK_AFTER,
        "heatmap_peak of gradcam",
        normalised_as(lambda _, raised, peak: (divided(raised, peak), tf.reduce_max(divided(raised, peak), axis=1))),
    ),
    Fault(
        "sign turned",
        "heatmap of gradcam.*its sign is turned: it shows what speaks against the class",
        patched(GradCam, "combine", lambda right, *arguments: -right(*arguments)),
        large=True,
    ),
    Fault(
        "labels swapped",
        "the graph holds other labels than the manifest: 'class_1' and 'class_2' are swapped",
        lambda _: mock.patch.object(EXPORT, "ExplainableClassifier", SwappedLabels),
    ),
    Fault(
        "labels one short",
        "4 labels for 5 classes: one short",
        patched(EXPORT, "labels_of", lambda right, *arguments: right(*arguments)[:-1]),
    ),
)
"""Faults of an exporter."""

EDITS = (
    Fault(
        "missing variables file",
        r"variables/variables\.data-00000-of-00001 is missing",
        edit=lambda version: (version / "variables/variables.data-00000-of-00001").unlink(),
    ),
    Fault("truncated variables", "does not run in a Session", edit=half_of("variables/variables.data-00000-of-00001")),
    Fault("truncated saved_model.pb", r"saved_model\.pb is cut off or damaged", edit=half_of("saved_model.pb")),
    Fault(
        "stale warm-up of another input",
        "the warm-up request of '.*' fails",
        edit=warm_up_of(input={"shape": [32, 32, 3]}),
    ),
    Fault(
        "stale warm-up of other batches",
        "the warm-up is stale: it has batches of 1, 3, but the allowed sizes are 1$",
        edit=warm_up_of(batching={"allowed_batch_sizes": [1, 3]}),
    ),
    Fault(
        "stale warm-up of another method",
        "the warm-up asks for explain_layercam, which the version has not",
        edit=warm_up_of(
            explanation={"methods": ["gradcam", "layercam"]}, batching={"methods": ["gradcam", "layercam"]}
        ),
    ),
    Fault(
        "damaged warm-up",
        "the warm-up file cannot be read",
        edit=half_of(f"{EXTRA_ASSETS}/{warmup.WARMUP_FILE}"),
    ),
    Fault(
        "manifest of another architecture",
        r"input 'images' is of shape \[B,16,16,3\] instead of \[B,32,32,3\].*output 'heatmap' is of shape "
        r"\[B,8,8\] instead of \[B,4,4\]",
        edit=manifest_with(input={"shape": [32, 32, 3]}, explanation={"grid": [4, 4]}),
    ),
    Fault(
        "manifest of other weights",
        "the manifest is of another model: it names the weights sha256:0000",
        edit=manifest_with(model={"digest": "sha256:" + 64 * "0"}),
    ),
    Fault(
        "manifest of other operations",
        r"the manifest names operations that the graph has not \(Selu\)",
        edit=manifest_with(ops=["Relu", "Selu"]),
    ),
    Fault(
        "manifest of a version that does not batch",
        "the manifest says batching 'none', but the graph merges requests",
        edit=manifest_with(batching={"mode": "none"}),
        merged=True,
    ),
    Fault(
        "an operation that the server lacks",
        r"FusedReluOfTheFuture is no operation that TensorFlow Serving 2\.20 can run",
        edit=in_graph(unknown_operation),
    ),
    Fault(
        "shared batching queue",
        r"signatures explain and top_k share the batching queue 'explain-\w+-0': callers of one would get the answers",
        edit=in_graph(shared_queue),
        merged=True,
    ),
    Fault(
        "labels of describe in another order",
        r"describe answers other labels than assets/labels\.txt holds",
        edit=lambda version: (version / "assets/labels.txt").write_text(
            "".join(f"class_{index}\n" for index in (0, 2, 1, 3, 4))
        ),
    ),
    Fault(
        "missing signature",
        "signature 'predict' is missing",
        edit=in_graph(lambda graph: graph.signature_def.pop("predict")),
    ),
    Fault(
        "empty asset",
        r"assets/describe\.tsv is empty",
        edit=lambda version: (version / "assets/describe.tsv").write_bytes(b""),
    ),
)
"""Faults of what lies on a disk: a good version, spoilt."""
