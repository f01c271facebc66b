"""Image files as a version takes them: the same pixels that the client sends for the same file."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from gradcam_export.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Array = np.ndarray[Any, Any]

SUFFIXES: Final = frozenset(
    {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What counts as an image in a folder."""

_CHANNELS: Final = (1, 3)
_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on files that are cut off, altered or far too large.
_BROKEN: Final = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error),
    Image.DecompressionBombError,
)


def image_files(folder: str | Path) -> list[Path]:
    """Return the image files in `folder` and the folders in it, sorted by their paths.

    Raises:
        OptionError: `folder` is none, or holds no image file.
    """
    root = Path(folder)
    if not root.is_dir():
        raise OptionError(f"{root}: is no folder of images.")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise OptionError(f"{root}: no image among its files ({' '.join(sorted(SUFFIXES))}).")
    return found


def check_takes_pictures(input_facts: Mapping[str, Any]) -> None:
    """Refuse a classifier whose input no image file holds.

    Args:
        input_facts: the manifest's `input`: `shape` and `dtype`.

    Raises:
        OptionError: it takes something else than uint8 `[H,W,1]` or `[H,W,3]`.
    """
    shape, dtype = input_facts["shape"], input_facts["dtype"]
    if dtype != "uint8" or len(shape) != 3 or shape[2] not in _CHANNELS:
        raise OptionError(f"this classifier takes {dtype} {shape}, which no image file holds.")


def read_pixels(path: Path, input_facts: Mapping[str, Any]) -> Array:
    """Read one image file as a classifier takes it: upright, 8-bit RGB or grey, stretched bilinearly to its size.

    Args:
        path: the file.
        input_facts: the manifest's `input`: `shape` `[H,W,C]` and `dtype`.

    Returns:
        `[H,W,C]` uint8.

    Raises:
        OptionError: the file cannot be read as an image, or the classifier takes none.
    """
    return fit(read_picture(path), input_facts)


def fit(picture: Image.Image, input_facts: Mapping[str, Any]) -> Array:
    """Bring a picture to what a classifier takes: RGB or grey, stretched bilinearly to its size.

    Args:
        picture: upright, of mode RGB.
        input_facts: the manifest's `input`: `shape` `[H,W,C]` and `dtype`.

    Returns:
        `[H,W,C]` uint8.

    Raises:
        OptionError: the classifier takes no pictures.
    """
    check_takes_pictures(input_facts)
    height, width, channels = input_facts["shape"]
    flat = picture.convert("L") if channels == 1 else picture
    # In one call Pillow would choose itself which axis it takes first (13); the served graph takes the width.
    narrow = flat.resize((width, flat.height), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR)).reshape(height, width, channels)


def read_picture(path: Path) -> Image.Image:
    """Read one image file in its own size: upright, 8-bit RGB; alpha dropped, of 16 bits the high byte.

    Raises:
        OptionError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            picture = _rgb(image, path)
            # After its pixels are loaded: loading a TIFF turns it and takes the orientation away (Pillow 13).
            orientation = image.getexif().get(_ORIENTATION_TAG)
    except OptionError:
        raise
    except UnidentifiedImageError as error:
        raise OptionError(f"{path}: is not an image that Pillow can read.") from error
    except _BROKEN as error:
        raise OptionError(f"{path}: cannot be read as an image: {error}") from error
    return picture.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else picture


def batches(paths: Sequence[Path], input_facts: Mapping[str, Any], size: int) -> Iterator[tuple[list[Path], Array]]:
    """Read image files batch by batch.

    Args:
        paths: the files.
        input_facts: the manifest's `input`: `shape` `[H,W,C]` and `dtype`.
        size: the most images in a batch, at least 1.

    Yields:
        The files of one batch, and their pixels `[B,H,W,C]` uint8.

    Raises:
        OptionError: as `read_pixels`.
    """
    for start in range(0, len(paths), size):
        files = list(paths[start : start + size])
        yield files, np.stack([read_pixels(path, input_facts) for path in files])


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode in {"P", "PA"}:
        # Straight to RGB, Pillow warns about a palette whose transparency is given in bytes.
        return image.convert("RGBA").convert("RGB")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow's own conversion clips: everything above 255 would be white.
        return Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise OptionError(f"{path}: has pixels of 32 bits (mode {image.mode}), whose white is unknown; make it 8-bit.")
    return image.convert("RGB")
