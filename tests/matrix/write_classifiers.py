"""Write the classifiers of the matrix as files, with the Keras that runs this: write_classifiers.py DIRECTORY"""

import sys
from pathlib import Path

import keras
from conditioned import application
from keras import layers
from matrix.network import CLASSES, SIZE, weights


def small() -> keras.Model:
    """Return the classifier that `network.weights` gives."""
    images = keras.Input(SIZE, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.ReLU(6.0, name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(name="depthwise_norm")(x)
    x = layers.Activation("silu", name="silu")(x)
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="features")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(10, activation="relu", name="hidden")(x)
    model = keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="scores")(x), name="small")
    values = weights()
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(values.pop(f"{layer.name}/{variable.name}"))
    assert not values, values.keys()
    return model


def mobile() -> keras.Model:
    """Return a network of the size and kinds of operations that users bring."""
    model, _ = application("MobileNetV3Small", input_shape=(96, 96, 3), classes=10)
    return model


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    for classifier in (small, mobile):
        classifier().save(directory / f"{classifier.__name__}.keras")
