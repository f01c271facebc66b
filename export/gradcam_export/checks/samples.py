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


def verification_inputs(
    specs: Sequence[Mapping[str, Any]], folder: str | Path | None, count: int = COUNT
) -> dict[str, Array]:
    """Return values `[B,...]` for each input of the signatures.

    Args:
        specs: `name`, `shape` and `dtype` of each input, the one that is explained first.
        folder: holds image files for that one, which are taken from all over it: often its parts are classes; the
            others get synthetic values.
        count: how many; fewer where the folder holds no more that can be read.

    Raises:
        OptionError: `folder` holds no readable image, or the classifier takes none that files hold.
    """
    main, *others = specs
    explained = _synthetic(main, count) if folder is None else _images_in(Path(folder), main, count)
    return {main["name"]: explained} | {one["name"]: _synthetic(one, len(explained)) for one in others}


def _images_in(folder: Path, spec: Mapping[str, Any], count: int) -> Array:
    check_takes_pictures(spec)
    images: list[Array] = []
    paths = image_files(folder)
    step = max(1, len(paths) // count)
    for path in (path for start in range(step) for path in paths[start::step]):
        try:
            images.append(read_pixels(path, spec))
        except OptionError:
            continue
        if len(images) == count:
            break
    if not images:
        raise OptionError(f"{folder}: no readable image among its files.")
    return np.stack(images)


def _synthetic(spec: Mapping[str, Any], count: int) -> Array:
    random = np.random.default_rng(0)
    shape = tuple(spec["shape"])
    if spec["dtype"] == "uint8":
        return _clouds((count, *shape), random)
    if spec["dtype"] == "int32":
        # Of tokens no more is known than that there are two.
        return random.integers(0, 2, (count, *shape), np.int32)
    return random.standard_normal((count, *shape)).astype(np.float32)


def _clouds(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Coloured clouds of growing detail: structure at several scales, other values in each image."""
    count, height, width, channels = shape
    images = np.empty(shape, np.uint8)
    for index in range(count):
        cells = 3 * 2 ** (index % COUNT)
        for channel in range(channels):
            cloud = Image.fromarray(random.integers(0, 256, (cells, cells), np.uint8))
            images[index, :, :, channel] = np.asarray(cloud.resize((width, height), Image.Resampling.BICUBIC))
    return images
