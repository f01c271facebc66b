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
    epochs: int = 7
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
        network.add(keras.layers.BatchNormalization(momentum=0.9))
        network.add(keras.layers.ReLU())
    network.add(keras.layers.GlobalAveragePooling2D())
    network.add(keras.layers.Dropout(0.1))
    network.add(keras.layers.Dense(len(scenes.LABELS), activation="softmax"))
    return network


def prepare_classifier(file: Path, digits: scenes.Digits, recipe: Recipe, report_line: Callable[[str], None]) -> None:
    """Train the classifier into `file`, unless it was trained by this recipe already.

    Beside the file lies the digest of what it was made with: the recipe, the code that drew and trained, the
    outcome. Where one of them has changed, the classifier is trained again.
    """
    mark = file.with_suffix(".sha256")
    if file.is_file() and mark.is_file() and mark.read_text("utf-8") == _digest(file, recipe):
        report_line(f"using the classifier trained before: {file}")
        return
    report_line(f"drawing {recipe.scenes} scenes and training on them, about two minutes on two cores")
    network = train_classifier(digits, recipe, report_line)
    network.save(file)
    mark.write_text(_digest(file, recipe), "utf-8")


def train_classifier(digits: scenes.Digits, recipe: Recipe, report_line: Callable[[str], None]) -> Any:
    """Draw the training scenes, train a new network on them and return it.

    Seeds Python's, numpy's and Keras' global generators, so that the same recipe gives the same network.
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

    def report(epoch: int, logs: dict[str, float]) -> None:
        report_line(f"epoch {epoch + 1} of {recipe.epochs}: accuracy {logs['accuracy']:.1%} in training")

    callback = keras.callbacks.LambdaCallback(on_epoch_end=report)
    network.fit(images, labels, batch_size=recipe.batch_size, epochs=recipe.epochs, callbacks=[callback], verbose=0)
    return network


def _digest(file: Path, recipe: Recipe) -> str:
    digest = hashlib.sha256(repr(recipe).encode())
    for part in (__file__, scenes.__file__, file):
        digest.update(Path(part).read_bytes())
    return digest.hexdigest()
