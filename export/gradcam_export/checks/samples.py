"""Images to verify with: the user's own, or synthetic ones with shapes and colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gradcam_export.errors import OptionError

COUNT = 4
"""Images a version is verified with, each for two classes."""

_MODES = {1: "L", 3: "RGB"}


def verification_images(input_shape: tuple[int, int, int], folder: str | Path | None) -> np.ndarray[Any, Any]:
    """Return uint8 images `[B,H,W,C]`, from `folder` where there is one.

    Args:
        input_shape: `(H, W, C)`.
        folder: holds image files.

    Raises:
        OptionError: `folder` holds no readable image, or the classifier's images have no files (C is not 1 or 3).
    """
    if folder is None:
        return _synthetic(input_shape)
    height, width, channels = input_shape
    if channels not in _MODES:
        raise OptionError(f"{folder}: images of {channels} channels cannot be read from image files.")
    images: list[np.ndarray[Any, Any]] = []
    for path in sorted(Path(folder).iterdir()):
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert(_MODES[channels])
        except (UnidentifiedImageError, OSError):
            continue
        resized = upright.resize((width, height), Image.Resampling.BILINEAR)
        images.append(np.asarray(resized).reshape(input_shape))
        if len(images) == COUNT:
            break
    if not images:
        raise OptionError(f"{folder}: no readable image among its files.")
    return np.stack(images)


def _synthetic(input_shape: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """Coloured clouds of growing detail: structure at several scales, other values in each image."""
    height, width, channels = input_shape
    random = np.random.default_rng(0)
    images = np.empty((COUNT, *input_shape), np.uint8)
    for index in range(COUNT):
        cells = 3 * 2**index
        for channel in range(channels):
            cloud = Image.fromarray(random.integers(0, 256, (cells, cells), np.uint8))
            images[index, :, :, channel] = np.asarray(cloud.resize((width, height), Image.Resampling.BICUBIC))
    return images
