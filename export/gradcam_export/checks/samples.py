"""Inputs to verify with: the user's own images, or synthetic ones with shapes and colours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gradcam_export.checks.pictures import check_takes_pictures, image_files, read_pixels
from gradcam_export.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = np.ndarray[Any, Any]

COUNT = 4
"""Images a version is verified with, each for two classes."""


def verification_inputs(specs: Sequence[Mapping[str, Any]], folder: str | Path | None) -> dict[str, Array]:
    """Return values `[B,...]` for each input of the signatures.

    Args:
        specs: `name`, `shape` and `dtype` of each input, the one that is explained first.
        folder: holds image files for that one, of which the first that can be read are taken; the others get
            synthetic values.

    Raises:
        OptionError: `folder` holds no readable image, or the classifier takes none that files hold.
    """
    main, *others = specs
    explained = _synthetic(main) if folder is None else _images_in(Path(folder), main)
    count = len(explained)
    return {main["name"]: explained} | {one["name"]: _synthetic(one)[:count] for one in others}


def _images_in(folder: Path, spec: Mapping[str, Any]) -> Array:
    check_takes_pictures(spec)
    images: list[Array] = []
    for path in image_files(folder):
        try:
            images.append(read_pixels(path, spec))
        except OptionError:
            continue
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
