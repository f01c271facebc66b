"""Random-weight networks whose float32 can be trusted.

Default BatchNorm statistics would test folding on zeros, and drawn ones make deep networks explode until float32 and
float64 disagree. So scales and offsets are drawn, and statistics are measured by one training-mode pass.
"""

import sys

import keras
import numpy as np

_BRANCH, _OFFSET = 0.2, 1.0
"""What a steady network's residual branches are scaled by, and what its norms add."""
_SHORTCUT = "_0_bn"
"""What ResNets call the norm of a shortcut's own convolution."""


def conditioned(model: keras.Model, images: np.ndarray, seed: int = 0, *, steady: bool = False) -> keras.Model:
    """Give `model` random scales, offsets and biases, and the statistics it has on `images` (its own input).

    Args:
        model: the network; changed.
        images: for the statistics.
        seed: of all that is drawn.
        steady: rounding stays as small as in trained networks, instead of growing with each block: residual branches
            add little, where training best begins too (Goyal et al., 1706.02677), and most ReLUs are open.
    """
    random = np.random.default_rng(seed)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    weak = {layer.name for layer in norms if steady and _ends_branch(layer)}
    for variable in model.variables:
        *_, layer, kind = variable.path.split("/")
        if kind == "gamma":
            variable.assign(random.uniform(0.8, 1.2, variable.shape) * (_BRANCH if layer in weak else 1))
        elif kind in ("beta", "bias"):
            variable.assign(random.normal(_OFFSET if steady and kind == "beta" else 0, 0.05, variable.shape))
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def _ends_branch(norm: keras.layers.Layer) -> bool:
    """Whether a norm is added to a shortcut, and read by nothing else."""
    added = [isinstance(node.operation, keras.layers.Add) for node in norm._outbound_nodes]
    return bool(added) and all(added) and not norm.name.endswith(_SHORTCUT)


def application(
    name: str, images: np.ndarray | None = None, *, steady: bool = False, **arguments: object
) -> tuple[keras.Model, object]:
    """Return a conditioned network of `keras.applications` and its own `preprocess_input`.

    Args:
        name: of the network.
        images: for the statistics, `[B,H,W,C]`, 0..255; by default noise.
        steady: as in `conditioned`.
        arguments: of the network's factory.
    """
    keras.utils.set_random_seed(0)
    factory = getattr(keras.applications, name)
    model = factory(weights=None, **arguments)
    preprocess = sys.modules[factory.__module__].preprocess_input
    if images is None:
        images = np.random.default_rng(1).uniform(0, 255, (8, *model.input_shape[1:]))
    return conditioned(model, preprocess(images.astype(np.float32)), steady=steady), preprocess
