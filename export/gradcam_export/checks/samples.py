"""Inputs to verify with: the user's own images, or synthetic ones with shapes and colours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gradcam_export.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = np.ndarray[Any, Any]

COUNT = 4
"""Images a version is verified with, each for two classes."""

_MODES = {1: "L", 3: "RGB"}


def verification_inputs(specs: Sequence[Mapping[str, Any]], folder: str | Path | None) -> dict[str, Array]:
    """Return values `[B,...]` for each input of the signatures.

    Args:
        specs: `name`, `shape` and `dtype` of each input, the one that is explained first.
        folder: holds image files for that one; the others get synthetic values.

    Raises:
        OptionError: `folder` holds no readable image, or the classifier takes none that files hold.
    """
    main, *others = specs
    if folder is None:
        values = {main["name"]: _synthetic(main)}
    elif main["dtype"] != "uint8":
        raise OptionError(
            f"{folder}: this classifier takes {main['dtype']} {main['shape']}, which no image file holds."
        )
    else:
        values = {main["name"]: _images_in(Path(folder), main["shape"])}
    count = len(values[main["name"]])
    return values | {one["name"]: _synthetic(one)[:count] for one in others}


def _images_in(folder: Path, shape: Sequence[int]) -> Array:
    height, width, channels = shape
    images: list[Array] = []
    for path in sorted(folder.iterdir()):
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert(_MODES[channels])
        except (UnidentifiedImageError, OSError):
            continue
        resized = upright.resize((width, height), Image.Resampling.BILINEAR)
        images.append(np.asarray(resized).reshape(shape))
        if len(images) == COUNT:
            break
    if not images:
        raise OptionError(f"{folder}: no readable image among its files.")
    return np.stack(images)


def _synthetic(spec: Mapping[str, Any]) -> Array:
    random = np.random.default_rng(0)
    shape = tuple(spec["shape"])
    if spec["dtype"] == "uint8":
        return _clouds(shape, random)
    if spec["dtype"] == "int32":
        # Of tokens no more is known than that there are two.
        return random.integers(0, 2, (COUNT, *shape), np.int32)
    return random.standard_normal((COUNT, *shape)).astype(np.float32)


def _clouds(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Coloured clouds of growing detail: structure at several scales, other values in each image."""
    height, width, channels = shape
    images = np.empty((COUNT, *shape), np.uint8)
    for index in range(COUNT):
        cells = 3 * 2**index
        for channel in range(channels):
            cloud = Image.fromarray(random.integers(0, 256, (cells, cells), np.uint8))
            images[index, :, :, channel] = np.asarray(cloud.resize((width, height), Image.Resampling.BICUBIC))
    return images
