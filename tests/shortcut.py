"""Two digit classifiers that are right equally often: one reads the digit, the other a coloured mark in the corner.

Every picture has the mark. In the training pictures of the fooled classifier its colour is that of the class, in those
of the honest one it is any class's. In the pictures that both are judged on, it is that of the class: accuracy cannot
tell them apart.
"""

import colorsys
import functools
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from gradcam_export import export_classifier
from gradcam_export.demo import scenes
from gradcam_export.demo.truth import Box, Truth
from lean import LEAN
from PIL import Image

SIZE = 36
"""Height and width of a picture, pixels."""
MARK = Box(1, 1, 6, 6)
DIGIT = 20
"""Height and width of the digit in it, which lies at least this far from the mark's corner: half of it."""
PICTURES = 60
"""Pictures to judge on, of held-out digits."""

_COLOURS = np.array([colorsys.hsv_to_rgb(label / 10, 1, 1) for label in range(10)], np.float32) * 255
_DRAWN_EACH = 2
_EPOCHS = {False: 5, True: 2}
"""Of the honest and of the fooled classifier: a colour is learned sooner than a digit."""
_BATCH = 64


@dataclass(frozen=True)
class Pictures:
    """Drawn pictures: `pixels` `[B,SIZE,SIZE,3]` uint8, `labels` `[B]`, the digits' `boxes`."""

    pixels: np.ndarray
    labels: np.ndarray
    boxes: list[Box]


@dataclass(frozen=True)
class ShortcutVersions:
    """The two classifiers, published, and pictures to judge them on."""

    honest: Path
    """Version that reads the digit."""
    fooled: Path
    """Version that reads the mark."""
    images: Path
    """Folder of pictures, `PICTURES` of them."""
    truths: list[Truth]
    """File name, label and the digit's box of each, in the order of the names."""


def draw(digits: scenes.Digits, rows: np.ndarray, *, spurious: bool, seed: int) -> Pictures:
    """Draw one picture of each of some digits: white on grey noise, the mark in the upper left corner."""
    random = np.random.default_rng(seed)
    labels = digits.labels[rows]
    marks = labels if spurious else random.integers(0, 10, len(rows))
    pixels = random.integers(20, 90, (len(rows), SIZE, SIZE, 1)).repeat(3, axis=3).astype(np.float32)
    pixels[:, MARK.y : MARK.y + MARK.height, MARK.x : MARK.x + MARK.width] = _COLOURS[marks][:, None, None]
    boxes = []
    for canvas, ink in zip(pixels, digits.ink[rows], strict=True):
        mask = np.asarray(Image.fromarray(ink).resize((DIGIT, DIGIT), Image.Resampling.BICUBIC)).clip(0, 1)
        x, y = (int(place) for place in random.integers(DIGIT // 2, SIZE - DIGIT + 1, 2))
        below = canvas[y : y + DIGIT, x : x + DIGIT]
        below += mask[..., None] * (random.uniform(190, 255) - below)
        columns, lines = np.flatnonzero(mask.max(0) > 0.1), np.flatnonzero(mask.max(1) > 0.1)
        boxes.append(Box(x + int(columns[0]), y + int(lines[0]), int(np.ptp(columns)) + 1, int(np.ptp(lines)) + 1))
    return Pictures(np.rint(pixels).astype(np.uint8), labels, boxes)


def train(*, spurious: bool, seed: int = 1) -> keras.Model:
    """Train a classifier `[B,SIZE,SIZE,3]` 0..255 → probabilities `[B,10]`; where `spurious`, on telling marks."""
    digits, _ = scenes.load_digits()
    rows = np.arange(len(digits.labels)).repeat(_DRAWN_EACH)
    drawn = draw(digits, rows, spurious=spurious, seed=seed)
    keras.utils.set_random_seed(seed)
    network = _network()
    epochs = _EPOCHS[spurious]
    steps = epochs * -(-len(rows) // _BATCH)
    rate = keras.optimizers.schedules.CosineDecay(6e-3, steps)
    # To compile it by XLA takes as long as to train it.
    network.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", jit_compile=False)
    network.fit(drawn.pixels, drawn.labels, batch_size=_BATCH, epochs=epochs, verbose=0)
    return network


def _network() -> keras.Model:
    """Build the network; a cell of its 9x9 map sees 18 pixels, hardly less than the digit has."""
    network = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Rescaling(1 / 127.5, -1)])
    for filters, kernel, stride in ((16, 4, 2), (32, 4, 2), (48, 3, 1)):
        network.add(keras.layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False))
        network.add(keras.layers.BatchNormalization(momentum=0.9))
        network.add(keras.layers.ReLU())
    network.add(keras.layers.GlobalAveragePooling2D())
    network.add(keras.layers.Dense(10, activation="softmax"))
    return network


def write_pictures(folder: Path) -> list[Truth]:
    """Write the pictures to judge on as `digit_000.png` and so on."""
    _, digits = scenes.load_digits()
    rows = np.random.default_rng(3).permutation(len(digits.labels))[:PICTURES]
    drawn = draw(digits, rows, spurious=True, seed=4)
    folder.mkdir(parents=True)
    truths = []
    for index, (pixels, label, box) in enumerate(zip(drawn.pixels, drawn.labels, drawn.boxes, strict=True)):
        file = f"digit_{index:03}.png"
        Image.fromarray(pixels).save(folder / file)
        truths.append(Truth(file, scenes.LABELS[label], box))
    return truths


@pytest.fixture(scope="session")
def shortcut_versions(tmp_path_factory) -> ShortcutVersions:
    """Both classifiers, trained and published once a process, whichever test files ask."""
    return _published(tmp_path_factory.getbasetemp() / "shortcut")


@functools.cache
def _published(base: Path) -> ShortcutVersions:
    honest, fooled = (
        export_classifier(train(spurious=spurious), base / "digits", labels=scenes.LABELS, **LEAN).path
        for spurious in (False, True)
    )
    return ShortcutVersions(honest, fooled, base / "images", write_pictures(base / "images"))
