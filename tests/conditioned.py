"""Random-weight networks whose float32 can be trusted.

Default BatchNorm statistics would test folding on zeros, and drawn ones make deep networks explode until float32 and
float64 disagree. So scales and offsets are drawn, and statistics are measured by one training-mode pass.
"""

import sys

import keras
import numpy as np


def conditioned(model: keras.Model, images: np.ndarray, seed: int = 0) -> keras.Model:
    """Give `model` random scales, offsets and biases, and the statistics it has on `images` (its own input)."""
    random = np.random.default_rng(seed)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for variable in model.variables:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind == "gamma":
            variable.assign(random.uniform(0.8, 1.2, variable.shape))
        elif kind in ("beta", "bias"):
            variable.assign(random.normal(0, 0.05, variable.shape))
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def application(name: str, **arguments: object) -> tuple[keras.Model, object]:
    """Return a conditioned network of `keras.applications` and its own `preprocess_input`."""
    keras.utils.set_random_seed(0)
    factory = getattr(keras.applications, name)
    model = factory(weights=None, **arguments)
    preprocess = sys.modules[factory.__module__].preprocess_input
    images = np.random.default_rng(1).uniform(0, 255, (8, *model.input_shape[1:])).astype(np.float32)
    return conditioned(model, preprocess(images)), preprocess
