"""Listen to what each layer returns, while a model is traced."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import keras


@dataclass(frozen=True)
class LayerOutput:
    """One tensor that one layer returned."""

    path: str
    """Names of the layer and of those that called it, outermost first: `outer/inner`."""
    tensor: tf.Tensor
    data_format: str | None
    """`channels_first` or `channels_last`, of the layer itself or of the last one before it that says."""


@contextmanager
def tap(model: keras.Model) -> Iterator[list[LayerOutput]]:
    """Record the output of every layer of `model`, in the order in which the layers return.

    A nested model returns after its last layer, so the first record of a tensor is the innermost layer.
    The model is left as it was found.
    """
    outputs: list[LayerOutput] = []
    running: list[str] = []
    data_format: str | None = None
    layers = {id(layer): layer for layer in model._flatten_layers(include_self=False)}.values()

    def listening(layer: Any) -> Callable[..., Any]:
        call = layer.call

        @wraps(call)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal data_format
            running.append(layer.name)
            try:
                result = call(*args, **kwargs)
                data_format = getattr(layer, "data_format", None) or data_format
                if tf.is_tensor(result):
                    outputs.append(LayerOutput("/".join(running), result, data_format))
            finally:
                running.pop()
            return result

        return wrapper

    patched = {id(layer): vars(layer)["call"] for layer in layers if "call" in vars(layer)}
    # Plain assignment would be tracked by Keras and leave `call` in the layer's __dict__ (3.15).
    for layer in layers:
        object.__setattr__(layer, "call", listening(layer))
    try:
        yield outputs
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")
            if id(layer) in patched:
                object.__setattr__(layer, "call", patched[id(layer)])
