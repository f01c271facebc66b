"""uint8 images in the graph: what happens to a pixel before the classifier sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tensorflow as tf

from gradcam_export.errors import OptionError
from gradcam_export.keras_model.load import import_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcam_export.options import Preprocess

# Channel means and deviations of ImageNet's training images, RGB, on a 0..1 scale, as `torch` models expect them;
# `caffe` subtracts the same means on a 0..255 scale, as that framework published them.
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_CAFFE_MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)

MODES: Final[dict[str, Callable[[Any], Any]]] = {
    "none": lambda images: images,
    "tf": lambda images: images / 127.5 - 1.0,
    "unit": lambda images: images / 255.0,
    "torch": lambda images: (images / 255.0 - _TORCH_MEAN) / _TORCH_DEVIATION,
    "caffe": lambda images: images[..., ::-1] - _CAFFE_MEAN_BGR,
}
"""Functions of float32 images `[B,H,W,C]`, 0..255; `torch` and `caffe` are for RGB alone."""

_RGB_MODES = ("torch", "caffe")


@dataclass(frozen=True)
class Preprocessing:
    """What turns pixels 0..255 into what the classifier was trained on."""

    name: str
    function: Callable[[Any], Any]

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Turn uint8 images `[B,H,W,C]` into the classifier's float32 input of the same shape."""
        return tf.convert_to_tensor(self.function(tf.cast(images, tf.float32)))


def resolve_preprocessing(
    asked: str | Preprocess | None, prescribed: Preprocess | None, channels: int
) -> Preprocessing:
    """Return the preprocessing that was asked for, else what the model's factory prescribes, else none.

    Args:
        asked: a mode, `package.module:function`, or a function.
        prescribed: the `preprocess_input` that belongs to a `keras.applications` factory.
        channels: C of the classifier's input.

    Raises:
        OptionError: there is no such mode, or it does not fit the number of channels.
        LoadError: `package.module:function` does not exist.
    """
    if asked is None:
        return Preprocessing("none", MODES["none"]) if prescribed is None else _recognise(prescribed)
    if callable(asked):
        return Preprocessing(f"{asked.__module__}:{asked.__qualname__}", asked)
    if ":" in asked:
        return Preprocessing(asked, import_object(asked))
    if asked not in MODES:
        raise OptionError(
            f"preprocessing must be one of {', '.join(MODES)}, or package.module:function; got {asked!r}."
        )
    if asked in _RGB_MODES and channels != 3:
        raise OptionError(f"preprocessing {asked!r} is for RGB images; this classifier takes {channels} channels.")
    return Preprocessing(asked, MODES[asked])


def _recognise(function: Preprocess) -> Preprocessing:
    """Name `function` by the mode it computes; Keras does not publish which mode an application uses."""
    probe = np.linspace(0, 255, 2 * 3 * 3, dtype=np.float32).reshape(1, 2, 3, 3)
    wanted = np.asarray(function(probe.copy()))
    for name, mode in MODES.items():
        if np.allclose(mode(probe), wanted, rtol=0, atol=1e-4):
            return Preprocessing(name, mode)
    return Preprocessing(f"{function.__module__}:{function.__qualname__}", function)
