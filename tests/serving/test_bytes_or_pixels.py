"""The same photographs, resized by the client or by the server, on a trained network: the same answers.

Networks of random weights cannot show it: they are deaf to a grey level, or chaotic.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from encoded import LIMITS, encode, exif, segment, with_segments
from gradcam_client import Client, images
from gradcam_export import export_classifier
from gradcam_export.graph.decoding import decode_images
from PIL import Image
from sklearn.datasets import load_digits

SIDE = 32
SHAPE = (SIDE, SIDE, 3)
ORIENTATIONS = tuple(range(1, 9))
EPOCHS, BATCH = 4, 32


def scenes(rng, ink, labels, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, light on dark in any colours, anywhere in the picture: `[B,32,32,3]` uint8, labels `[B]`."""
    rows = rng.integers(0, len(ink), count)
    strokes = np.zeros((count, SIDE, SIDE, 1))
    for stroke, digit, (top, left) in zip(strokes, ink[rows], rng.integers(0, SIDE - 24 + 1, (count, 2)), strict=True):
        stroke[top : top + 24, left : left + 24, 0] = np.kron(digit, np.ones((3, 3)))
    dark, light = rng.integers(20, 110, (count, 1, 1, 3)), rng.integers(130, 250, (count, 1, 1, 3))
    shade = np.linspace(-25, 25, SIDE)[:, None, None] * rng.uniform(-1, 1, (count, 1, 1, 3))
    noise = rng.integers(-8, 9, (count, *SHAPE))
    return (dark + (light - dark) * strokes + shade + noise).clip(0, 255).astype(np.uint8), labels[rows]


@functools.cache
def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Ink `[n,8,8]` 0..1 and labels `[n]`: to train on, and one in eight to look at."""
    bunch = load_digits()
    held_out = np.arange(len(bunch.target)) % 8 == 0
    return tuple((bunch.images[rows] / 16, bunch.target[rows]) for rows in (~held_out, held_out))


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 127.5, -1)])
    for filters, kernel, stride in ((16, 4, 2), (24, 4, 2), (32, 3, 1)):
        model.add(layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.8))
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, activation="softmax"))
    rng = np.random.default_rng(0)
    train, test = digits()
    pixels, labels = scenes(rng, *train, 3000)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, EPOCHS * -(-len(pixels) // BATCH))
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy")
    model.fit(pixels, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    pixels, labels = scenes(rng, *test, 300)
    assert (model.predict(pixels, verbose=0).argmax(1) == labels).mean() > 0.8
    return model


@pytest.fixture(scope="module")
def base_path(network, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "digits"
    export_classifier(network, base, labels=[str(digit) for digit in range(10)])
    return base


def photograph(rng, pixels: np.ndarray, orientation: int) -> bytes:
    """A scene as a camera of that orientation stores it: large, of any proportions, with grain, JPEG or PNG."""
    height, width = (int(size) for size in rng.integers(60, 420, 2))
    large = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    grained = Image.fromarray((large + rng.integers(-10, 11, large.shape)).clip(0, 255).astype(np.uint8))
    # Orientations 6 and 8 undo each other, every other one itself.
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    tag = Image.Exif()
    tag[0x0112] = undo
    stored = images.read(encode(grained, "PNG", exif=tag))
    if rng.random() < 0.25:
        tag[0x0112] = orientation
        return encode(stored, "PNG", exif=tag)
    order = "<>"[rng.integers(2)]
    jpeg = encode(stored, quality=int(rng.integers(70, 96)), progressive=bool(rng.integers(2)))
    return with_segments(jpeg, segment(0xE1, b"Exif\0\0" + exif(orientation, order)))


def photographs(count: int) -> list[bytes]:
    """`count` of them, the orientations by turns."""
    rng = np.random.default_rng(7)
    pixels, _ = scenes(rng, *digits()[1], count)
    return [photograph(rng, scene, ORIENTATIONS[number % 8]) for number, scene in enumerate(pixels)]


@pytest.mark.parametrize("count", [16, pytest.param(300, marks=pytest.mark.large)])
def test_the_server_answers_to_a_file_what_it_answers_to_the_clients_pixels(serve, connect, base_path, count):
    target = serve(base_path, "digits")
    stub = connect(target)
    with Client(target, model="digits", timeout=60) as client:
        for file in photographs(count):
            ours = client.explain(file)
            answer = stub.predict("digits", "explain_bytes", image_bytes=[file], class_index=np.int32([-1]))
            theirs = {name: tf.make_ndarray(tensor)[0] for name, tensor in answer.outputs.items()}
            assert theirs["label"].decode() == ours.label
            np.testing.assert_allclose(theirs["predictions"], ours.predictions, rtol=0, atol=2e-3)
            np.testing.assert_allclose(theirs["heatmap"], ours.heatmap, rtol=0, atol=1e-2)
            assert theirs["heatmap_peak"] == pytest.approx(ours.heatmap_peak, rel=1e-2)


@pytest.mark.large
def test_the_pixels_are_within_a_grey_level():
    """On a few pictures of every kind, this is tested with the contract."""
    resize = tf.function(lambda files: decode_images(files, SHAPE, LIMITS))
    for file in photographs(300):
        theirs = resize(tf.constant([file]))[0].numpy().astype(int)
        assert np.abs(theirs - images.fit(images.read(file), SHAPE)).max() <= 1
