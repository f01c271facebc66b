"""Small residual networks."""

import keras
import numpy as np
from classifiers import INPUT_SHAPE, photographs
from conditioned import conditioned
from keras import layers


def preactivated() -> keras.Model:
    """Return one whose blocks begin with their activation, as Xception's do: it reads a sum that is read again."""

    def block(x):
        y = layers.Conv2D(16, 3, padding="same")(layers.ReLU()(x))
        return layers.add([layers.BatchNormalization()(y), x])

    return _network(block, layers.ReLU())


def postactivated() -> keras.Model:
    """Return one whose blocks end with their activation, as ResNet50's do: nothing else reads their sum.

    Without padding, how large a convolution's answer is depends on its kernel.
    """

    def block(x):
        y = layers.Conv2D(16, 1)(x)
        return layers.ReLU()(layers.add([layers.BatchNormalization()(y), x]))

    return _network(block, layers.Identity())


def _network(block, last) -> keras.Model:
    inputs = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    for _ in range(3):
        x = block(x)
    outputs = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(last(x)))
    return conditioned(keras.Model(inputs, outputs), photographs(8).astype(np.float32))
