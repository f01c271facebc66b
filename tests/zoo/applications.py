"""Every network of `keras.applications`, as its factory builds it, with its own preprocessing."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from zoo.case import Case, Inputs, photographs


def factories() -> dict[str, Callable[..., keras.Model]]:
    """Return every public function of `keras.applications` and its modules that builds a network, by name."""
    modules = [keras.applications, *filter(inspect.ismodule, vars(keras.applications).values())]
    public = {name: value for module in modules for name, value in vars(module).items() if inspect.isfunction(value)}
    builds = {"weights", "include_top", "input_shape"}
    return {name: value for name, value in public.items() if builds <= inspect.signature(value).parameters.keys()}


def _application(
    name: str, family: str, layer: str, size: tuple[int, int], grid: tuple[int, int], *, large: bool = True, **more: Any
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
        large=large,
        **more,
    )


SIZE = (96, 128)
GRID = (3, 4)


CASES = [
    _application("VGG16", "VGG", "block5_conv3", (48, 64), (3, 4), large=False),
    _application("VGG19", "VGG", "block5_conv4", (48, 64), (3, 4)),
    _application("ResNet50", "ResNet", "conv5_block3_out", SIZE, GRID, large=False),
    _application("MobileNetV2", "MobileNetV2", "out_relu", SIZE, GRID, large=False),
]
