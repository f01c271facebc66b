"""Wrong versions, each by one fault: the classifier that they are made of, and what a fault is."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
from conditioned import conditioned
from gradcam_export import export_classifier
from keras import layers
from lean import LEAN

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
