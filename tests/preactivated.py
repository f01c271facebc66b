"""A residual network whose blocks begin with their activation, as Xception's do."""

import keras
import numpy as np
from classifiers import INPUT_SHAPE, photographs
from conditioned import conditioned
from keras import layers


def preactivated() -> keras.Model:
    """Return it: sums that an activation reads, and a further sum."""
    inputs = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    for _ in range(3):
        y = layers.Conv2D(16, 3, padding="same")(layers.ReLU()(x))
        x = layers.add([layers.BatchNormalization()(y), x])
    outputs = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))
    return conditioned(keras.Model(inputs, outputs), photographs(8).astype(np.float32))
