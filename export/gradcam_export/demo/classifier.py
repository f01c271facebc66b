"""A small convolutional classifier of digit scenes, trained here and kept for the next run."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from gradcam_export.demo import scenes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the classifier is trained.

    Attributes:
        scenes: how many scenes to draw for training.
        epochs: how often to show them.
        batch_size: scenes a step.
        seed: of the scenes, the initial weights and the order of the scenes.
    """

    scenes: int = 6000
    epochs: int = 8
    batch_size: int = 32
    seed: int = 1


def build_classifier() -> Any:
    """Build the untrained network: images `[B, 128, 128, 3]` 0..255 to probabilities `[B, 10]`.

    Its last feature map is 16x16, and one of its cells sees 54 pixels: as much as the largest digit, so that the
    evidence for a digit lies on the digit.
    """
    network = keras.Sequential([keras.Input((scenes.SIZE, scenes.SIZE, 3)), keras.layers.Rescaling(1 / 127.5, -1)])
    # An even kernel at stride 2: with 3x3, "same" pads only below and to the right, and each such layer moves
    # the map against the image (Keras 3.15: 3.5 pixels after three), which puts heatmaps beside small objects.
    for filters, kernel, stride in ((16, 4, 2), (24, 4, 2), (48, 4, 2), (64, 3, 1), (64, 3, 1)):
        network.add(keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False))
        network.add(keras.layers.BatchNormalization())
        network.add(keras.layers.ReLU())
    network.add(keras.layers.GlobalAveragePooling2D())
    network.add(keras.layers.Dropout(0.1))
    network.add(keras.layers.Dense(len(scenes.LABELS), activation="softmax"))
    return network


def train_classifier(
    digits: scenes.Digits, recipe: Recipe, on_epoch: Callable[[int, float], None] = lambda epoch, accuracy: None
) -> Any:
    """Draw the training scenes, train a new network on them and return it.

    Seeds Python's, numpy's and Keras' global generators, so that the same recipe gives the same network.

    Args:
        digits: the digits to train on, and to cut fragments from.
        recipe: how to train.
        on_epoch: called after each epoch with its number, from 1, and the accuracy on the training scenes, 0..1.
    """
    drawn = scenes.draw_scenes(digits, recipe.scenes, recipe.seed)
    images, labels = np.stack([scene.pixels for scene in drawn]), np.array([scene.label for scene in drawn])
    keras.utils.set_random_seed(recipe.seed)
    network = build_classifier()
    steps = recipe.epochs * -(-recipe.scenes // recipe.batch_size)
    network.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    report = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: on_epoch(epoch + 1, logs["accuracy"]))
    network.fit(
        images, labels, batch_size=recipe.batch_size, epochs=recipe.epochs, callbacks=[report], verbose=0
    )
    return network
