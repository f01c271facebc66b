"""What is explained in the comparison with other libraries: networks, images, classes, and the maps they ought to give.

Weights are random, as none can be fetched: rounding stays as small in them as in trained ones, the statistics of the
normalisations are measured, and the last layer is fitted to the images in closed form, so that every image is told from
the others by more than rounding.
"""

from pathlib import Path

import numpy as np
from benchmarks.measuring import run_task

LAYERS = {"ResNet50": "conv5_block3_out", "MobileNetV2": "out_relu"}
PREPROCESSING = {"ResNet50": "caffe", "MobileNetV2": "tf"}
SIDE, COUNT, CLASSES = 224, 8, 1000
MARGIN = 4.0
"""How far the score of an image's own class is above those of all others, at least."""


def pictures() -> np.ndarray:
    """Return uint8 images of blocks from coarse to fine, each with colours of its own, `[B,H,W,3]`."""
    random = np.random.default_rng(11)
    made = []
    for block in (112, 56, 32, 28, 16, 14, 8, 7):
        low, high = np.sort(random.integers(0, 256, (2, 3)), axis=0)
        cells = random.integers(low, high + 1, (SIDE // block, SIDE // block, 3))
        made.append(cells.repeat(block, axis=0).repeat(block, axis=1))
    noise = random.integers(-12, 13, (COUNT, SIDE, SIDE, 3))
    return np.clip(np.stack(made) + noise, 0, 255).astype(np.uint8)


def network(name: str, directory: str) -> dict:
    """Write the classifier, the same one ending in its logits, the images, their classes and maps to `directory`."""
    import keras
    from conditioned import application
    from PIL import Image

    folder = Path(directory)
    (folder / "images").mkdir(parents=True)
    pixels = pictures()
    for place, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"images/{place}.png")
    model, preprocess = application(name, pixels, steady=True)
    inputs = preprocess(pixels.astype(np.float32))
    classes = np.arange(COUNT, dtype=np.int32) * (CLASSES // COUNT)
    _tell_apart(model, inputs, classes)
    model.save(folder / "classifier.keras")
    model.layers[-1].activation = keras.activations.linear
    model.save(folder / "logits.keras")
    maps, logits = _formula(name, model, inputs, classes)
    np.savez(folder / "images.npz", pixels=pixels, inputs=inputs, classes=classes, maps=maps)
    return {"right": int(np.count_nonzero(logits.argmax(axis=1) == classes))}


def _tell_apart(model, inputs: np.ndarray, classes: np.ndarray) -> None:
    """Let each image's own class answer to the features that it has more of than the mean of the images.

    By Cauchy and Schwarz no other of these directions, all of one length, answers as much to it. No weight is negative:
    a map that is a difference of nearly equal sums would show rounding, and no trained network's are.
    """
    import keras

    head = model.layers[-1]
    pooled = np.asarray(keras.Model(model.inputs, head.input)(inputs))
    middle = pooled.mean(axis=0)
    own = np.maximum(pooled - middle, 0)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    scores = (pooled - middle) @ own.T
    others = np.where(np.eye(COUNT, dtype=bool), 0, scores)
    own *= MARGIN / (scores.diagonal() - others.max(axis=1)).min()
    kernel, bias = np.zeros(head.kernel.shape, np.float32), np.zeros(CLASSES, np.float32)
    kernel[:, classes], bias[classes] = own.T, -own @ middle
    head.set_weights([kernel, bias])


def _formula(name: str, model, inputs: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Grad-CAM of the network in float64, divided by its maximum `[B,h,w]`, and the logits."""
    import keras
    import tensorflow as tf
    from classifiers import floatx, normalised
    from gradcam_export.checks import oracle

    with floatx("float64"):
        twin = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    twin.set_weights(model.get_weights())
    cut = keras.Model(twin.inputs, [twin.get_layer(LAYERS[name]).output, twin.output])
    with tf.GradientTape() as tape:
        features, logits = cut(tf.constant(inputs, tf.float64))
        scores = tf.reduce_sum(tf.gather(logits, classes, axis=1, batch_dims=1))
    gradients = tape.gradient(scores, features)
    count, height, width, channels = features.shape
    evidence = {
        key: value.numpy().reshape(count, height * width, channels)
        for key, value in (("features", features), ("gradients", gradients))
    }
    maps = oracle.heatmap("gradcam", evidence).reshape(count, height, width)
    return normalised(maps), logits.numpy()


def export(name: str, directory: str, weights: str, precision: str) -> dict:
    """Publish the classifier, verified as any other."""
    from gradcam_export import export_classifier

    published = export_classifier(
        f"{directory}/classifier.keras",
        f"{directory}/{weights}-{precision}",
        weights=weights,
        precision=precision,
        preprocessing=PREPROCESSING[name],
        layer=LAYERS[name],
        images=f"{directory}/images",
        batching="none",  # one caller at a time, as the others
    )
    return {"path": str(published.path)}


if __name__ == "__main__":
    run_task(globals())
