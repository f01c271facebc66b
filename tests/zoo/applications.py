"""Every network of `keras.applications`, as its factory builds it, with its own preprocessing."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from conditioned import conditioned

from zoo.case import Case, Inputs, photographs

# Sizes of a few positions, no two sides alike; a VGG halves four times before its last convolution, the others five.
SIZE, VGG_SIZE, INCEPTION_SIZE = (96, 128), (48, 64), (128, 160)
GRID, INCEPTION_GRID = (3, 4), (2, 3)


def factories() -> dict[str, Callable[..., keras.Model]]:
    """Return every public function of `keras.applications` and its modules that builds a network, by name."""
    modules = [keras.applications, *filter(inspect.ismodule, vars(keras.applications).values())]
    public = {name: value for module in modules for name, value in vars(module).items() if inspect.isfunction(value)}
    builds = {"weights", "include_top", "input_shape"}
    return {name: value for name, value in public.items() if builds <= inspect.signature(value).parameters.keys()}


def calmed(model: keras.Model, x: Any, spread: float) -> keras.Model:
    """Give `model` conditioned weights whose rounding errors do not grow from layer to layer.

    Normalisation by exactly the variance of random features magnifies what differs between images, rounding errors
    too, layer by layer (Yang et al., arXiv 1902.08129): images unlike those measured saturate the softmax of a deep
    network. A variance `spread` times the measured one keeps it level; much more, and all images look the same.
    """
    conditioned(model, x)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(spread * layer.moving_variance)
    return model


def _application(
    name: str,
    family: str,
    layer: str,
    size: tuple[int, int] = SIZE,
    grid: tuple[int, int] = GRID,
    *,
    large: bool = True,
    spread: float = 1.2,
    **more: Any,
) -> Case:
    factory = factories()[name]
    preprocess = sys.modules[factory.__module__].preprocess_input

    def to_model_input(inputs: Inputs) -> Any:
        return preprocess(inputs["images"].astype(keras.config.floatx()))

    return Case(
        family=family,
        name=name,
        build=partial(factory, weights=None, input_shape=(*size, 3)),
        layer=layer,
        grid=grid,
        inputs=photographs(*size, 3),
        to_model_input=to_model_input,
        options={"preprocessing": preprocess},
        condition=partial(calmed, spread=spread),
        large=large,
        **more,
    )


def last_sum(twin: keras.Model, operation: str) -> Any:
    """Return the last addition written with an operator, which no layer stands for."""
    del operation
    return [op for op in twin.operations if isinstance(op, keras.src.ops.numpy.Add)][-1]


_VGG = [
    _application("VGG16", "VGG", "block5_conv3", VGG_SIZE),
    _application("VGG19", "VGG", "block5_conv4", VGG_SIZE),
]
_RESNET = [_application(f"ResNet{depth}", "ResNet", "conv5_block3_out", spread=1.5) for depth in (50, 101, 152)]
_RESNET_V2 = [_application(f"ResNet{depth}V2", "ResNetV2", "post_relu") for depth in (50, 101, 152)]
_INCEPTION = [
    _application("InceptionV3", "InceptionV3", "mixed10", INCEPTION_SIZE, INCEPTION_GRID),
    _application("InceptionResNetV2", "InceptionResNetV2", "conv_7b_ac", INCEPTION_SIZE, INCEPTION_GRID),
    _application("Xception", "Xception", "block14_sepconv2_act"),
]
_MOBILENET = [
    _application("MobileNet", "MobileNet", "conv_pw_13_relu"),
    _application("MobileNetV2", "MobileNetV2", "out_relu", large=False),
    _application("MobileNetV3Small", "MobileNetV3", "activation_17"),
    _application("MobileNetV3Large", "MobileNetV3", "activation_19"),
]
_DENSENET = [_application(f"DenseNet{depth}", "DenseNet", "relu") for depth in (121, 169, 201)]
_NASNET = [
    _application("NASNetMobile", "NASNet", "activation_187"),
    _application("NASNetLarge", "NASNet", "activation_259"),
]
_EFFICIENTNET = [
    _application(f"EfficientNetB{number}", "EfficientNet", "top_activation", spread=1.1) for number in range(8)
]
_EFFICIENTNET_V2 = [
    _application(f"EfficientNetV2{size}", "EfficientNetV2", "top_activation", spread=1.1)
    for size in ("B0", "B1", "B2", "B3", "S", "M", "L")
]
_CONVNEXT = [
    _application(
        f"ConvNeXt{size}",
        "ConvNeXt",
        f"convnext_{size.lower()}_1/Add_{additions}",
        catch=last_sum,
    )
    for size, additions in (("Tiny", 17), ("Small", 35), ("Base", 35), ("Large", 35), ("XLarge", 35))
]

CASES = [
    *_VGG,
    *_RESNET,
    *_RESNET_V2,
    *_INCEPTION,
    *_MOBILENET,
    *_DENSENET,
    *_NASNET,
    *_EFFICIENTNET,
    *_EFFICIENTNET_V2,
    *_CONVNEXT,
]
