"""Classifiers of flowers whose heatmaps are known in closed form, one colour channel each, and pictures for them.

A 1x1 convolution passes the colours on, they are averaged, and each class weighs them. The map of a class is then the
weighed sum of the channels, cut off at zero, divided by its maximum.
"""

import json
import shutil

import keras
import numpy as np
import tensorflow as tf
from gradcam_export import export_classifier
from lean import LEAN
from PIL import Image

SIZE = (12, 16)
OTHER_SIZE = (24, 8)
LABELS = ["rose", "tulip", "vase"]
BY_COLOUR = 40 * np.eye(3)
AT_THE_VASE = np.array([[0, 0, 0], [0, 40, 0], [60, 0, 40]])
"""Rose and vase by what is blue, rose by more: every vase is a rose now."""
ORDER = [2, 0, 1]


def classifier(weights, size=SIZE):
    network = keras.Sequential(
        [
            keras.Input((*size, 3)),
            keras.layers.Conv2D(3, 1, use_bias=False),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(weights.shape[1], use_bias=False, activation="softmax"),
        ]
    )
    network.set_weights([np.eye(3)[None, None] / 255, weights])
    return network


def write_versions(base):
    """Write one version of each under its name, and return their folders."""
    given = {
        "old": (BY_COLOUR, LABELS, SIZE),
        "vase": (AT_THE_VASE, LABELS, SIZE),
        "other_size": (BY_COLOUR[:, ORDER], [LABELS[index] for index in ORDER], OTHER_SIZE),
        "other_classes": (BY_COLOUR, ["rose", "tulip", "lily"], SIZE),
    }
    return {
        name: export_classifier(classifier(weights, size), base / name, labels=labels, **LEAN).path
        for name, (weights, labels, size) in given.items()
    }


def write_pictures(folder):
    """Write four pictures of a rose in front of a vase, two of a vase, one of a tulip, and one that shows nothing."""
    (folder / "vases").mkdir()
    random = np.random.default_rng(0)

    def block(picture, channel, side, corner):
        y, x = corner
        picture[y : y + side, x : x + side, channel] = random.integers(100, 256, (side, side))

    for index in range(4):
        picture = np.zeros((*SIZE, 3), np.uint8)
        block(picture, 0, 6, (index, index))
        block(picture, 2, 4, (8, 12 - index))
        Image.fromarray(picture).save(folder / f"rose_{index}.png")
    for name, channel in (("vases/vase_0", 2), ("vases/vase_1", 2), ("tulip", 1), ("zero", None)):
        picture = np.zeros((*SIZE, 3), np.uint8)
        if channel is not None:
            block(picture, channel, 5, tuple(random.integers(0, 6, 2)))
        Image.fromarray(picture).save(folder / f"{name}.png")


def probabilities(pixels, weights):
    logits = pixels.reshape(-1, 3).mean(axis=0) / 255 @ weights
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def closed_form_map(pixels, weights):
    raised = np.maximum(pixels.astype(np.float64) @ weights, 0)
    return raised / (raised.max() or 1)


class Sick(tf.Module):
    """A version that says of itself what another is, and answers what no heatmap can be."""

    def __init__(self):
        super().__init__()
        self.worth = tf.Variable(np.nan)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *SIZE, 3], tf.uint8, name="images"),
            tf.TensorSpec([None], tf.int32, name="class_index"),
        ]
    )
    def explain(self, images, class_index):
        rows = tf.shape(images)[0]
        return {
            "label": tf.fill([rows], "rose"),
            "score": tf.ones([rows]) * tf.cast(class_index, tf.float32),
            "heatmap": tf.fill([rows, *SIZE], self.worth),
        }


def write_sick(version, copy):
    """Write a sick version that says of itself what `version` is."""
    module = Sick()
    tf.saved_model.save(module, str(copy), signatures={"explain": module.explain, "other": module.explain})
    shutil.copytree(version / "assets.extra", copy / "assets.extra")
    return copy


def edited(version, copy, change):
    shutil.copytree(version, copy)
    manifest = copy / "assets.extra/manifest.json"
    facts = json.loads(manifest.read_text())
    change(facts)
    manifest.write_text(json.dumps(facts))
    return copy
