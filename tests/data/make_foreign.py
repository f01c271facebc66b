"""Make `jax.keras` and `torch.keras`: classifiers trained and saved under Keras's other backends.

Run once in an environment that holds Keras and the backend, not TensorFlow:

    KERAS_BACKEND=jax python tests/data/make_foreign.py
    KERAS_BACKEND=torch python tests/data/make_foreign.py

Beside each file lies an `.npz` of inputs and of what that backend itself answers for them. Training has moved the
statistics of the network's normalisation, so that predictions tell whether everything in the file arrived.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

SHAPE = (32, 32, 3)
CLASSES = 4


def classifier() -> keras.Model:
    """Return an untrained network: biased, unbiased and separable convolutions, normalisation, pooling, softmax."""
    images = keras.Input(SHAPE, name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(images)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.SeparableConv2D(12, 3, padding="same", name="separable")(x)
    x = layers.BatchNormalization(name="separable_norm")(x)
    x = layers.Activation("swish", name="features")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="scores")(x), name="foreign")


def quadrants(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return dark noisy images `[count,H,W,C]`, each with one bright stripe pattern of its class, and the classes."""
    images = random.uniform(0, 120, (count, *SHAPE))
    classes = random.integers(0, CLASSES, count)
    for image, kind in zip(images, classes, strict=True):
        row, column = random.integers(0, 16, 2)
        patch = image[row : row + 16, column : column + 16]
        stripes = patch[:: 2 + kind // 2] if kind % 2 else patch[:, :: 2 + kind // 2]
        stripes += 130
    return images.astype(np.float32), classes


def main() -> None:
    """Train, save, and note what this backend answers."""
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    model = classifier()
    model.compile(keras.optimizers.Adam(5e-3), loss="sparse_categorical_crossentropy")
    model.fit(*quadrants(512, random), batch_size=32, epochs=4, verbose=0)
    here, backend = Path(__file__).parent, keras.config.backend()
    model.save(here / f"{backend}.keras")
    images = quadrants(3, random)[0].astype(np.uint8)
    predictions = model.predict(images.astype(np.float32), verbose=0)
    np.savez_compressed(here / f"{backend}.npz", images=images, predictions=predictions)


if __name__ == "__main__":
    main()
